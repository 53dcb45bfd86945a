"""What outlives a restart: where it is kept, and writing so that a reader finds the old file or the whole new one."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path


def state_directory() -> Path | None:
    """Where a service keeps what outlives a restart: as systemd gives it (``StateDirectory=``); None elsewhere."""
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


def replace_file(path: Path, data: bytes) -> None:
    """Writes beside a file's place, syncs, and renames over what is there.

    Raises:
        OSError: it cannot be written; what was there is untouched, and nothing lies beside it.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        write_synced(beside, data)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until a folder's entries are on the disk, where its file system can do that.

    Raises:
        OSError: the disk cannot keep them.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
