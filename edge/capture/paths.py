"""Errors of files and folders that cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge.errors import SourceError, SourceNotFoundError, SourcePermissionError


def path_error(source: str | Path, error: OSError) -> SourceError:
    """Return the error of the tree for a failed system call on a path."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceNotFoundError(source, "there is no such file or folder")
    if error.errno in (errno.EACCES, errno.EPERM):
        return SourcePermissionError(source, "this user may not read it")
    return SourceError(source, error.strerror or str(error))


def check_file(path: Path, *, name: str) -> None:
    """Raise unless a path is a file with something in it that this user may read.

    Raises:
        SourceNotFoundError: there is none.
        SourcePermissionError: it may not be read.
        SourceError: a folder, or empty.
    """
    try:
        with path.open("rb") as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise path_error(name, error) from None
    if size_bytes == 0:
        raise SourceError(name, "the file is empty")
