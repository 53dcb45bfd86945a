"""Writing files so that a reader sees the old one or the whole new one."""

from __future__ import annotations

import errno
from pathlib import Path

from edge.errors import DataError
from edge.system.files import replace_file


def write_file(path: Path, content: bytes) -> None:
    """Writes a file beside its place, syncs it and renames it; folders above are made.

    Raises:
        DataError: when the disk is full or cannot be written; what was there is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        reason = "no space left on the disk" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise DataError(path, f"cannot be written: {reason}") from error
