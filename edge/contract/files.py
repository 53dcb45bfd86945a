"""A bundle's files are somebody's: only regular files are read, and no more of them than such a file may hold."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from edge.errors import BundleError

MANIFEST_MAX_BYTES: Final = 1 << 20
MODEL_MAX_BYTES: Final = 128 << 20
GOLDEN_MAX_BYTES: Final = 16 << 20
"""As it lies on the disk; unpacked see `edge.contract.golden.UNPACKED_MAX_BYTES`."""
DOCUMENT_MAX_BYTES: Final = 4 << 20
"""Of a signature, a model card, a report."""


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    A link is refused: it could show what only root may read. A pipe or a device could keep a reader for ever.

    Args:
        path: the file.
        max_bytes: more is refused before anything is read.

    Raises:
        BundleError: no regular file, too large, or unreadable.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        words = {errno.ELOOP: "a link, not a regular file", errno.ENXIO: "not a regular file"}
        raise BundleError(path, words.get(error.errno or 0) or error.strerror or str(error)) from None
    except ValueError as error:  # a null character in the name
        raise BundleError(path, str(error)) from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise BundleError(path, "not a regular file")
    with os.fdopen(handle, "rb") as file:
        if found.st_size > max_bytes:
            raise BundleError(path, f"{found.st_size:,} bytes; at most {max_bytes:,} are read")
        if found.st_nlink > 1 and not found.st_mode & stat.S_IROTH:
            raise BundleError(path, "a second name of a file that not everybody may read")
        try:
            return file.read(max_bytes)
        except OSError as error:
            raise BundleError(path, error.strerror or str(error)) from None
