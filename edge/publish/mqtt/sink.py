"""The MQTT sink: files messages and keeps a connection, for as long as that takes.

One thread owns the connection; `MqttSink.send` only files what it is given. Three kinds of messages are kept apart:

- events go through the outbox, in order, until the broker acknowledged them. What was not sent while it was live, or
  not acknowledged by a connection that ended, goes to ``…/history``.
- retained topics keep only their newest value, which is sent again after each reconnect; ``online`` follows them.
- telemetry is for whoever listens now: only the newest waits, nothing is kept while there is no connection.

A retained topic never overtakes a live event that was sent before it; both may overtake history
(`edge.publish.mqtt.session`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edge.config.schema import Config, MqttConfig
from edge.publish.base import Message, RequestHandler
from edge.publish.mqtt.archive import Archive
from edge.publish.mqtt.backoff import Backoff, VersionChoice
from edge.publish.mqtt.connection import (
    CONNECT_TIMEOUT_S,
    ConnectError,
    Connection,
    Identity,
    Limits,
    Wake,
    port_of,
)
from edge.publish.mqtt.credentials import check_credentials
from edge.publish.mqtt.homeassistant import Announcement, Discovery
from edge.publish.mqtt.mailbox import AVAILABILITY, Mailbox
from edge.publish.mqtt.owned import OwnedTopics
from edge.publish.mqtt.session import Session, Station, Tally
from edge.publish.outbox.base import Bounds, Outbox, StoredEvent
from edge.publish.outbox.memory import MemoryOutbox
from edge.publish.outbox.sqlite import SqliteOutbox
from edge.publish.outbox.sqlite_file import take_over
from edge.publish.payloads import EventPayload, InfoPayload, ResponsePayload
from edge.publish.topics import REQUEST_FILTERS, TOPICS, Delivery

log = logging.getLogger(__name__)

STABLE_S: Final = 30.0
"""A connection that lasted so long was a good one: the next backoff starts small again."""
STORE_TIMEOUT_S: Final = 0.5
"""At a stop, the least that the outbox' disk gets, whatever the network took."""
_BRIEF_MAX: Final = 2
TWIN_TOLD_S: Final = 300.0
"""For so long after another client threw us out that is a problem: of two, each is told while it is connected."""
STOP_CONNECTIONS: Final = 2
"""Made at most after `MqttSink.stop`: a broker that hangs up must not be called a thousand times in the last second."""
_FAREWELL_SHARE: Final = 0.25
"""Of the time to stop, what is kept for the goodbye."""


class MqttSink:
    """Publishes to a broker that may be away, now or always.

    Args:
        config: the broker.
        device: second part of the base topic.
        camera: third part of the base topic.
        discovery: how Home Assistant is told of the camera; None: it is not.
        owned: what earlier starts left on the broker; what is not so any more is cleared.
        outbox: where events wait; None for one in memory.
        backoff: waits between attempts; None: as configured.
        connect_timeout_s: patience with a peer that does not answer.
        clock_ns: the monotonic clock that `Message.live_until_ns` refers to.
    """

    def __init__(
        self,
        config: MqttConfig,
        *,
        device: str,
        camera: str,
        discovery: Discovery | None = None,
        owned: OwnedTopics | None = None,
        outbox: Outbox | None = None,
        backoff: Backoff | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._config = config
        self._client_id = config.make_client_id(device, camera)
        base = config.base_topic(device, camera)
        self._mailbox = Mailbox()
        self._owned = owned or OwnedTopics()
        self._outbox: Outbox = outbox if outbox is not None else MemoryOutbox(_bounds(config), clock_ns=clock_ns)
        self._tally = Tally()
        self._wake = Wake()
        self._station = Station(
            base=base,
            mailbox=self._mailbox,
            outbox=self._outbox,
            announcement=Announcement(discovery, self._owned, self._mailbox, base=base),
            tally=self._tally,
            wake=self._wake,
            clock_ns=clock_ns,
            expiry_s=config.expiry_s,
            archive=Archive(_kept(config)) if config.history else None,
            patience_s=config.keepalive_s,
        )
        self._backoff = backoff or Backoff(cap_s=config.retry_max_s)
        self._versions = VersionChoice(config.version)
        self._limits = Limits()
        self._twin_until_ns = 0
        self._connect_timeout_s = connect_timeout_s
        self._clock_ns = clock_ns
        self._brief_connections = 0
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._stop_at_ns: int | None = None
        self._reserve_ns = 0
        self._status = "not started"
        self._on_request: RequestHandler | None = None

    def start(self) -> None:
        """Connect in the background, for as long as it takes.

        Raises:
            ConfigError: password or certificates cannot be read or used.
        """
        check_credentials(self._config)
        self._station.announcement.start()
        self._outbox.open()
        self._thread.start()

    def listen(self, handler: RequestHandler) -> None:
        """Subscribe to requests, if the configuration wants that; see `edge.publish.base.RequestSource`."""
        if self._config.requests:
            self._on_request = handler

    def send(self, message: Message) -> None:
        """File one message; see `edge.publish.base.Sink.send`."""
        payload = message.payload
        if isinstance(payload, InfoPayload):
            self._outbox.begin(payload.boot_id)
            self._station.announcement.announce(payload)
        if isinstance(payload, EventPayload):
            self._outbox.put(StoredEvent(payload.boot_id, payload.seq, message.live_until_ns, message.data))
        elif isinstance(payload, ResponsePayload):
            self._mailbox.responses.append((f"response/{payload.verb}", message.data, message.reply))
        elif TOPICS[message.kind].delivery is Delivery.LATEST:
            self._mailbox.retain(message.kind, message.data)
        else:
            self._mailbox.put_telemetry(message.kind, message.data)
        self._wake.set()

    def stop(self, *, timeout_s: float) -> None:
        """Send what waits, then ``offline``, and disconnect; gives up after ``timeout_s`` seconds.

        A broker that is away is tried once more if events wait. A connection that could not say ``offline`` ends
        without a goodbye, so that the broker says ``offline``.
        """
        if not self._thread.ident:
            return
        self._reserve_ns = int(timeout_s * 1e9 * _FAREWELL_SHARE)
        self._stop_at_ns = self._clock_ns() + int(timeout_s * 1e9)
        self._wake.set()
        self._thread.join(timeout_s + 0.2)
        if self._thread.is_alive():
            log.warning("mqtt: %s; gave up after %g s", self._status, timeout_s)
        left_s = (self._stop_at_ns - self._clock_ns()) / 1e9
        self._outbox.close(timeout_s=max(left_s, STORE_TIMEOUT_S))
        self._owned.close()
        if len(self._outbox):
            log.warning("mqtt: %d messages were not delivered", len(self._outbox))

    def status(self) -> str:
        """Say for people what the connection is up to."""
        return "; ".join([self._status, *self.problems()])

    def problems(self) -> list[str]:
        """See `edge.publish.base.Sink.problems`; a connection that is away can only be told by `status`."""
        refusals = [f"{topic} refused: {reason}" for topic, reason in list(self._tally.refusals.items())]
        twin = ""
        if self._clock_ns() < self._twin_until_ns:
            twin = f"another client calls itself {self._client_id}: they throw each other out"
        return [*refusals, *self._limits.problems(), *filter(None, [twin, self._outbox.status()])]

    def previous(self) -> tuple[str, int] | None:
        """See `edge.publish.base.Sink.previous`."""
        return self._outbox.previous()

    def counts(self) -> dict[str, int]:
        """Return the counters: ``queued`` now; since the start ``sent`` (events acknowledged), ``dropped`` (events,
        told as gaps), ``refused`` (messages), ``skipped`` (telemetry that nobody waited for), ``reconnects``."""
        return self._outbox.counts() | {
            "sent": self._tally.sent_events,
            "refused": self._tally.refused,
            "skipped": self._mailbox.skipped,
            "reconnects": max(0, self._tally.connects - 1),
        }

    # What follows runs in the network thread.

    def _run(self) -> None:
        self._set_status("connecting")
        left = STOP_CONNECTIONS
        while self._stop_at_ns is None or (left and len(self._outbox) and not self._is_over()):
            left -= self._stop_at_ns is not None
            connection = self._connect()
            if connection is not None:
                self._serve(connection)
            elif self._stop_at_ns is not None:
                break
            if self._stop_at_ns is None:
                self._pause(self._backoff.next_s())
        self._set_status("stopped")

    def _is_over(self, *, reserve_ns: int = 0) -> bool:
        return self._stop_at_ns is not None and self._clock_ns() >= self._stop_at_ns - reserve_ns

    def _pause(self, delay_s: float) -> None:
        end_ns = self._clock_ns() + int(delay_s * 1e9)
        while self._stop_at_ns is None and (left_ns := end_ns - self._clock_ns()) > 0:
            self._wake.wait(left_ns / 1e9)
            self._wake.clear()

    def _connect(self) -> Connection | None:
        base = self._station.base
        levels = REQUEST_FILTERS if self._on_request is not None else ("request/history",) * self._config.history
        requests = tuple(f"{base}/{level}" for level in levels)
        identity = Identity(
            client_id=self._client_id,
            will_topic=f"{base}/{AVAILABILITY}",
            subscriptions=(*self._station.announcement.subscriptions, *requests),
        )
        connection = Connection(self._config, identity=identity, version=self._versions.version, limits=self._limits)
        try:
            connection.open(
                wake=self._wake,
                give_up=lambda: self._stop_at_ns is not None and (not len(self._outbox) or self._is_over()),
                timeout_s=self._connect_timeout_s,
            )
        except ConnectError as error:
            self._brief_connections = 0
            self._set_status(error.problem, logging.WARNING)
            self._versions.failed(error)
            return None
        self._versions.succeeded()
        return connection

    def _serve(self, connection: Connection) -> None:
        began_ns = self._clock_ns()
        session = Session(connection, self._station, on_request=self._on_request)
        self._set_status(f"connected (MQTT {self._versions.version})")
        while connection.closed is None and not self._may_leave(session):
            session.exchange(timeout_s=self._patience_s())
        if connection.closed is None:
            session.say_goodbye(is_over=self._is_over, timeout_s=self._patience_s)
        reason = connection.closed
        session.end()
        self._judge(connection, reason, lasted_s=(self._clock_ns() - began_ns) / 1e9)

    def _judge(self, connection: Connection, reason: str | None, *, lasted_s: float) -> None:
        """Say why a connection ended; brief ones again and again are another client of our name."""
        self._brief_connections = 0 if lasted_s >= STABLE_S else self._brief_connections + 1
        if not self._brief_connections:
            self._backoff.reset()
        if self._stop_at_ns is None:
            hint = ""
            seems_taken_over = self._brief_connections > _BRIEF_MAX and not connection.explained
            if connection.taken_over or seems_taken_over:
                self._twin_until_ns = self._clock_ns() + int(TWIN_TOLD_S * 1e9)
            if seems_taken_over:
                hint = f" again and again: does another client call itself {self._client_id}?"
            self._set_status(f"{reason}{hint}", logging.WARNING)

    def _patience_s(self) -> float:
        """How long to wait for the network or a new message; paho's keepalive is checked at each turn."""
        if self._stop_at_ns is None:
            return 1.0
        return min(1.0, max(0.01, (self._stop_at_ns - self._clock_ns()) / 1e9))

    def _may_leave(self, session: Session) -> bool:
        """After `stop`: everything is sent and acknowledged, or only the time for a goodbye is left."""
        return self._stop_at_ns is not None and (session.is_idle or self._is_over(reserve_ns=self._reserve_ns))

    def _set_status(self, status: str, level: int = logging.INFO) -> None:
        if status != self._status:
            self._status = status
            log.log(level, "mqtt: %s:%s %s", self._config.host, port_of(self._config), status)


def make_sink(config: Config, *, file: str = "configuration") -> MqttSink:
    """The sink that a configuration describes, not yet started; ``file`` is where it comes from."""
    folder, camera = config.mqtt.state_folder, config.camera.name
    owned = OwnedTopics.load(folder, camera=camera, owner=owner_of(config.mqtt, file))
    return MqttSink(
        config.mqtt,
        device=config.device_name,
        camera=camera,
        discovery=Discovery.of(config, identity=owned.identity) if config.homeassistant.enabled else None,
        owned=owned,
        outbox=_make_outbox(config.mqtt, folder, camera=camera, former=[each.camera for each in owned.former]),
    )


def owner_of(config: MqttConfig, file: str) -> str:
    """Whose lists of topics in the state folder are ours: all of a service's own folder, else those of one file."""
    return os.path.realpath(file) if config.outbox_dir else ""


def _make_outbox(config: MqttConfig, folder: Path | None, *, camera: str, former: Sequence[str]) -> Outbox:
    """On disk where there is a folder, else in memory."""
    if folder is None:
        log.info("mqtt: events wait in memory only: neither mqtt.outbox_dir nor STATE_DIRECTORY is set")
        return MemoryOutbox(_bounds(config))
    # The camera's name has no slash: each camera has its own file where the folder is shared.
    path = outbox_path(folder, camera)
    for name in former:
        take_over(outbox_path(folder, name), path)
    return SqliteOutbox(path, _bounds(config), commit_s=config.outbox_commit_s)


def outbox_path(folder: Path, camera: str) -> Path:
    """Return where the events of a camera wait."""
    return folder / f"outbox-{camera}.db"


def _kept(config: MqttConfig) -> Bounds:
    return Bounds(config.queue_max, config.queue_max_bytes, config.keep_h * 3600)


def _bounds(config: MqttConfig) -> Bounds:
    return Bounds(config.queue_max, config.queue_max_bytes, config.queue_max_age_h * 3600)
