"""Events on their way to the broker: kept until it acknowledged them, bounded, and every loss is a record itself.

`Outbox` is the seam for durable storage: the MQTT sink asks nothing else of it.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, Protocol

LossReason = Literal["queue_full", "refused", "too_large"]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was made.

    Attributes:
        boot_id: start of the daemon that made it.
        seq: its number within that start.
        live_until_ns: monotonic time of that start after which it is history.
        data: the payload's bytes.
    """

    boot_id: str
    seq: int
    live_until_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of events that are lost.

    Attributes:
        boot_id: start of the daemon that made them.
        from_seq: the first.
        to_seq: the last.
        reason: why.
    """

    boot_id: str
    from_seq: int
    to_seq: int
    reason: LossReason


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of an outbox.

    Attributes:
        key: identifies the entry.
        item: what is to be sent.
        attempted: True when it was handed to a connection that ended before the acknowledgement: it may have arrived.
    """

    key: int
    item: StoredEvent | Gap
    attempted: bool = False


class Outbox(Protocol):
    """A bounded first-in first-out queue of events and gaps.

    One that outlives the process gives records of an earlier start back as attempted: their ``live_until_ns`` is of
    another clock, and they are history.

    `put`, `counts` and ``len`` may be called by any thread, do not wait for a disk and never raise; the rest is called
    by the network thread alone.
    """

    def put(self, event: StoredEvent) -> None:
        """Appends an event. When the outbox is full a gap record takes the place of the oldest that is not taken."""
        ...

    def take(self) -> Record | None:
        """The oldest record that is not taken, None when there is none. It stays stored until `done`."""
        ...

    def done(self, record: Record) -> None:
        """Forgets a taken record: the broker has it."""
        ...

    def lose(self, record: Record, *, reason: LossReason) -> None:
        """Turns a taken event that the broker will never take into a gap; a gap is forgotten."""
        ...

    def release(self) -> None:
        """Puts everything taken back in front, in its order, as attempted: the connection ended."""
        ...

    def close(self) -> None:
        """Stores what is left, where there is storage."""
        ...

    def __len__(self) -> int:
        """Records that are not acknowledged, taken ones included."""
        ...

    def counts(self) -> dict[str, int]:
        """``queued`` and ``dropped``: events now stored, events that became gaps since the start."""
        ...


class MemoryOutbox:
    """An outbox that ends with the process.

    Args:
        max_events: bound on the events waiting; those taken by a connection come on top.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._lock = threading.Lock()
        self._waiting: deque[Record] = deque()
        self._taken: dict[int, Record] = {}
        self._keys = itertools.count(1)
        self._events = 0
        self._dropped = 0

    def put(self, event: StoredEvent) -> None:
        """See `Outbox.put`."""
        with self._lock:
            self._waiting.append(Record(next(self._keys), event))
            self._events += 1
            self._enforce_bound()

    def take(self) -> Record | None:
        """See `Outbox.take`."""
        with self._lock:
            if not self._waiting:
                return None
            record = self._waiting.popleft()
            self._taken[record.key] = record
            self._events -= isinstance(record.item, StoredEvent)
            return record

    def done(self, record: Record) -> None:
        """See `Outbox.done`."""
        with self._lock:
            self._taken.pop(record.key, None)

    def lose(self, record: Record, *, reason: LossReason) -> None:
        """See `Outbox.lose`."""
        with self._lock:
            self._taken.pop(record.key, None)
            if isinstance(record.item, StoredEvent):
                self._insert_gap(0, record.item, reason)

    def release(self) -> None:
        """See `Outbox.release`."""
        with self._lock:
            self._waiting.extendleft(replace(record, attempted=True) for record in reversed(self._taken.values()))
            self._events += sum(isinstance(record.item, StoredEvent) for record in self._taken.values())
            self._taken.clear()
            self._enforce_bound()

    def close(self) -> None:
        """See `Outbox.close`."""

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting) + len(self._taken)

    def counts(self) -> dict[str, int]:
        """See `Outbox.counts`."""
        with self._lock:
            return {"queued": self._events + len(self._taken), "dropped": self._dropped}

    def _enforce_bound(self) -> None:
        while self._events > self._max_events:
            at = next(i for i, record in enumerate(self._waiting) if isinstance(record.item, StoredEvent))
            oldest = self._waiting[at].item
            assert isinstance(oldest, StoredEvent)
            del self._waiting[at]
            self._events -= 1
            self._insert_gap(at, oldest, "queue_full")

    def _insert_gap(self, at: int, lost: StoredEvent, reason: LossReason) -> None:
        """Records a loss at a position, as part of the gap before or after it where one adjoins."""
        self._dropped += 1
        gap = Gap(lost.boot_id, lost.seq, lost.seq, reason)
        for neighbour in (at, at - 1):
            if 0 <= neighbour < len(self._waiting):
                joined = _join(self._waiting[neighbour].item, gap)
                if joined:
                    gap = joined
                    del self._waiting[neighbour]
                    at = neighbour
        self._waiting.insert(at, Record(next(self._keys), gap))


def _join(other: StoredEvent | Gap, gap: Gap) -> Gap | None:
    """Two gaps as one, when they are of one start and reason and leave nothing between them."""
    if isinstance(other, StoredEvent) or (other.boot_id, other.reason) != (gap.boot_id, gap.reason):
        return None
    if other.to_seq + 1 == gap.from_seq:
        return replace(gap, from_seq=other.from_seq)
    if gap.to_seq + 1 == other.from_seq:
        return replace(gap, to_seq=other.to_seq)
    return None
