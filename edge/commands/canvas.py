"""Where `mien replay --render` draws: a video, a picture or a folder of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import cv2

from edge.capture.opencv import silence
from edge.commands.render import render
from edge.contract.preprocess import resize
from edge.errors import UsageError
from edge.images import PICTURE_SUFFIXES, is_picture
from edge.records import Image, Step
from edge.system.files import open_replacing, replacing

CODECS: Final[Mapping[str, tuple[str, ...]]] = {
    ".mp4": ("avc1", "vp09", "mp4v"),
    ".webm": ("VP90",),
    ".mkv": ("avc1", "VP90", "mp4v"),
    ".mov": ("avc1", "mp4v"),
    ".avi": ("MJPG",),
}
"""Suffix of a video to codecs, the best one first. OpenCV's wheels write no H.264; browsers play VP9, but not mp4v."""


class Canvas:
    """Take the steps of a replay and draw them."""

    def add(self, step: Step) -> None:
        """Draw a step."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was drawn so far."""


class VideoCanvas(Canvas):
    """A video of the rendered frames; frames of another size are fitted to the first one's.

    The file appears under its name when it is closed, with what was drawn until then.
    """

    def __init__(self, path: Path, *, fps: float) -> None:
        self._path, self._fps = path, fps
        self._open = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def add(self, step: Step) -> None:
        """Draw a step."""
        if self._writer is None:
            self._begin(step.frame.size_wh)
        assert self._writer is not None
        picture = render(step.frame.image, step.faces)
        self._writer.write(_even(picture if step.frame.size_wh == self._size_wh else resize(picture, self._size_wh)))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            try:
                self._open.close()
            except OSError as error:
                raise UsageError(f"--render: {self._path}: {error.strerror or error}") from None

    def _begin(self, size_wh: tuple[int, int]) -> None:
        suffix = self._path.suffix.lower()
        try:
            beside = self._open.enter_context(replacing(self._path, suffix=suffix))
            beside.touch()  # says why where it cannot be written; OpenCV does not
        except OSError as error:
            raise UsageError(f"--render: {self._path}: {error.strerror or error}") from None
        self._size_wh = size_wh
        padded = (size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2)
        for codec in CODECS[suffix]:
            with silence():
                writer = cv2.VideoWriter(str(beside), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), self._fps, padded)
            if writer.isOpened():
                self._writer = writer
                return
            writer.release()
        beside.unlink(missing_ok=True)
        raise UsageError(f"--render: {self._path}: OpenCV has no encoder for {suffix} here; write .avi or a folder")


class FolderCanvas(Canvas):
    """A folder of the rendered frames as pictures, named after their source or number; no name is used twice."""

    def __init__(self, folder: Path, *, stills: bool) -> None:
        self._folder, self._names, self._stills = folder, set[str](), stills
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--render: {folder}: {error.strerror or error}") from None

    def add(self, step: Step) -> None:
        """Draw a step."""
        _write_picture(self._folder / self._name(step), step)

    def _name(self, step: Step) -> str:
        source = Path(step.frame.source)
        stem = source.stem if self._stills else f"frame_{step.frame.number:06d}"
        choices = [f"{stem}.png", f"{source.name}.png"]  # a.jpg beside a.png
        choices += [f"{stem}_{step.frame.number}.png"]
        name = next(choice for choice in choices if choice.lower() not in self._names)
        self._names.add(name.lower())
        return name


class PictureCanvas(Canvas):
    """A picture of the last rendered frame."""

    def __init__(self, path: Path) -> None:
        self._path, self._last = path, list[Step]()

    def add(self, step: Step) -> None:
        """Keep a step."""
        self._last = [step]

    def close(self) -> None:
        """Draw the last one."""
        for step in self._last:
            _write_picture(self._path, step)


def open_canvas(path: Path, *, fps: float, stills: bool) -> Canvas:
    """Return where rendered frames go, by the name of the path.

    Args:
        path: ends like a video or a picture, or is a folder.
        fps: of the source, for a video.
        stills: whether the frames are pictures with names of their own.

    Raises:
        UsageError: it is neither a folder nor named like a video or a picture that can be written.
    """
    if path.suffix.lower() in CODECS:
        return VideoCanvas(path, fps=fps)
    if is_picture(path) and cv2.haveImageWriter(path.name):
        return PictureCanvas(path)
    if not path.suffix or path.is_dir():
        return FolderCanvas(path, stills=stills)
    known = " ".join((*CODECS, *PICTURE_SUFFIXES))
    raise UsageError(f"--render: {path.name} is neither a folder nor one of {known}")


def _write_picture(path: Path, step: Step) -> None:
    encoded, data = cv2.imencode(path.suffix, render(step.frame.image, step.faces))
    if not encoded:
        raise UsageError(f"--render: {path} cannot be encoded")
    try:
        with open_replacing(path) as file:
            file.write(data.tobytes())
    except OSError as error:
        raise UsageError(f"--render: {path}: {error.strerror or error}") from None


def _even(picture: Image) -> Image:
    """Return a picture with an even width and height, which video needs; the last row and column are repeated."""
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return picture
    return cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)  # type: ignore[return-value]
