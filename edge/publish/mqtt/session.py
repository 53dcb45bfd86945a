"""One connection at work: which message goes next, what the broker acknowledged, and the goodbye."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from edge.publish.base import Reply, RequestHandler
from edge.publish.encode import as_history, encode
from edge.publish.mqtt.archive import RATE_HZ, Archive
from edge.publish.mqtt.connection import Acknowledgement, Connection, Received, Wake
from edge.publish.mqtt.homeassistant import Announcement
from edge.publish.mqtt.mailbox import AVAILABILITY, Mailbox
from edge.publish.outbox.base import Gap, Outbox, Record, StoredEvent
from edge.publish.payloads import GapPayload, InfoPayload

log = logging.getLogger(__name__)

REPLY_TOPIC_MAX: Final = 256
_PACKET_OVERHEAD_BYTES: Final = 64
HOLD_S: Final = (1.0, 60.0)
"""How long history waits after a refusal: at first, and at most; it doubles."""


@dataclass(slots=True)
class Tally:
    """What all connections of a sink came to.

    Attributes:
        connects: connections that the broker accepted.
        sent_events: events that it acknowledged.
        refused: messages that it did not take.
        refusals: topic and reason of what the present connection may not publish.
    """

    connects: int = 0
    sent_events: int = 0
    refused: int = 0
    refusals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message of QoS 1 on its way; the topic is below the base topic where it can be."""

    topic: str
    record: Record | None
    sent_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """What the connections of a sink share.

    Attributes:
        base: base topic.
        mailbox: retained topics, telemetry, answers.
        outbox: events.
        announcement: what Home Assistant is told.
        tally: counts.
        wake: ends a wait for the network.
        clock_ns: monotonic clock.
        expiry_s: what the broker may forget events after, see ``mqtt.expiry_s``.
        archive: acknowledged events, for who asks for them; None: nobody may.
        patience_s: after so long without an acknowledgement the connection is given up.
    """

    base: str
    mailbox: Mailbox
    outbox: Outbox
    announcement: Announcement
    tally: Tally
    wake: Wake
    clock_ns: Callable[[], int]
    expiry_s: int | None
    archive: Archive | None
    patience_s: float


def may_answer_on(topic: str, *, base: str) -> bool:
    """Whether an answer may go to a topic that somebody else chose.

    The broker grants us what it may not grant them: nothing below our base topic but answers, nothing on which a
    camera takes requests or Home Assistant finds devices, and nothing that a broker hangs up on.
    """
    if not topic.isprintable() or len(topic) > REPLY_TOPIC_MAX or topic.startswith("$") or set(topic) & {"+", "#"}:
        return False
    if topic.endswith(("/config", "/active/set")) or "/request/" in topic:
        return False
    return not f"{topic}/".startswith(f"{base}/") or topic.startswith(f"{base}/response/")


class Session:
    """The work of one connection, by one thread: `exchange` until it ends, then `end`.

    Args:
        connection: open.
        station: what outlives the connection.
        on_request: takes the verb and payload of requests; None: nobody asks for them.
    """

    def __init__(self, connection: Connection, station: Station, *, on_request: RequestHandler | None) -> None:
        self._connection = connection
        self._station = station
        self._on_request = on_request
        self._in_flight: dict[int, _Sent] = {}
        self._held_until_ns = 0
        self._hold_s = HOLD_S[0]
        self._replay_due_ns = 0
        station.tally.connects += 1
        station.tally.refusals.clear()
        station.mailbox.begin_connection()

    @property
    def is_idle(self) -> bool:
        """Whether everything that was filed is sent and acknowledged, but for what the broker does not take now."""
        waiting = len(self._station.outbox) and not self._is_held
        return not (waiting or self._station.mailbox.has_retained or self._in_flight)

    @property
    def _is_held(self) -> bool:
        return self._station.clock_ns() < self._held_until_ns

    def exchange(self, *, timeout_s: float) -> None:
        """Send what the socket takes, wait for the network, and handle what came."""
        while self._connection.ready and self._send_next():
            pass
        archive = self._station.archive
        self._poll(min(timeout_s, 1 / RATE_HZ) if archive and archive.replays else timeout_s)
        for each in self._connection.take_received():
            if archive is not None and each.topic == f"{self._station.base}/request/history":
                self._answer_history(archive, each)
            elif not self._station.announcement.receive(each.topic, each.data) and self._on_request is not None:
                verb = "active" if each.topic.endswith("/active/set") else each.topic.rpartition("/")[2]
                self._on_request(verb, each.data, each.reply)
        self._check_acknowledgements()

    def _answer_history(self, archive: Archive, request: Received) -> None:
        told = self._station.mailbox.latest("info")
        if told is None:
            return  # nobody knows yet which start this is
        boot_id = msgspec.json.decode(told, type=InfoPayload).boot_id
        answer = archive.ask(request.data, request.reply, boot_id=boot_id, now_ns=self._station.clock_ns())
        self._station.mailbox.responses.append(("response/history", encode(answer), request.reply))

    def _send_replay(self) -> bool:
        """Send one of the events that somebody asked for; False when there is none, or it is too early."""
        archive, now_ns = self._station.archive, self._station.clock_ns()
        if archive is None or now_ns < self._replay_due_ns or (taken := archive.next_message()) is None:
            return False
        self._replay_due_ns = now_ns + int(1e9 / RATE_HZ)
        reply, data = taken
        self._send_answer("history", data, reply)
        return True

    def say_goodbye(self, *, is_over: Callable[[], bool], timeout_s: Callable[[], float]) -> None:
        """Publish ``offline`` and disconnect; without the acknowledgement in time there is no goodbye."""
        mid: int | None = None
        while self._connection.closed is None and not is_over():
            if mid is None and self._connection.ready:
                mid = self._publish(f"{self._station.base}/{AVAILABILITY}", b"offline", retain=True)
            self._poll(timeout_s())
            if mid is not None and mid not in self._in_flight:
                self._connection.close(goodbye=True)

    def end(self) -> None:
        """Close the connection; what was not acknowledged goes back."""
        self._connection.close()
        self._station.mailbox.end_connection()
        if self._station.archive is not None:
            self._station.archive.replays.clear()
        self._in_flight.clear()
        self._station.outbox.release()

    def _poll(self, timeout_s: float) -> None:
        self._settle(self._connection.poll(wake=self._station.wake, timeout_s=timeout_s))
        self._station.wake.clear()

    def _send_next(self) -> bool:
        """Send the one message whose turn it is; False when there is none."""
        mailbox = self._station.mailbox
        if len(self._in_flight) >= self._connection.window:
            return self._send_telemetry()
        retained = mailbox.next_retained()  # looked at before the outbox: whatever came before it is in there by now
        if not mailbox.online and (retained or mailbox.latest("state") is not None):
            self._introduce(retained)
            return True
        waits_not = retained is not None or bool(mailbox.responses)  # answers, too, go before history
        record = self._station.outbox.take(live_only=waits_not or self._is_held)
        if record is not None:
            self._send_record(record)
        elif retained is not None:
            self._send_retained(*retained)
        elif mailbox.responses:
            self._send_answer(*mailbox.responses.popleft())
        else:
            return self._send_replay() or self._send_telemetry()
        return True

    def _introduce(self, retained: tuple[str, bytes] | None) -> None:
        """After a connect: first the state, then ``online``."""
        if retained is not None:
            self._send_retained(*retained)
            return
        self._publish(f"{self._station.base}/{AVAILABILITY}", b"online", retain=True)
        self._station.mailbox.set_online()

    def _send_answer(self, level: str, data: bytes, reply: Reply | None) -> None:
        """Answer where that is wanted; on our own topic otherwise, or where it could pass for something else."""
        base = self._station.base
        if reply is not None and may_answer_on(reply.topic, base=base):
            self._publish(reply.topic, data, correlation=reply.correlation)
        else:
            self._publish(f"{base}/{level}", data, correlation=reply.correlation if reply else None)

    def _send_retained(self, kind: str, data: bytes) -> None:
        self._station.mailbox.mark_sent(kind, data)
        if self._fits(kind, data):
            self._publish(self._station.announcement.topic_of(kind), data, retain=True)

    def _send_telemetry(self) -> bool:
        taken = self._station.mailbox.take_telemetry()
        if taken is None:
            return False
        kind, data = taken
        if self._fits(kind, data):
            self._connection.publish(f"{self._station.base}/{kind}", data, qos=0, retain=False)
        return True

    def _is_live(self, record: Record) -> bool:
        item = record.item
        return isinstance(item, StoredEvent) and not record.attempted and self._station.clock_ns() <= item.live_until_ns

    def _send_record(self, record: Record) -> None:
        item, base = record.item, self._station.base
        if isinstance(item, Gap):
            gap = GapPayload(
                type="gap", boot_id=item.boot_id, from_seq=item.from_seq, to_seq=item.to_seq, reason=item.reason
            )
            self._publish(f"{base}/history", encode(gap), record=record)
        elif not self._fits("event", item.data):
            self._station.outbox.lose(record, reason="too_large")
        elif self._is_live(record):
            self._publish(f"{base}/event", item.data, record=record, expiry_s=self._station.expiry_s)
        else:
            self._publish(f"{base}/history", as_history(item.data), record=record)

    def _fits(self, topic: str, data: bytes) -> bool:
        bound = self._connection.max_packet_bytes
        if bound is None or len(data) + len(self._station.base) + _PACKET_OVERHEAD_BYTES <= bound:
            return True
        self._note_refusal(topic, f"larger than the broker takes ({bound} bytes)")
        return False

    def _publish(
        self,
        topic: str,
        data: bytes,
        *,
        retain: bool = False,
        record: Record | None = None,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> int:
        mid = self._connection.publish(topic, data, qos=1, retain=retain, expiry_s=expiry_s, correlation=correlation)
        below = topic.removeprefix(f"{self._station.base}/")
        self._in_flight[mid] = _Sent(below, record, self._station.clock_ns())
        return mid

    def _settle(self, acknowledgements: list[Acknowledgement]) -> None:
        for acknowledgement in acknowledgements:
            sent = self._in_flight.pop(acknowledgement.mid, None)
            if sent is None:
                continue  # telemetry: paho reports it when it is written
            if acknowledgement.refusal is not None:
                self._note_refusal(sent.topic, acknowledgement.refusal)
                if sent.record is not None:
                    self._hold(sent.topic, sent.record)
                continue
            self._station.tally.refusals.pop(sent.topic, None)
            self._station.announcement.acknowledged(sent.topic)
            if sent.record is not None:
                if sent.topic == "history":
                    self._hold_s = HOLD_S[0]
                if isinstance(sent.record.item, StoredEvent):
                    self._station.tally.sent_events += 1
                    if self._station.archive is not None:
                        self._station.archive.add(sent.record.item, now_ns=self._station.clock_ns())
                self._station.outbox.done(sent.record)

    def _note_refusal(self, topic: str, reason: str) -> None:
        tally = self._station.tally
        tally.refused += 1
        if topic not in tally.refusals:
            log.warning("mqtt: the broker refuses %s: %s", topic, reason)
        tally.refusals[topic] = reason

    def _hold(self, topic: str, record: Record) -> None:
        """Keep what was refused: rights and quotas change. Refused events are tried as history, history later again."""
        self._station.outbox.put_back(record)
        if topic == "history" and not self._is_held:
            self._held_until_ns = self._station.clock_ns() + int(self._hold_s * 1e9)
            self._hold_s = min(2 * self._hold_s, HOLD_S[1])

    def _check_acknowledgements(self) -> None:
        """A broker that answers pings but acknowledges nothing is no broker."""
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is not None and self._station.clock_ns() - oldest.sent_ns > self._station.patience_s * 1e9:
            self._connection.close()
            self._connection.closed = f"nothing was acknowledged for {self._station.patience_s:g} s"
