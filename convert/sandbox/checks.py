"""Looks at a model file before anything parses it: a regular file of bounded size that leads nowhere else."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from pathlib import Path
from typing import Final

from edge.errors import ModelFileError

MAX_BYTES: Final = 2 << 30
"""Of a model file, of a folder's files together, and of what a file unpacks to."""
MAX_MEMBERS: Final = 10_000
MAX_TEXT_BYTES: Final = 16 << 20
"""Of a text inside an archive."""
MAX_DEPTH: Final = 200
"""Of nested lists and dictionaries; Keras reads its configuration by recursion."""
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def check_model_file(path: Path) -> None:
    """Refuse what no model can be read from: nothing is opened but a regular file or a folder of such.

    Args:
        path: a model file, or a folder with a SavedModel.

    Raises:
        ModelFileError: missing, a pipe or device, empty, too large, an archive that unpacks to too much, or a folder
            with a link that leaves it.
    """
    try:
        if path.is_dir():
            _check_folder(path)
        else:
            size = check_regular(path)
            if path.suffix.lower() == ".keras":
                _check_archive(path)
            if not size:
                raise ModelFileError(path, "is empty")
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from None


def check_regular(path: Path, *, most: int = MAX_BYTES) -> int:
    """Return a file's size in bytes.

    Raises:
        ModelFileError: missing, no regular file, or larger than ``most``.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise ModelFileError(path, "no such file or folder") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(path, getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "a folder")
        raise ModelFileError(path, f"is {kind}; a regular file is needed")
    _check_size(path, found.st_size, most=most)
    return found.st_size


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a file that lies outside of a folder, followed through its links.

    Raises:
        ModelFileError: it does.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelFileError(path, f"leads out of the folder {folder}")


def check_depth(text: bytes, path: Path, *, what: str) -> None:
    """Refuse JSON that is nested deeper than a model's description is.

    Raises:
        ModelFileError: deeper than `MAX_DEPTH`.
    """
    depth = 0
    for token in _TOKENS.finditer(text):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise ModelFileError(path, f"{what} is nested more than {MAX_DEPTH} deep")


def _check_size(path: Path, size: int, *, most: int = MAX_BYTES, what: str = "has") -> None:
    if size > most:
        raise ModelFileError(path, f"{what} {size / 1e9:.1f} GB; {most / 1e9:.1f} GB are the most")


def _check_folder(folder: Path) -> None:
    total = count = 0
    for parent, folders, files in os.walk(folder):
        for name in folders:
            check_inside(Path(parent, name), folder)
        for name in files:
            check_inside(Path(parent, name), folder)
            total, count = total + check_regular(Path(parent, name)), count + 1
            if count > MAX_MEMBERS:
                raise ModelFileError(folder, f"more than {MAX_MEMBERS:,} files; a SavedModel has a few")
    _check_size(folder, total)


def _check_archive(path: Path) -> None:
    """Refuse a zip file that unpacks to too much, has names that lead out of it, or JSON that is nested too deep."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise ModelFileError(path, f"{len(members):,} parts; {MAX_MEMBERS:,} are the most")
            _check_size(path, sum(member.file_size for member in members), what="unpacks to")
            for member in members:
                if member.filename.startswith("/") or ".." in Path(member.filename).parts:
                    raise ModelFileError(path, f"{member.filename!r} leads out of the archive")
                if member.filename.endswith(".json"):
                    _check_size(path, member.file_size, most=MAX_TEXT_BYTES, what=f"{member.filename} unpacks to")
                    check_depth(archive.read(member), path, what=member.filename)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(path, f"not a .keras file: {error}") from None
