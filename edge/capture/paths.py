"""Errors of files and folders that cannot be read."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
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


def printable(path: str | Path) -> str:
    """Return a path as text that can be printed and encoded; bytes that are no UTF-8 are written ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def readable_name(path: Path) -> Iterator[str]:
    """Yield a name of a file that OpenCV can take: one that is no UTF-8 crashes it.

    Raises:
        OSError: the file cannot be opened.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        yield str(path)
