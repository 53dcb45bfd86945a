"""Bookkeeping of readers that hang in a driver: who is inside since when, and how many were left behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from edge.capture.base import Source
from edge.errors import SourceError


class Call(str, Enum):
    """A call into the driver; the value completes "the driver hangs …"."""

    OPEN = "while opening"
    READ = "in a read"
    CLOSE = "while closing"


@dataclass(slots=True, eq=False)
class Reader:
    """One thread inside `Grabber.run`.

    Attributes:
        source: what it reads, None while there is none.
        busy_since_ns: when the call into the driver began that it is in; None outside.
        call: the last call into the driver.
        waiting: whether it waits for a free place in the slot.
        released: its camera was taken from it; it ends when it comes back.
        finished: it came back.
    """

    source: Source | None = None
    busy_since_ns: int | None = None
    call: Call = Call.OPEN
    waiting: bool = False
    released: bool = False
    finished: bool = False

    def hangs(self, now_ns: int, *, open_within_ns: int, frozen_after_ns: int) -> bool:
        """Return whether the call that it is in takes longer than any that returns."""
        bound_ns = open_within_ns if self.call is Call.OPEN else frozen_after_ns
        return self.busy_since_ns is not None and now_ns - self.busy_since_ns > bound_ns

    def release(self) -> None:
        """Take the camera from it."""
        self.released = True
        if self.source is not None:
            self.source.close()


@dataclass(slots=True)
class HungReaders:
    """Readers that were left behind in a driver.

    Attributes:
        limit: of those that hang at the same time.
        total: how many were left behind so far.
    """

    limit: int
    total: int = 0
    _hanging: list[Reader] = field(default_factory=list)

    def leave_behind(self, reader: Reader) -> None:
        """Release a reader that hangs.

        Raises:
            SourceError: too many hang; only a new process can help.
        """
        self.total += 1
        self._hanging = [*(other for other in self._hanging if not other.finished), reader]
        reader.release()
        if len(self._hanging) > self.limit:
            raise SourceError("camera", f"{len(self._hanging)} readers hang in the driver")
