"""What the machine itself says: memory, temperature, name."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
from pathlib import Path

_M_ARENA_MAX = -8


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def limit_malloc_arenas(count: int) -> None:
    """Makes glibc's threads share ``count`` heaps, which saves some megabytes; elsewhere nothing happens.

    mallopt(3), ``M_ARENA_MAX``; to be called before the threads start.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, count)


def machine_id() -> str:
    """What tells this machine from one that runs a copy of its card: a board's serial number, else the system's id."""
    for file in (Path("/proc/device-tree/serial-number"), Path("/etc/machine-id")):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if text := file.read_text().strip("\0\n "):
                return hashlib.sha256(text.encode()).hexdigest()[:16]
    return ""


def board_name() -> str | None:
    """Model of the board or computer; None where it is not known."""
    for file in (Path("/proc/device-tree/model"), Path("/sys/class/dmi/id/product_name")):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if text := file.read_text().strip("\0\n "):
                return text[:64]
    return None


def machine_name() -> str:
    """Board, or processor and number of cores, as a report names the machine."""
    board = Path("/proc/device-tree/model")
    if board.is_file():
        return board.read_text().strip("\0\n")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"
