"""The MQTT sink: topics, order and recovery. Network: `…mqtt.connection`, storage: `edge.publish.outbox`.

One thread owns the connection; `MqttSink.send` only files what it is given. Three kinds of messages are kept apart:

- events go through the outbox, in order, until the broker acknowledged them. What was not sent while it was live, or
  not acknowledged by a connection that ended, goes to ``…/history``.
- retained topics keep only their newest value, which is sent again after each reconnect; ``online`` follows them.
- telemetry is for whoever listens now: only the newest waits, nothing is kept while there is no connection.

A retained topic never overtakes a live event that was sent before it; both may overtake history.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge.config.schema import Config, MqttConfig
from edge.publish.base import Message, RequestHandler
from edge.publish.encode import as_history, encode
from edge.publish.mqtt.connection import (
    CONNECT_TIMEOUT_S,
    Acknowledgement,
    ConnectError,
    Connection,
    Identity,
    Version,
    Wake,
    port_of,
)
from edge.publish.mqtt.credentials import check_credentials
from edge.publish.mqtt.homeassistant import BIRTH, Discovery, DiscoveryNote
from edge.publish.outbox.base import Bounds, Gap, Outbox, Record, StoredEvent
from edge.publish.outbox.memory import MemoryOutbox
from edge.publish.outbox.sqlite import SqliteOutbox
from edge.publish.payloads import EventPayload, GapPayload, InfoPayload, ResponsePayload
from edge.publish.topics import TOPICS
from edge.system.files import state_directory

log = logging.getLogger(__name__)

AVAILABILITY: Final = "availability"
RETAINED: Final = (
    *(name for name, topic in TOPICS.items() if topic.is_retained and name != AVAILABILITY),
    *("withdrawal", "discovery"),
)
"""In the order in which they are sent after a connect."""
EVENT_EXPIRY_S: Final = 60
RESPONSES_WAITING: Final = 64
"""Answers to requests that were not sent yet; of more than that the oldest are forgotten."""
STABLE_S: Final = 30.0
"""A connection that lasted so long was a good one: the next backoff starts small again."""
STORE_TIMEOUT_S: Final = 0.5
"""At a stop, the least that the outbox' disk gets, whatever the network took."""
_PACKET_OVERHEAD_BYTES: Final = 64
_UNANSWERED_MAX: Final = 2
_BRIEF_MAX: Final = 2
_FAREWELL_SHARE: Final = 0.25
"""Of the time to stop, what is kept for the goodbye."""


class Backoff:
    """Waits between attempts: uniform in 0..min(cap, base · 2^n), "full jitter".

    Source: M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015.

    Args:
        base_s: bound of the first wait.
        cap_s: bound of all waits.
        rng: source of randomness.
    """

    def __init__(self, *, base_s: float = 1.0, cap_s: float = 60.0, rng: random.Random | None = None) -> None:
        self._base_s, self._cap_s = base_s, cap_s
        self._rng = rng or random.Random()
        self._failures = 0

    def next_s(self) -> float:
        """The next wait in seconds."""
        bound_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._rng.uniform(0.0, bound_s)

    def reset(self) -> None:
        """Starts over after a success."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message of QoS 1 on its way; the topic is below the base topic where it can be."""

    topic: str
    record: Record | None
    sent_ns: int


class MqttSink:
    """Publishes to a broker that may be away, now or always.

    Args:
        config: the broker.
        device: second part of the base topic.
        camera: third part of the base topic.
        discovery: how Home Assistant is told of the camera; None: it is not.
        note: remembers where it was told; what is not so any more is taken back.
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
        note: DiscoveryNote | None = None,
        outbox: Outbox | None = None,
        backoff: Backoff | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._config = config
        self._base = config.base_topic(device, camera)
        self._availability = f"{self._base}/{AVAILABILITY}"
        self._discovery, self._note = discovery, note or DiscoveryNote(None)
        self._withdrawn_topic: str | None = None
        self._births = 0
        self._identity = Identity(
            client_id=f"mien-{device}-{camera}",
            will_topic=self._availability,
            subscriptions=(discovery.config.status_topic,) if discovery else (),
        )
        self._outbox: Outbox = outbox if outbox is not None else MemoryOutbox(_bounds(config), clock_ns=clock_ns)
        self._backoff = backoff or Backoff(cap_s=config.retry_max_s)
        self._connect_timeout_s = connect_timeout_s
        self._clock_ns = clock_ns
        self._version: Version = "3.1.1" if config.version == "3.1.1" else "5"
        self._unanswered = 0
        self._speaks_5 = False
        self._brief_connections = 0
        self._wake = Wake()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._stop_at_ns: int | None = None
        self._reserve_ns = 0
        self._status = "not started"
        self._connects = self._sent_events = self._refused = self._skipped = 0
        self._refusals: dict[str, str] = {}
        self._lock = threading.Lock()  # guards the three dictionaries below
        self._latest: dict[str, bytes] = {}
        self._dirty: dict[str, None] = {}
        self._telemetry: dict[str, bytes] = {}
        self._on_request: RequestHandler | None = None
        self._responses: deque[tuple[str, bytes]] = deque(maxlen=RESPONSES_WAITING)
        self._online = False
        self._in_flight: dict[int, _Sent] = {}

    def start(self) -> None:
        """Connects in the background, for as long as it takes.

        Raises:
            ConfigError: password or certificates cannot be read or used.
        """
        check_credentials(self._config)
        told = self._note.read()
        if told is not None and (self._discovery is None or told != self._discovery.topic):
            self._withdrawn_topic = told
            self._retain("withdrawal", b"")
        self._outbox.open()
        self._thread.start()

    def listen(self, handler: RequestHandler) -> None:
        """Subscribes to requests, if the configuration wants that; see `edge.publish.base.RequestSource`."""
        if self._config.requests:
            self._on_request = handler
            subscriptions = (*self._identity.subscriptions, f"{self._base}/request/+")
            self._identity = replace(self._identity, subscriptions=subscriptions)

    def send(self, message: Message) -> None:
        """Files one message; see `edge.publish.base.Sink.send`."""
        payload = message.payload
        if isinstance(payload, InfoPayload):
            self._outbox.begin(payload.boot_id)
            if self._discovery is not None:
                self._retain("discovery", self._discovery.encode(payload))
        if isinstance(payload, EventPayload):
            self._outbox.put(StoredEvent(payload.boot_id, payload.seq, message.live_until_ns, message.data))
        elif isinstance(payload, ResponsePayload):
            self._responses.append((f"response/{payload.verb}", message.data))
        elif message.kind in RETAINED:
            self._retain(message.kind, message.data)
        else:
            with self._lock:
                self._skipped += message.kind in self._telemetry or not self._online
                if self._online:
                    self._telemetry[message.kind] = message.data
        self._wake.set()

    def _retain(self, kind: str, data: bytes) -> None:
        with self._lock:
            self._latest[kind] = data
            self._dirty.setdefault(kind)

    def stop(self, *, timeout_s: float) -> None:
        """Sends what waits, then ``stopped``, and disconnects; gives up after ``timeout_s`` seconds.

        A broker that is away is tried once more if events wait. A connection that could not say ``stopped`` ends
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
        if len(self._outbox):
            log.warning("mqtt: %d messages were not delivered", len(self._outbox))

    def status(self) -> str:
        """What the connection is up to, for people."""
        return "; ".join([self._status, *self.problems()])

    def problems(self) -> list[str]:
        """See `edge.publish.base.Sink.problems`; a connection that is away can only be told by `status`."""
        refusals = [f"{topic} refused: {reason}" for topic, reason in list(self._refusals.items())]
        return [*refusals, *filter(None, [self._outbox.status()])]

    def previous(self) -> tuple[str, int] | None:
        """See `edge.publish.base.Sink.previous`."""
        return self._outbox.previous()

    def counts(self) -> dict[str, int]:
        """Counters: ``queued`` now; since the start ``sent`` (events acknowledged), ``dropped`` (events, told as
        gaps), ``refused`` (messages), ``skipped`` (telemetry that nobody waited for), ``reconnects``."""
        return self._outbox.counts() | {
            "sent": self._sent_events,
            "refused": self._refused,
            "skipped": self._skipped,
            "reconnects": max(0, self._connects - 1),
        }

    # What follows runs in the network thread.

    def _run(self) -> None:
        self._set_status("connecting")
        while self._stop_at_ns is None or (len(self._outbox) and not self._is_over()):
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
        connection = Connection(self._config, identity=self._identity, version=self._version)
        try:
            connection.open(
                wake=self._wake,
                give_up=lambda: self._stop_at_ns is not None and (not len(self._outbox) or self._is_over()),
                timeout_s=self._connect_timeout_s,
            )
        except ConnectError as error:
            self._brief_connections = 0
            self._set_status(error.problem, logging.WARNING)
            self._choose_version(error)
            return None
        self._unanswered = 0
        self._speaks_5 = self._speaks_5 or self._version == "5"
        return connection

    def _choose_version(self, error: ConnectError) -> None:
        """``auto``: from 5 to 3.1.1 once 5 is refused, and back if 3.1.1 fares no better.

        An old broker may refuse by hanging up, or misread CONNECT and wait for more of it for ever: two of these in a
        row count as a refusal. Not of a broker that took 5 before: it is ill, not old.
        """
        if self._config.version != "auto" or error.trouble not in ("version", "closed", "no_answer"):
            return
        if self._speaks_5 and error.trouble != "version":
            return
        self._unanswered += 1
        if self._version == "3.1.1":
            self._version, self._unanswered = "5", 0
        elif error.trouble == "version" or self._unanswered >= _UNANSWERED_MAX:
            log.info("mqtt: trying MQTT 3.1.1")
            self._version, self._unanswered = "3.1.1", 0

    def _serve(self, connection: Connection) -> None:
        began_ns = self._clock_ns()
        self._begin()
        while connection.closed is None and not self._may_leave():
            self._pump(connection)
            self._settle(connection.poll(wake=self._wake, timeout_s=self._patience_s()))
            self._wake.clear()
            for topic, data in connection.take_received():
                self._receive(topic, data)
            self._check_acknowledgements(connection)
        if connection.closed is None:
            self._take_leave(connection)
        self._end(connection, lasted_s=(self._clock_ns() - began_ns) / 1e9)

    def _receive(self, topic: str, data: bytes) -> None:
        if self._discovery is not None and topic == self._discovery.config.status_topic:
            if data == BIRTH and "discovery" in self._latest:
                self._births += 1
                if self._births.bit_count() == 1:  # whoever floods us does not flood the log
                    log.info("mqtt: Home Assistant has started (%d): telling it again what there is", self._births)
                self._retain("discovery", self._latest["discovery"])
        elif self._on_request is not None:
            self._on_request(topic.rpartition("/")[2], data)

    def _begin(self) -> None:
        self._connects += 1
        self._refusals.clear()
        self._set_status(f"connected (MQTT {self._version})")
        with self._lock:
            self._dirty = {kind: None for kind in RETAINED if kind in self._latest}

    def _end(self, connection: Connection, *, lasted_s: float) -> None:
        reason = connection.closed
        connection.close()
        with self._lock:
            self._online = False
            self._skipped += len(self._telemetry)
            self._telemetry.clear()
        self._responses.clear()  # who asked over the lost connection does not wait for it any more
        self._in_flight.clear()
        self._outbox.release()
        self._brief_connections = 0 if lasted_s >= STABLE_S else self._brief_connections + 1
        if not self._brief_connections:
            self._backoff.reset()
        if self._stop_at_ns is None:
            hint = ""
            if self._brief_connections > _BRIEF_MAX and not connection.explained:
                hint = f" again and again: does another client call itself {self._identity.client_id}?"
            self._set_status(f"{reason}{hint}", logging.WARNING)

    def _pump(self, connection: Connection) -> None:
        while connection.ready and self._send_next(connection):
            pass

    def _send_next(self, connection: Connection) -> bool:
        """Sends the one message whose turn it is; False when there is none."""
        if len(self._in_flight) >= connection.window:
            return self._send_telemetry(connection)
        retained = self._next_retained()  # looked at before the outbox: whatever came before it is in there by now
        if not self._online and (retained or "state" in self._latest):
            self._introduce(connection, retained)
            return True
        record = self._outbox.take(live_only=retained is not None)
        if record is not None:
            self._send_record(connection, record)
            return True
        if retained is not None:
            self._send_retained(connection, *retained)
            return True
        if self._responses:
            level, data = self._responses.popleft()
            self._publish(connection, f"{self._base}/{level}", data)
            return True
        return self._send_telemetry(connection)

    def _introduce(self, connection: Connection, retained: tuple[str, bytes] | None) -> None:
        """After a connect: first the state, then ``online``."""
        if retained is not None:
            self._send_retained(connection, *retained)
            return
        self._publish(connection, self._availability, b"online", retain=True)
        with self._lock:
            self._online = True

    def _next_retained(self) -> tuple[str, bytes] | None:
        with self._lock:
            return next(((kind, self._latest[kind]) for kind in self._dirty), None)

    def _send_retained(self, connection: Connection, kind: str, data: bytes) -> None:
        with self._lock:
            if self._latest[kind] is data:
                del self._dirty[kind]
        if self._fits(connection, data):
            self._publish(connection, self._topic_of(kind), data, retain=True)

    def _topic_of(self, kind: str) -> str:
        if kind == "discovery" and self._discovery is not None:
            return self._discovery.topic
        if kind == "withdrawal" and self._withdrawn_topic is not None:
            return self._withdrawn_topic
        return f"{self._base}/{kind}"

    def _send_telemetry(self, connection: Connection) -> bool:
        with self._lock:
            if not self._telemetry:
                return False
            kind = next(iter(self._telemetry))
            data = self._telemetry.pop(kind)
        if self._fits(connection, data):
            connection.publish(f"{self._base}/{kind}", data, qos=0, retain=False)
        return True

    def _is_live(self, record: Record) -> bool:
        item = record.item
        return isinstance(item, StoredEvent) and not record.attempted and self._clock_ns() <= item.live_until_ns

    def _send_record(self, connection: Connection, record: Record) -> None:
        item = record.item
        if isinstance(item, Gap):
            gap = GapPayload(
                type="gap", boot_id=item.boot_id, from_seq=item.from_seq, to_seq=item.to_seq, reason=item.reason
            )
            self._publish(connection, f"{self._base}/history", encode(gap), record=record)
        elif not self._fits(connection, item.data):
            self._outbox.lose(record, reason="too_large")
        elif self._is_live(record):
            self._publish(connection, f"{self._base}/event", item.data, record=record, expiry_s=EVENT_EXPIRY_S)
        else:
            self._publish(connection, f"{self._base}/history", as_history(item.data), record=record)

    def _fits(self, connection: Connection, data: bytes) -> bool:
        bound = connection.max_packet_bytes
        fits = bound is None or len(data) + len(self._base) + _PACKET_OVERHEAD_BYTES <= bound
        self._refused += not fits
        return fits

    def _publish(
        self,
        connection: Connection,
        topic: str,
        data: bytes,
        *,
        retain: bool = False,
        record: Record | None = None,
        expiry_s: int | None = None,
    ) -> int:
        mid = connection.publish(topic, data, qos=1, retain=retain, expiry_s=expiry_s)
        self._in_flight[mid] = _Sent(topic.removeprefix(f"{self._base}/"), record, self._clock_ns())
        return mid

    def _settle(self, acknowledgements: list[Acknowledgement]) -> None:
        for acknowledgement in acknowledgements:
            sent = self._in_flight.pop(acknowledgement.mid, None)
            if sent is None:
                continue  # telemetry: paho reports it when it is written
            if acknowledgement.refusal is None:
                self._refusals.pop(sent.topic, None)
                self._note_discovery(sent.topic)
                if sent.record is not None:
                    self._sent_events += isinstance(sent.record.item, StoredEvent)
                    self._outbox.done(sent.record)
            else:
                self._note_refusal(sent, acknowledgement.refusal)

    def _note_discovery(self, topic: str) -> None:
        """The broker has what was sent to a topic: remembers it if it is one of Home Assistant's."""
        if topic == self._withdrawn_topic:
            log.info("mqtt: taken back from Home Assistant: %s", topic)
            with self._lock:
                self._latest.pop("withdrawal", None)
            self._withdrawn_topic = None
            self._note.write(None)
        elif self._discovery is not None and topic == self._discovery.topic and self._withdrawn_topic is None:
            self._note.write(topic)

    def _note_refusal(self, sent: _Sent, reason: str) -> None:
        self._refused += 1
        if sent.topic not in self._refusals:
            log.warning("mqtt: the broker refuses %s: %s", sent.topic, reason)
        self._refusals[sent.topic] = reason
        if sent.record is not None:
            self._outbox.lose(sent.record, reason="refused")

    def _check_acknowledgements(self, connection: Connection) -> None:
        """A broker that answers pings but acknowledges nothing is no broker."""
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is not None and self._clock_ns() - oldest.sent_ns > self._config.keepalive_s * 1e9:
            connection.close()
            connection.closed = f"nothing was acknowledged for {self._config.keepalive_s} s"

    def _patience_s(self) -> float:
        """How long to wait for the network or a new message; paho's keepalive is checked at each turn."""
        if self._stop_at_ns is None:
            return 1.0
        return min(1.0, max(0.01, (self._stop_at_ns - self._clock_ns()) / 1e9))

    def _may_leave(self) -> bool:
        """After `stop`: everything is sent and acknowledged, or only the time for a goodbye is left."""
        if self._stop_at_ns is None:
            return False
        waiting = len(self._outbox) or self._dirty or self._in_flight
        return not waiting or self._is_over(reserve_ns=self._reserve_ns)

    def _take_leave(self, connection: Connection) -> None:
        mid: int | None = None
        while connection.closed is None and not self._is_over():
            if mid is None and connection.ready:
                mid = self._publish(connection, self._availability, b"stopped", retain=True)
            self._settle(connection.poll(wake=self._wake, timeout_s=self._patience_s()))
            self._wake.clear()
            if mid is not None and mid not in self._in_flight:
                connection.close(goodbye=True)

    def _set_status(self, status: str, level: int = logging.INFO) -> None:
        if status != self._status:
            self._status = status
            log.log(level, "mqtt: %s:%s %s", self._config.host, port_of(self._config), status)


def make_sink(config: Config) -> MqttSink:
    """The sink that a configuration describes, not yet started."""
    folder, camera = _state_folder(config.mqtt), config.camera.name
    return MqttSink(
        config.mqtt,
        device=config.device_name,
        camera=camera,
        discovery=Discovery.of(config) if config.homeassistant.enabled else None,
        note=DiscoveryNote(folder / f"homeassistant-{camera}.topic" if folder else None),
        outbox=_make_outbox(config.mqtt, folder, camera=camera),
    )


def _state_folder(config: MqttConfig) -> Path | None:
    """Where to keep what outlives a restart."""
    return Path(config.outbox_dir) if config.outbox_dir else state_directory()


def _make_outbox(config: MqttConfig, folder: Path | None, *, camera: str) -> Outbox:
    """On disk where there is a folder, else in memory."""
    if folder is None:
        log.info("mqtt: events wait in memory only: neither mqtt.outbox_dir nor STATE_DIRECTORY is set")
        return MemoryOutbox(_bounds(config))
    # The camera's name has no slash: each camera has its own file where the folder is shared.
    return SqliteOutbox(folder / f"outbox-{camera}.db", _bounds(config), commit_s=config.outbox_commit_s)


def _bounds(config: MqttConfig) -> Bounds:
    return Bounds(config.queue_max, config.queue_max_bytes, config.queue_max_age_h * 3600)
