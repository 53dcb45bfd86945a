"""The SQLite file of an outbox: its tables, its checksums, and what counts as damage."""

from __future__ import annotations

import contextlib
import glob
import logging
import shutil
import sqlite3
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from edge.publish.outbox.base import Gap, LossReason, Record, StoredEvent

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x4D69656E
SCHEMA_VERSION: Final = 1
PAGE_BYTES: Final = 4096
"""SQLite's default, with which every outbox was made; https://www.sqlite.org/fileformat2.html#the_database_header."""
DAMAGE_WORDS: Final = ("malformed", "no such table", "no such column", "unsupported file format")
KEY_MIN: Final = -(2**63)
MARK_COPIES: Final = (1, 2, 3)
"""Keys of the mark; versions before 0.2 write and read the first."""
_SCHEMA: Final = """
CREATE TABLE record (
    key INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL,
    reason TEXT, data BLOB, made_ns INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE mark (id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, last_seq INTEGER NOT NULL, service_ns INTEGER NOT NULL
) STRICT;
"""


class DamagedError(Exception):
    """The file is no outbox of ours, or not any more."""


class LaterVersionError(sqlite3.OperationalError):
    """The file is of a later version of Mien: it is left alone, for when that runs again."""


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
        # A text that a flipped bit made no UTF-8 must not end the reading: its checksum tells.
        self._db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
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
            self._check_foreign(application, version)
        self._db.execute("BEGIN IMMEDIATE")  # says now whether it can be written
        self._db.execute("COMMIT")

    def _check_foreign(self, application: int, version: int) -> None:
        """Tell a later version's file from another program's, and from ours with a flipped bit in its header.

        Raises:
            LaterVersionError, DamagedError: the first two.
        """
        tables = {sql for (sql,) in self._db.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'")}
        if tables == {statement.strip() for statement in _SCHEMA.split(";") if statement.strip()}:
            self._db.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION};")
            return
        if application == APPLICATION_ID and version > SCHEMA_VERSION:
            raise LaterVersionError(f"of a later version of Mien ({version}; this one reads {SCHEMA_VERSION})")
        raise DamagedError(f"application {application:#x}, version {version}: not {SCHEMA_VERSION}")

    def mark(self) -> Mark | None:
        """The mark of the last start that wrote here; None as well where damage hides it: `records` tells that.

        It lies there three times, and what two of them say holds: a mark that a flipped bit sends a century ahead would
        make every event too old.
        """
        with contextlib.suppress(DamagedError), _damage_told():
            rows = self._db.execute("SELECT boot_id, last_seq, service_ns FROM mark ORDER BY id").fetchall()
            if rows:
                return Mark(*Counter(rows).most_common(1)[0][0])
        return None

    def records(self) -> Iterator[Record]:
        """What is stored, in order.

        Raises:
            DamagedError: after the records that are whole.
        """
        damaged, newest = "", KEY_MIN
        try:
            for key, record in self._rows("ASC"):
                newest = key
                damaged = damaged if record else f"record {key}: checksum"
                if record:
                    yield record
        except DamagedError as error:
            # What lies behind a damaged page is reached from the other end.
            damaged, behind = str(error), list[Record]()
            with contextlib.suppress(DamagedError):
                behind.extend(record for key, record in self._rows("DESC", after=newest) if record)
            yield from reversed(behind)
        with _damage_told():
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damaged or found != "ok":
            raise DamagedError(damaged or found)

    def _rows(self, order: str, *, after: int = KEY_MIN) -> Iterator[tuple[int, Record | None]]:
        """Keys with their records; None where the checksum is wrong."""
        columns = "key, boot_id, from_seq, to_seq, reason, data, made_ns, crc"
        query = f"SELECT {columns} FROM record WHERE key > ? ORDER BY key {order}"
        with _damage_told():
            for key, *values, crc in self._db.execute(query, (after,)):
                if _crc(*values) != crc:
                    yield key, None
                    continue
                boot_id, from_seq, to_seq, reason, data, made_ns = values
                item = (
                    StoredEvent(boot_id, from_seq, 0, data)
                    if reason is None
                    else Gap(boot_id, from_seq, to_seq, cast(LossReason, reason))
                )
                yield key, Record(key, item, attempted=True, made_ns=made_ns)

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
                    copies = [(copy, mark.boot_id, mark.last_seq, mark.service_ns) for copy in MARK_COPIES]
                    self._db.executemany("INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?)", copies)
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; what was not committed is gone."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()


def salvage(path: Path) -> tuple[list[Record], Mark | None]:
    """Read what is whole in a file whose first page is damaged: header and tables are the same in every outbox.

    Returns:
        The records and the mark that can be read; nothing where the damage lies elsewhere.
    """
    found: list[Record] = []
    mark = None
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(DamagedError, sqlite3.Error, OSError):
        pristine, copy = Path(folder, "pristine"), Path(folder, "copy")
        SqliteFile(pristine).close()
        first = bytearray(pristine.read_bytes()[:PAGE_BYTES])
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        first[28:32] = (copy.stat().st_size // PAGE_BYTES).to_bytes(4, "big")  # the number of pages
        with copy.open("r+b") as file:
            file.write(first)
        repaired = SqliteFile(copy)
        try:
            mark = repaired.mark()
            for record in repaired.records():
                found.append(record)  # noqa: PERF402 - what was read before the damage counts
        finally:
            repaired.close()
    return found, mark


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
        if any(word in str(error) for word in DAMAGE_WORDS):
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
    return zlib.crc32(repr(values).encode("utf-8", "surrogateescape"))
