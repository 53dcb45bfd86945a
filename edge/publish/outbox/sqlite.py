"""The outbox that outlives the process: an SQLite file that follows the queue in memory.

Memory is the truth while the process lives, the file is what the next start finds. A thread owns the file and writes
all changes of one commit interval in one transaction (WAL, ``synchronous=FULL``: committed means that it survives a
power cut). What is acknowledged within the interval is never written, so that a broker that is there spares the card.

Whatever the file does (full disk, no rights, held by another process, damaged), the queue goes on in memory; writing
is tried again and then catches up with all that waits.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge.publish.outbox.base import Bounds, Record, StoredEvent
from edge.publish.outbox.memory import MemoryOutbox
from edge.publish.outbox.sqlite_file import DamagedError, Mark, SqliteFile, salvage, set_aside

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S: Final = 5.0
"""How long a start waits for a slow disk; what is read later is sent all the same."""
RETRY_S: Final = 30.0
"""Between attempts to use a file that failed."""
MARK_S: Final = 60.0
"""How often the last seq is stored when no event is: see `SqliteOutbox.previous`."""


class SqliteOutbox(MemoryOutbox):
    """An outbox in memory that a file follows.

    Args:
        path: the file; its folder is made where it is missing.
        bounds: on the events waiting; memory holds them too.
        commit_s: changes of so many seconds are one commit: what SIGKILL or a power cut can take.
        clock_ns: the monotonic clock of ``live_until_ns``.
        retry_s: see `RETRY_S`.
        open_file: opens the file; raises as `SqliteFile` does.
    """

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        *,
        commit_s: float = 1.0,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        retry_s: float = RETRY_S,
        open_file: Callable[[Path], SqliteFile] = SqliteFile,
    ) -> None:
        super().__init__(bounds, clock_ns=clock_ns)
        self._path = path
        self._open_sqlite = open_file
        self._commit_s, self._retry_s = commit_s, retry_s
        self._wake = threading.Condition(self._lock)
        self._pending: dict[int, Record | None] = {}
        self._stored: set[int] = set()
        self._boot_id, self._last_seq = "", 0
        self._previous: tuple[str, int] | None = None
        self._service_zero_ns = -clock_ns()
        """What to add to the clock for service time."""
        self._problem = ""
        self._is_waiting = self._hurried = self._closing = self._was_read = self._rewrites = self._mark_is_due = False
        self._generation = self._committed = 0
        self._marked_ns = clock_ns()
        self._set_aside_ns: int | None = None
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def open(self) -> None:
        """See `Outbox.open`; waits for at most `OPEN_TIMEOUT_S`."""
        self._thread.start()
        if not self._opened.wait(OPEN_TIMEOUT_S):
            log.warning("outbox: %s: the disk does not answer; going on without it", self._path)

    def begin(self, boot_id: str) -> None:
        """See `Outbox.begin`."""
        with self._lock:
            if boot_id != self._boot_id:
                self._boot_id, self._last_seq = boot_id, 0
                self._mark_is_due = True
                self._wake.notify_all()

    def previous(self) -> tuple[str, int] | None:
        """See `Outbox.previous`.

        After a clean stop the exact last seq. After SIGKILL or a power cut the last that was stored: of events that the
        broker acknowledged before they were written, only those up to the last mark (`MARK_S`) are known.
        """
        return self._previous

    def put(self, event: StoredEvent) -> None:
        """See `Outbox.put`."""
        self.begin(event.boot_id)
        with self._lock:
            self._last_seq = max(self._last_seq, event.seq)
        super().put(event)

    def flush(self, *, timeout_s: float) -> bool:
        """Commits now; True once everything that was put before is in the file."""
        with self._wake:
            self._hurried = True
            target = self._generation
            self._wake.notify_all()
            return self._wake.wait_for(lambda: self._committed >= target and not self._problem, timeout_s)

    def close(self, *, timeout_s: float) -> None:
        """See `Outbox.close`."""
        with self._wake:
            self._closing = self._mark_is_due = True
            self._wake.notify_all()
        if self._thread.ident:
            self._thread.join(timeout_s)
        with self._lock:
            is_stored = self._committed >= self._generation or not (self._live or self._history or self._taken)
        if not is_stored:
            log.warning("outbox: %s: the newest events could not be stored within %.1f s", self._path, timeout_s)

    @property
    def is_idle(self) -> bool:
        """Whether the writer touches no file until it is told to or the commit interval is over."""
        with self._lock:
            return self._is_waiting and not self._hurried

    def status(self) -> str:
        """See `Outbox.status`."""
        return f"outbox in memory only: {self._problem}" if self._problem else ""

    def _changed(self, key: int, record: Record | None) -> None:
        self._generation += 1
        if record is None and key not in self._stored:
            self._pending.pop(key, None)  # it came and went between two commits
        else:
            self._pending[key] = record
            self._wake.notify_all()

    # What follows runs in the writer's thread.

    def _run(self) -> None:
        file: SqliteFile | None = None
        is_last = False
        while True:
            try:
                file = file or self._open_file()
                self._commit(file)
                self._tell_problem("")
            except DamagedError as error:
                _close(file)
                file = None
                is_last = not self._set_aside(error) and is_last
            except (sqlite3.Error, OSError) as error:
                _close(file)
                file = None
                holder = " by another process" if "locked" in str(error) else ""
                self._tell_problem(f"{self._path}: {error}{holder}")
            self._opened.set()
            if is_last:
                break
            is_last = self._wait()
        _close(file)

    def _wait(self) -> bool:
        """Waits for changes and then for the rest of the commit interval; True when the next commit is the last."""
        with self._wake:
            self._is_waiting = True
            if self._problem:
                self._wake.wait_for(lambda: self._closing or self._hurried, self._retry_s)
            else:
                self._wake.wait_for(lambda: self._is_busy() or self._closing or self._hurried, MARK_S)
                self._wake.wait_for(lambda: self._closing or self._hurried, self._commit_s)
            self._hurried = self._is_waiting = False
            return self._closing

    def _is_busy(self) -> bool:
        return bool(self._pending) or self._mark_is_due or self._rewrites

    def _open_file(self) -> SqliteFile:
        try:
            file = self._open_sqlite(self._path)
        except DamagedError:
            if not self._was_read:
                self._adopt(*salvage(self._path))
            raise
        if self._was_read:
            return file
        found: list[Record] = []
        mark = file.mark()
        try:
            found.extend(file.records())
        except DamagedError:
            file.close()
            saved = salvage(self._path)
            self._adopt(*max((found, mark), saved, key=lambda whole: len(whole[0])))  # what is whole is saved
            raise
        except BaseException:
            file.close()
            raise
        self._adopt(found, mark)
        return file

    def _adopt(self, found: list[Record], mark: Mark | None) -> None:
        """Takes over what an earlier start left: in front of what this start made."""
        with self._wake:
            self._was_read = True
            newest = found[-1] if found else None
            served_ns = max([mark.service_ns if mark else 0, *(record.made_ns for record in found)])
            now_ns = self._clock_ns()
            self._service_zero_ns = served_ns - now_ns
            shown = [replace(record, made_ns=record.made_ns - self._service_zero_ns) for record in found]
            own = [record.key for record in (*self._taken.values(), *self._live, *self._history)]
            if newest and own:  # the disk was late: keys of an earlier start go below those of this one
                shift = min(own) - 1 - newest.key
                shown = [replace(record, key=record.key + shift) for record in shown]
                self._rewrites = True
            elif newest:
                self._keys = itertools.count(newest.key + 1)
            self._stored |= {record.key for record in shown}
            self._previous = _last(mark, found)
            self._mark_is_due = self._mark_is_due or bool(self._boot_id)
            self._remember(shown)
            if self._rewrites:
                self._pend_everything()
            self._enforce_bounds()
        if found:
            log.info("outbox: %d records of earlier starts wait to be sent as history", len(found))

    def _pend_everything(self) -> None:
        self._stored.clear()
        everything = [*self._taken.values(), *self._history, *self._live]
        self._pending = {record.key: record for record in everything}
        self._generation += 1

    def _commit(self, file: SqliteFile) -> None:
        with self._lock:
            changes, self._pending = self._pending, {}
            clear, generation = self._rewrites, self._generation
            was_stored, self._stored = self._stored, (set() if clear else set(self._stored))
            for key, record in changes.items():
                (self._stored.discard if record is None else self._stored.add)(key)
            mark = self._make_mark()
        zero_ns = self._service_zero_ns
        try:
            if changes or mark or clear:
                dated = {
                    key: record and replace(record, made_ns=record.made_ns + zero_ns) for key, record in changes.items()
                }
                file.write(dated, mark=mark, clear=clear)
        except BaseException:
            with self._lock:
                self._pending = changes | self._pending
                self._stored = was_stored | self._stored
                self._mark_is_due = True
            raise
        with self._wake:
            self._committed = generation
            self._rewrites = self._rewrites and not clear
            self._wake.notify_all()

    def _make_mark(self) -> Mark | None:
        """The mark where it is due: it costs a page of the file."""
        now_ns = self._clock_ns()
        if not self._boot_id or not (self._mark_is_due or now_ns - self._marked_ns >= MARK_S * 1e9):
            return None
        self._mark_is_due, self._marked_ns = False, now_ns
        return Mark(self._boot_id, self._last_seq, now_ns + self._service_zero_ns)

    def _set_aside(self, error: DamagedError) -> bool:
        """Makes room for a new file, begun at the next turn of the loop with all that memory holds.

        Returns:
            Whether that worked. Once is all that is tried in `RETRY_S`: a disk that damages every file is no storage.
        """
        now_ns = self._clock_ns()
        if self._set_aside_ns is not None and now_ns - self._set_aside_ns < self._retry_s * 1e9:
            self._tell_problem(f"{self._path}: damaged again ({error}): is the disk failing?")
            return False
        self._set_aside_ns = now_ns
        try:
            kept = set_aside(self._path)
        except OSError as refused:
            self._tell_problem(f"{self._path}: damaged ({error}), and it cannot be renamed: {refused.strerror}")
            return False
        log.error("outbox: %s is damaged (%s); it is now %s and a new one is begun", self._path, error, kept.name)
        with self._lock:
            self._was_read = self._rewrites = True
            self._pend_everything()
        return True

    def _tell_problem(self, problem: str) -> None:
        with self._wake:
            before, self._problem = self._problem, problem
            self._wake.notify_all()
        if problem and problem != before:
            log.error("outbox: %s; events wait in memory only, tried again every %g s", problem, self._retry_s)
        elif before and not problem:
            log.info("outbox: %s is written again", self._path)


def _close(file: SqliteFile | None) -> None:
    if file:
        file.close()


def _last(mark: Mark | None, found: Iterable[Record]) -> tuple[str, int] | None:
    """The newest start and its last seq, out of the mark and what is stored."""
    newest = None if mark is None else (mark.boot_id, mark.last_seq)
    for record in found:
        item = record.item
        seq = item.seq if isinstance(item, StoredEvent) else item.to_seq
        if newest is None or newest[0] == item.boot_id:
            newest = (item.boot_id, max(seq, newest[1] if newest else 0))
    return newest
