"""The SQLite file of an outbox: its tables, its checksums, and what counts as damage."""

from __future__ import annotations

import contextlib
import glob
import logging
import sqlite3
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from edge.publish.outbox.base import Gap, LossReason, Record, StoredEvent

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x4D69656E
SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE record (
    key INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL,
    reason TEXT, data BLOB, made_ns INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE mark (id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, last_seq INTEGER NOT NULL, service_ns INTEGER NOT NULL
) STRICT;
"""


class DamagedError(Exception):
    """The file is no outbox of ours, or not any more."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a start stands: its last seq, and for how long the service has run over all starts."""

    boot_id: str
    last_seq: int
    service_ns: int


class SqliteFile:
    """The SQLite file; belongs to one thread. ``made_ns`` of its records is service time, see `Mark`."""

    def __init__(self, path: Path) -> None:
        """Opens or makes it.

        Raises:
            DamagedError: it is there and cannot be used.
            sqlite3.OperationalError, OSError: it can neither be opened nor made at present.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)  # SQLite gives its log the same rights
        self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            with _damage_told():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        # Exclusive: no shared-memory file, and a second process is refused.
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(f"PRAGMA journal_size_limit={2**20}")
        self._db.execute("PRAGMA wal_autocheckpoint=256")
        application, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if (application, version) == (0, 0) and not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            made = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION};"
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {made} COMMIT;")
        elif (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise DamagedError(f"application {application:#x}, version {version}: not {SCHEMA_VERSION}")
        self._db.execute("BEGIN IMMEDIATE")  # says now whether it can be written
        self._db.execute("COMMIT")

    def mark(self) -> Mark | None:
        """The mark of the last start that wrote here; None as well where damage hides it: `records` tells that."""
        with contextlib.suppress(DamagedError), _damage_told():
            row = self._db.execute("SELECT boot_id, last_seq, service_ns FROM mark").fetchone()
            return Mark(*row) if row else None
        return None

    def records(self) -> Iterator[Record]:
        """What is stored, in order.

        Raises:
            DamagedError: after the records that are whole.
        """
        damaged = ""
        with _damage_told():
            columns = "key, boot_id, from_seq, to_seq, reason, data, made_ns, crc"
            for key, *values, crc in self._db.execute(f"SELECT {columns} FROM record ORDER BY key"):
                if _crc(*values) != crc:
                    damaged = f"record {key}: checksum"
                    continue
                boot_id, from_seq, to_seq, reason, data, made_ns = values
                item = (
                    StoredEvent(boot_id, from_seq, 0, data)
                    if reason is None
                    else Gap(boot_id, from_seq, to_seq, cast(LossReason, reason))
                )
                yield Record(key, item, attempted=True, made_ns=made_ns)
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damaged or found != "ok":
            raise DamagedError(damaged or found)

    def write(self, changes: dict[int, Record | None], *, mark: Mark | None, clear: bool) -> None:
        """Commits changes (None: gone), all or none.

        Raises:
            DamagedError, sqlite3.OperationalError: not written.
        """
        rows = [(key, *_values(record)) for key, record in changes.items() if record is not None]
        with _damage_told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if clear:
                    self._db.execute("DELETE FROM record")
                gone = ((key,) for key, record in changes.items() if record is None)
                self._db.executemany("DELETE FROM record WHERE key = ?", gone)
                self._db.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                if mark is not None:
                    values = (mark.boot_id, mark.last_seq, mark.service_ns)
                    self._db.execute("INSERT OR REPLACE INTO mark VALUES (1, ?, ?, ?)", values)
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; what was not committed is gone."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()


def set_aside(path: Path) -> Path:
    """Renames a damaged file and its log; only the newest of these is kept.

    Raises:
        OSError: the folder cannot be written.
    """
    for old in _set_aside_before(path):
        old.unlink()
    kept = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for suffix in ("-wal", "-shm", ""):  # the file last: a log without its file would be lost
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(kept.with_name(kept.name + suffix))
    return kept


def take_over(old: Path, new: Path) -> None:
    """Let the file of a camera that was renamed become that of its new name, with the events that wait in it.

    Where both are there the old one is removed; what waits in it is named in the log.
    """
    if not old.exists():
        return
    try:
        if not new.exists():
            for suffix in ("-wal", ""):  # the file last, as in `set_aside`
                with contextlib.suppress(FileNotFoundError):
                    old.with_name(old.name + suffix).rename(new.with_name(new.name + suffix))
            return
        with contextlib.suppress(DamagedError, sqlite3.Error):
            file = SqliteFile(old)
            if waiting := sum(1 for _ in file.records()):
                log.warning("outbox: %s is of a former name of this camera: %d records in it are lost", old, waiting)
            file.close()
        remove(old)
    except OSError as error:
        log.warning("outbox: %s: %s", old, error.strerror)


def remove(path: Path) -> None:
    """Remove an outbox file, its log, and what was set aside of it.

    Raises:
        OSError: the folder cannot be written.
    """
    for found in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        found.unlink(missing_ok=True)
    for found in _set_aside_before(path):
        found.unlink()


def _set_aside_before(path: Path) -> Iterator[Path]:
    return path.parent.glob(f"{glob.escape(path.name)}.corrupt-*")


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    """SQLite's many words for a damaged file as one error; what may pass by itself stays an OperationalError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if any(word in str(error) for word in ("malformed", "no such table", "no such column")):
            raise DamagedError(str(error)) from None
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError, TypeError) as error:
        raise DamagedError(str(error)) from None


def _values(record: Record) -> tuple[object, ...]:
    item = record.item
    values: tuple[object, ...]
    if isinstance(item, Gap):
        values = (item.boot_id, item.from_seq, item.to_seq, item.reason, None, record.made_ns)
    else:
        values = (item.boot_id, item.seq, item.seq, None, item.data, record.made_ns)
    return (*values, _crc(*values))


def _crc(*values: object) -> int:
    """A checksum over a row: SQLite checks its log, not the pages of its file."""
    return zlib.crc32(repr(values).encode())
