"""A picture, or a folder of them in the order of their names; every one stands for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.capture.generated import NumberedSource
from edge.capture.paths import path_error
from edge.config.schema import Section
from edge.errors import SourceError
from edge.images import decode_picture, is_picture
from edge.records import Image


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
            paths = _files_in(path) if path.is_dir() else [path]
        except OSError as error:
            raise path_error(request.name, error) from None
        if not paths:
            raise SourceError(request.name, "there is no picture in this folder")
        return cls(request, paths=paths, loop=loop)

    def make_picture(self, index: int) -> tuple[Image, str]:
        """Read picture ``index``, turned as its EXIF says.

        Raises:
            SourceError: a file that is not a picture; the message names it.
        """
        path = self._paths[index]
        return read_picture(path), str(path)

    def is_cut(self, number: int, index: int) -> bool:
        """Return True: every picture stands for itself."""
        return True


def read_picture(path: Path) -> Image:
    """Read a picture of any kind that OpenCV knows.

    Returns:
        (height, width, 3) uint8 BGR, turned as its EXIF says; grey is spread, alpha dropped, 16 bits cut to 8.

    Raises:
        SourceError: it cannot be read or is not a picture.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise path_error(path, error) from None
    picture = decode_picture(encoded)
    if picture is None:
        raise SourceError(path, "not a picture that OpenCV can read" if encoded else "the file is empty")
    return picture


def _files_in(folder: Path) -> list[Path]:
    """Files named like pictures, sorted; hidden files and all others are left out."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in entries if is_picture(entry) and entry.is_file())
