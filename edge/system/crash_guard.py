"""What was begun and never ended: remembered on the disk, so that what crashes a process is not tried for ever.

Before something that may take the process down, `CrashGuard.begin` is written and synced; `end` or `confirm` take it
back. An attempt that is still open when the next process looks was the end of its process (or the power went): it
counts as a failure.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from edge.system.files import DamagedFileError, decode_json, replace_file, state_directory

log = logging.getLogger(__name__)

FILE: Final = "attempts.json"
ENTRIES_MAX: Final = 32
"""More than so many are forgotten, the oldest first."""
FAILURES_MAX: Final = 1000
DAMAGED: Final = ".damaged"
"""Suffix of a file that could not be read; the newest of these is kept."""


class CrashRecord(msgspec.Struct, forbid_unknown_fields=True):
    """One thing that may take the process down.

    Attributes:
        failures: attempts in a row that ended with their process.
        open: begun and not ended yet.
        confirmed: it worked once.
        at: when it was begun, or found to have failed; seconds since 1970 by this machine's clock.
    """

    failures: Annotated[int, Meta(ge=0, le=FAILURES_MAX)] = 0
    open: bool = False
    confirmed: bool = False
    at: Annotated[float, Meta(ge=0, le=1e11)] = 0.0


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema: Literal["mien.attempts/1"]
    entries: dict[str, CrashRecord]


class CrashGuard:
    """The attempts of one service. May be called from any thread.

    Attributes:
        writable: whether what is begun now will be known after a crash; false without a folder, too.
    """

    def __init__(self, folder: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        """Reads what an earlier process left behind, and counts what it left open as failed.

        Args:
            folder: of the file; None keeps everything in memory.
            clock: seconds since 1970.
        """
        self._path = None if folder is None else folder / FILE
        self._clock = clock
        self._lock = threading.Lock()
        self._entries = self._read()
        self.writable = self._path is not None
        left_open = [entry for entry in self._entries.values() if entry.open]
        for entry in left_open:
            entry.open, entry.at = False, clock()
            entry.failures = min(entry.failures + 1, FAILURES_MAX)
        if left_open:
            self._write()

    @classmethod
    def of_service(cls) -> CrashGuard:
        """Those of the service that runs here: in ``$STATE_DIRECTORY``, which systemd sets; else in memory."""
        return cls(state_directory())

    @property
    def is_kept(self) -> bool:
        """Whether there is a folder to keep them in."""
        return self._path is not None

    def find(self, key: str) -> CrashRecord:
        """What is known of a thing; a copy."""
        with self._lock:
            return msgspec.structs.replace(self._entries.get(key, CrashRecord()))

    def begin(self, key: str) -> None:
        """Says that a thing is going to be tried; on the disk when this returns, if it can be."""
        with self._lock:
            entry = self._entries.setdefault(key, CrashRecord())
            entry.open, entry.at = True, self._clock()
            self._write()

    def end(self, key: str) -> None:
        """The attempt is over, and the process lives; its failures before stay counted."""
        self._close(key)

    def confirm(self, key: str) -> None:
        """It works: the attempt is over and its failures are forgotten."""
        self._close(key, failures=0, confirmed=True)

    def forgive(self, key: str) -> None:
        """It went well for long: its failures are forgotten, but it stays open."""
        with self._lock:
            if key in self._entries:
                self._entries[key].failures = 0
                self._write()

    def _close(self, key: str, *, failures: int | None = None, confirmed: bool = False) -> None:
        with self._lock:
            entry = self._entries.setdefault(key, CrashRecord())
            entry.open = False
            entry.failures = entry.failures if failures is None else failures
            entry.confirmed = entry.confirmed or confirmed
            self._write()

    def _read(self) -> dict[str, CrashRecord]:
        if self._path is None:
            return {}
        try:
            raw = self._path.read_bytes()
            return decode_json(raw, _File).entries if raw else {}
        except FileNotFoundError:
            return {}
        except (OSError, DamagedFileError) as error:
            aside = self._path.with_name(self._path.name + DAMAGED)
            log.warning("%s: %s; it is now %s, and a new one is begun", self._path, error, aside.name)
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            return {}

    def _write(self) -> None:
        """Replaces the file; a power cut leaves the old one or the new one."""
        newest = sorted(self._entries.items(), key=lambda item: item[1].at)[-ENTRIES_MAX:]
        self._entries = dict(newest)
        if self._path is None:
            return
        try:
            replace_file(self._path, msgspec.json.encode(_File("mien.attempts/1", self._entries)))
        except OSError as error:
            if self.writable:
                log.warning("%s: %s; a crash will not be remembered", self._path, error.strerror or error)
            self.writable = False
        else:
            self.writable = True
