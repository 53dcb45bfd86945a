"""Events on their way to the broker: kept until it acknowledged them, bounded, and every loss is a record itself.

`Outbox` is the seam for storage: the MQTT sink asks nothing else of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

LossReason = Literal["queue_full", "refused", "too_large", "too_old"]


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
        key: identifies the entry; entries are in the order of their keys.
        item: what is to be sent.
        attempted: True when it was handed to a connection that ended before the acknowledgement: it may have arrived.
        made_ns: monotonic time of this start at which it was put; less than zero for what an earlier start left.
    """

    key: int
    item: StoredEvent | Gap
    attempted: bool = False
    made_ns: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an outbox keeps of what waits.

    Attributes:
        events: number of events.
        data_bytes: sum of their payloads, in bytes.
        age_s: seconds that the service ran since an event was made; None for any. (Time that it did not run is not
            counted: a board without a battery does not know it.)
    """

    events: int
    data_bytes: int = 16 * 2**20
    age_s: float | None = None


class Outbox(Protocol):
    """A bounded queue of events and gaps in two lanes, each in the order in which they were put.

    Live are events whose ``live_until_ns`` is to come and that no connection had before; all else is history. A live
    event does not wait for history. What an earlier start left comes as attempted: it is history.

    `put`, `begin`, `counts`, `status` and ``len`` may be called by any thread, do not wait for a disk and never raise;
    `open` and `close` are called once, the rest by the network thread alone.
    """

    def open(self) -> None:
        """Reads what an earlier start left, where there is storage; storage that fails is a `status`."""
        ...

    def begin(self, boot_id: str) -> None:
        """Notes that a start of this name began."""
        ...

    def previous(self) -> tuple[str, int] | None:
        """After `open`: boot_id and last seq that the start before this one stored, where known."""
        ...

    def put(self, event: StoredEvent) -> None:
        """Appends an event. When the outbox is full a gap record takes the place of the oldest that is not taken."""
        ...

    def take(self, *, live_only: bool = False) -> Record | None:
        """The oldest live record that is not taken, else the oldest of history, else None.

        It stays stored until `done`.
        """
        ...

    def done(self, record: Record) -> None:
        """Forgets a taken record: the broker has it."""
        ...

    def lose(self, record: Record, *, reason: LossReason) -> None:
        """Turns a taken event that the broker will never take into a gap; a gap is forgotten."""
        ...

    def put_back(self, record: Record) -> None:
        """Put a taken record back, in its order, as attempted: the broker does not take it at present."""
        ...

    def release(self) -> None:
        """Puts everything taken back, in its order, as attempted: the connection ended."""
        ...

    def close(self, *, timeout_s: float) -> None:
        """Stores what is left, where there is storage; gives up after ``timeout_s`` seconds."""
        ...

    def __len__(self) -> int:
        """Records that are not acknowledged, taken ones included."""
        ...

    def status(self) -> str:
        """What is wrong with the storage, for people; empty when nothing is."""
        ...

    def counts(self) -> dict[str, int]:
        """``queued`` and ``dropped``: events now stored, events that became gaps since the start."""
        ...
