"""The SQLite outbox against a small model, through whatever hypothesis thinks of: crashes, full disks, late disks.

The writer commits only when it is told to, so that what a crash leaves is known exactly. A crash is the file and its
log as they lie there at that moment, in another folder, opened by the next start.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from brokers import wait_until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.publish.outbox.base import Bounds, Gap, Record, StoredEvent
from edge.publish.outbox.sqlite import SqliteOutbox
from edge.publish.outbox.sqlite_file import SqliteFile

BOUND: Final = 5
PATIENCE_S: Final = 60.0
NEVER_S: Final = 3600.0
MEMORY: Final = Path("/dev/shm")
"""Where fsync costs nothing: thousands of commits."""
Place = tuple[int, int]
"""Number of the start and seq: the order in which events were made."""


@dataclass
class Entry:
    """What the model knows of an event that is not settled: ``live_until_ns`` is None in the lane of history."""

    live_until_ns: int | None = None
    lost: str | None = None
    taken: bool = False

    @property
    def is_waiting(self) -> bool:
        return not self.taken and self.lost is None


class Model(dict[Place, Entry]):
    """Every event is here until it was acknowledged, refused twice, or lost to a crash before it was committed."""

    def enforce_bound(self) -> None:
        """The oldest of history goes first, then the oldest live one."""
        while len(waiting := [place for place, entry in self.items() if entry.is_waiting]) > BOUND:
            oldest = min(waiting, key=lambda place: (self[place].live_until_ns is not None, place))
            self[oldest] = Entry(lost="queue_full")

    def age(self, now_ns: int) -> None:
        for entry in self.values():
            if entry.live_until_ns is not None and entry.live_until_ns < now_ns and not entry.taken:
                entry.live_until_ns = None

    def next(self) -> Place | None:
        """The live lane goes first, each lane in its order."""
        free = [place for place, entry in self.items() if not entry.taken]
        return min(free, key=lambda place: (self[place].live_until_ns is None, place), default=None)

    def stored(self) -> Model:
        """What the next start finds: all of it is history."""
        return Model({place: Entry(lost=entry.lost) for place, entry in self.items()})


class UnreliableFile(SqliteFile):
    """Says that the disk is full: before it wrote anything, or although everything was written."""

    failure: ClassVar[str | None] = None

    def write(self, *arguments: Any, **options: Any) -> None:
        if self.failure != "before":
            super().write(*arguments, **options)
        if self.failure:
            raise sqlite3.OperationalError("database or disk is full")


class SqliteOutboxFollowsItsModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mien-outbox-", dir=MEMORY if MEMORY.is_dir() else None))
        UnreliableFile.failure = None
        self.now_ns, self.start, self.crashes = 1000, 0, 0
        self.saved = Model()
        self.open(late=False)

    @property
    def home(self) -> Path:
        """Where the file lies; a crash moves on to another folder."""
        return self.folder / str(self.crashes)

    def open(self, *, late: bool) -> None:
        self.start, self.seq = self.start + 1, 0
        self.model, self.taken = Model(), list[Record]()
        self.unread: Model | None = self.saved.stored()
        if late:  # where the folder was is something else
            self.home.rename(self.home.with_suffix(".away"))
            self.home.touch()
        self.outbox = SqliteOutbox(
            self.home / "o.db",
            Bounds(BOUND),
            commit_s=NEVER_S,
            retry_s=NEVER_S,
            clock_ns=lambda: self.now_ns,
            open_file=UnreliableFile,
        )
        self.outbox.open()
        self.outbox.begin(f"b{self.start}")
        assert bool(self.outbox.status()) == late, self.outbox.status()
        if not late:
            self.find()

    def find(self) -> None:
        """The disk is there: from now on what an earlier start left is."""
        if self.home.is_file():
            self.home.unlink()
            self.home.with_suffix(".away").rename(self.home)
        if self.unread is not None:
            self.model |= self.unread
            self.model.enforce_bound()
            self.unread = None

    @rule(count=st.integers(1, 4))
    def put_some(self, count: int) -> None:
        self.put(count)

    def put(self, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            until_ns = self.now_ns + 10
            self.outbox.put(StoredEvent(f"b{self.start}", self.seq, until_ns, b"x" * self.seq))
            self.model[self.start, self.seq] = Entry(until_ns)
            self.model.enforce_bound()

    @rule(by_ns=st.integers(1, 20))
    def time_passes(self, by_ns: int) -> None:
        self.now_ns += by_ns

    @rule()
    def take(self) -> None:
        record = self.outbox.take()
        self.model.age(self.now_ns)
        if record is None:
            assert self.model.next() is None
            return
        for place in places(record):
            assert place == self.model.next()
            entry = self.model[place]
            assert entry.lost == (record.item.reason if isinstance(record.item, Gap) else None)
            entry.taken = True
        if isinstance(record.item, StoredEvent):
            assert record.item.data == b"x" * record.item.seq
        self.taken.append(record)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 100))
    def acknowledge(self, which: int) -> None:
        record = self.taken.pop(which % len(self.taken))
        self.outbox.done(record)
        for place in places(record):
            del self.model[place]

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 100))
    def refuse(self, which: int) -> None:
        record = self.taken.pop(which % len(self.taken))
        self.outbox.lose(record, reason="refused")
        for place in places(record):
            if self.model[place].lost is None:
                self.model[place] = Entry(lost="refused")
            else:
                del self.model[place]

    @rule()
    def disconnect(self) -> None:
        self.outbox.release()
        self.taken.clear()
        for entry in self.model.values():
            if entry.taken:
                entry.taken, entry.live_until_ns = False, None
        self.model.enforce_bound()

    @rule()
    def commit(self) -> None:
        self.find()
        assert self.outbox.flush(timeout_s=PATIENCE_S), self.outbox.status()
        wait_until(lambda: self.outbox.is_idle, what="the writer", timeout_s=PATIENCE_S)
        self.saved = self.model.stored()

    @precondition(lambda self: self.unread is None)
    @rule(failure=st.sampled_from(["before", "after"]))
    def fail_to_commit(self, failure: str) -> None:
        self.put(count=1)  # something to commit
        UnreliableFile.failure = failure
        assert not self.outbox.flush(timeout_s=0)
        wait_until(lambda: self.outbox.is_idle, what="the writer", timeout_s=PATIENCE_S)
        assert "full" in self.outbox.status()
        UnreliableFile.failure = None
        if failure == "after":
            self.saved = self.model.stored()

    @rule(late=st.booleans())
    def crash(self, late: bool) -> None:
        wait_until(lambda: self.outbox.is_idle, what="the writer", timeout_s=PATIENCE_S)
        here = self.home if self.home.is_dir() else self.home.with_suffix(".away")
        self.crashes += 1
        shutil.copytree(here, self.home)
        self.outbox.close(timeout_s=PATIENCE_S)  # what it writes now goes to a folder that nobody reads any more
        self.open(late=late)

    @rule(late=st.booleans())
    def stop_and_start(self, late: bool) -> None:
        self.find()
        self.outbox.close(timeout_s=PATIENCE_S)
        self.saved = self.model.stored()
        last = (f"b{self.start}", self.seq)
        self.open(late=late)
        assert self.outbox.previous() == (None if late else last)

    @invariant()
    def counts_the_same(self) -> None:
        queued = sum(entry.lost is None for entry in self.model.values())
        assert self.outbox.counts()["queued"] == queued

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        try:
            self.stop_and_start(late=False)
            while self.model:
                self.take()
                self.acknowledge(0)
            self.take()
        finally:
            self.outbox.close(timeout_s=PATIENCE_S)
            shutil.rmtree(self.folder)


def places(record: Record) -> list[Place]:
    item = record.item
    seqs = [item.seq] if isinstance(item, StoredEvent) else range(item.from_seq, item.to_seq + 1)
    return [(int(item.boot_id[1:]), seq) for seq in seqs]


TestSqliteOutboxFollowsItsModel = SqliteOutboxFollowsItsModel.TestCase
TestSqliteOutboxFollowsItsModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
