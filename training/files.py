"""Writing files so that a reader sees the old one or the whole new one."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from edge.errors import DataError


def write_file(path: Path, content: bytes) -> None:
    """Writes a file beside its place, syncs it and renames it; folders above are made.

    Raises:
        DataError: when the disk is full or cannot be written; what was there is untouched.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        reason = "no space left on the disk" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise DataError(path, f"cannot be written: {reason}") from error
