"""Finding and decoding picture files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from edge import images
from edge.errors import DataError
from edge.records import Image


def find_pictures(folder: Path) -> Iterator[Path]:
    """All picture files below ``folder`` in a fixed order; hidden files and folders are passed over."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        above = Path(parent)
        for name in sorted(files):
            if name.lower().endswith(images.PICTURE_SUFFIXES) and not name.startswith("."):
                yield above / name


def unread_pictures(folder: Path) -> dict[str, int]:
    """Return why `find_pictures` passes over pictures below ``folder``, and how many; a link counts as one."""
    found: Counter[str] = Counter()
    for parent, folders, files in os.walk(folder):
        above = Path(parent)
        found["linked folders, not followed"] += sum((above / name).is_symlink() for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in files:
            suffix = Path(name).suffix.lower()
            if suffix in images.PICTURE_SUFFIXES or name.startswith("."):
                continue
            if images.picture_kind(above / name):
                found[
                    f"pictures with the suffix {suffix}, not read" if suffix else "pictures without suffix, not read"
                ] += 1
    return {reason: count for reason, count in sorted(found.items()) if count}


def all_pictures(folder: Path, matches: Callable[[Path], object]) -> bool:
    """Whether there are pictures below ``folder`` and every one of them matches; stops at the first that does not."""
    if not folder.is_dir():
        return False
    verdicts = (bool(matches(picture)) for picture in find_pictures(folder))
    return next(verdicts, False) and all(verdicts)


def read_picture(path: Path) -> Image:
    """Decodes one file.

    Returns:
        (height, width) uint8 where the file is grey, else (height, width, 3) uint8 BGR; transparency is ignored.

    Raises:
        DataError: for a file that cannot be read or is no picture.
    """
    try:
        return decode_picture(path.read_bytes(), path)
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error


def decode_picture(encoded: bytes, source: str | Path) -> Image:
    """Decodes one encoded picture; see `read_picture`.

    Args:
        encoded: the file's bytes.
        source: what to call it in an error.
    """
    image = images.decode_picture(encoded, keep_grey=True)
    if image is None:
        known = " ".join(images.PICTURE_SUFFIXES)
        raise DataError(source, f"{len(encoded)} bytes that are no picture ({known}), or a damaged one")
    return image
