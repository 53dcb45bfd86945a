"""A picture, or a folder of them in the order of their names; every one stands for itself."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.capture.generated import NumberedSource
from edge.capture.paths import path_error, printable
from edge.config.schema import Section
from edge.errors import SourceError
from edge.images import UNREADABLE, decode_picture, is_picture, picture_kind
from edge.records import Image

LISTED = 5
"""Files of a folder that are named when they are left out."""
log = logging.getLogger(__name__)


class Options(Section, frozen=True):
    """``camera.options`` of pictures."""

    loop: Annotated[bool, Meta(description="begin again after the last picture")] = False


class PicturesSource(NumberedSource):
    """Pictures as frames, each a discontinuity, ``camera.fps`` of them a second."""

    def __init__(self, request: SourceRequest, *, paths: list[Path], loop: bool) -> None:
        super().__init__(request, count=len(paths), loop=loop)
        self._paths = paths

    @classmethod
    def open(cls, request: SourceRequest) -> PicturesSource:
        """List the pictures; read none yet.

        Raises:
            SourceNotFoundError: no such file or folder.
            SourcePermissionError: it may not be read.
            SourceError: a folder without files.
            ConfigError: an unknown or wrong option.
        """
        loop = request.options(Options).loop
        path = Path(request.target)
        try:
            path.stat()
            paths, left_out = _files_in(path) if path.is_dir() else ([path], [])
        except OSError as error:
            raise path_error(request.name, error) from None
        if left_out:
            log.warning("%s: left out %s", request.name, _listed(left_out))
        if not paths:
            raise SourceError(request.name, "there is no picture in this folder that can be read")
        return cls(request, paths=paths, loop=loop)

    def make_picture(self, index: int) -> tuple[Image, str]:
        """Read picture ``index``, turned as its EXIF says.

        Raises:
            SourceError: a file that is not a picture; the message names it.
        """
        path = self._paths[index]
        return read_picture(path), printable(path)

    def is_cut(self, number: int, index: int) -> bool:
        """Return True: every picture stands for itself."""
        return True


def read_picture(path: Path) -> Image:
    """Read a picture of any kind that OpenCV knows.

    Returns:
        (height, width, 3) uint8 BGR; see `edge.images.decode_picture`.

    Raises:
        SourceError: it cannot be read or is not a picture.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise path_error(printable(path), error) from None
    picture = decode_picture(encoded)
    if picture is None:
        known = picture_kind(path)
        problem = UNREADABLE.get(known or "") or "not a picture that OpenCV can read"
        raise SourceError(printable(path), problem if encoded else "the file is empty")
    return picture


def _files_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files that are pictures by name or content, sorted, and each other one with its reason.

    Hidden files and folders are passed over.
    """
    pictures, left_out = [], []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.is_dir():
            continue
        kind = picture_kind(entry)
        if kind in UNREADABLE:
            left_out.append(f"{printable(entry.name)} ({UNREADABLE[kind].partition(',')[0].partition(' that')[0]})")
        elif entry.is_file() and (kind is not None or is_picture(entry)):
            pictures.append(entry)
        else:
            left_out.append(f"{printable(entry.name)} (no picture)")
    return pictures, left_out


def _listed(names: list[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
