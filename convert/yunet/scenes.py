"""Calibration pictures for a face detector, composed from whatever pictures and clips a folder holds.

A detector's int8 ranges must have seen faces of every size it will find. Few collections of free pictures offer that,
so each scene takes one face of one picture, draws the size it shall have, scales the picture accordingly and fills
the canvas with it, repeated where it is smaller than the canvas. The same folder, count, seed and size give the same
bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.images import decode_picture, is_picture

CLIP_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4"})
FRAMES_PER_CLIP = 6
_SMALLEST_FACE_PX = 8.0
_LARGEST_FACE_SHARE = 0.85  # of the canvas' shorter side
_LARGEST_ENLARGEMENT = 4.0

Picture = NDArray[np.uint8]
FindFaces = Callable[[Picture], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Source:
    """A picture with faces.

    Attributes:
        name: file name, with ``#frame`` after it where the picture comes out of a clip.
        picture: uint8 (height, width, 3), BGR.
        faces: float32 (n, 4), n >= 1, xyxy in pixels.
    """

    name: str
    picture: Picture
    faces: NDArray[np.float32]


def read_sources(folder: Path, find_faces: FindFaces) -> list[Source]:
    """Reads all pictures of a folder and a few frames of each clip, and keeps those that show a face.

    Args:
        folder: searched recursively, in order of the relative path.
        find_faces: gives the xyxy boxes of the faces of a BGR picture.

    Raises:
        DataError: the folder is missing, a file cannot be read, or no picture shows a face.
    """
    if not folder.is_dir():
        raise DataError(folder, "no such folder of calibration pictures")
    sources = []
    for path in sorted(folder.rglob("*")):
        if is_picture(path):
            pictures = [_read_picture(path)]
        elif path.suffix.lower() in CLIP_SUFFIXES:
            pictures = _read_frames(path)
        else:
            continue
        name = path.relative_to(folder).as_posix()
        for index, picture in enumerate(pictures):
            faces = find_faces(picture)
            if len(faces):
                sources.append(Source(name if len(pictures) == 1 else f"{name}#{index}", picture, faces))
    if not sources:
        raise DataError(folder, "no calibration picture in it shows a face")
    return sources


def _read_picture(path: Path) -> Picture:
    picture = decode_picture(path.read_bytes()) if path.is_file() else None
    if picture is None:
        raise DataError(path, "not a picture that can be read")
    return picture


def _read_frames(path: Path) -> list[Picture]:
    """Frames spread evenly over a clip, the first and the last left out."""
    clip = cv2.VideoCapture(str(path))
    frames: list[Picture] = []
    while True:
        ok, frame = clip.read()
        if not ok:
            break
        frames.append(np.asarray(frame, np.uint8))
    clip.release()
    if not frames:
        raise DataError(path, "not a clip that can be read")
    at = np.linspace(0, len(frames) - 1, FRAMES_PER_CLIP + 2).round().astype(int)[1:-1]
    return [frames[i] for i in dict.fromkeys(at.tolist())]


def compose_scenes(sources: Sequence[Source], *, count: int, size_wh: tuple[int, int], seed: int = 0) -> list[Picture]:
    """Composes scenes in which faces of all sizes occur.

    Face sizes are drawn log-uniformly from 8 px to 85 % of the shorter side, stratified over the scenes; place,
    mirroring, gain and the loss of colour are drawn too. One black and one white pixel fix the range of the input at
    0..255.

    Args:
        sources: pictures with faces, used in turn.
        count: number of scenes.
        size_wh: width and height in pixels of a scene.
        seed: of the drawing.

    Returns:
        `count` uint8 pictures (height, width, 3), BGR.
    """
    rng = np.random.default_rng(seed)
    largest = _LARGEST_FACE_SHARE * min(size_wh)
    strata = (rng.permutation(count) + rng.random(count)) / count
    face_px = _SMALLEST_FACE_PX * (largest / _SMALLEST_FACE_PX) ** strata
    order = np.concatenate([rng.permutation(len(sources)) for _ in range(count // len(sources) + 1)])
    return [_compose(sources[int(order[i])], face_px=float(face_px[i]), size_wh=size_wh, rng=rng) for i in range(count)]


def _compose(source: Source, *, face_px: float, size_wh: tuple[int, int], rng: np.random.Generator) -> Picture:
    width, height = size_wh
    x0, y0, x1, y1 = source.faces[rng.integers(len(source.faces))]
    scale = min(face_px / float(min(x1 - x0, y1 - y0)), _LARGEST_ENLARGEMENT)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(source.picture, None, fx=scale, fy=scale, interpolation=interpolation)
    # The face's centre comes to lie in the middle 80 % of the canvas.
    left = float(x0 + x1) / 2 * scale - width * rng.uniform(0.1, 0.9)
    top = float(y0 + y1) / 2 * scale - height * rng.uniform(0.1, 0.9)
    rows = (np.arange(height) + round(top)) % picture.shape[0]
    columns = (np.arange(width) + round(left)) % picture.shape[1]
    if rng.random() < 0.5:
        columns = columns[::-1]
    scene = picture[rows[:, None], columns[None]].astype(np.float32)
    if rng.random() < 0.15:
        scene[:] = scene.mean(axis=2, keepdims=True)
    result: Picture = np.clip(scene * rng.uniform(0.4, 1.3), 0, 255).round().astype(np.uint8)
    result[0, 0], result[0, 1] = 0, 255
    return result


def hash_scenes(scenes: Sequence[Picture]) -> str:
    """SHA-256 (hex) over the scenes' shapes and pixels, in order."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(repr(scene.shape).encode())
        digest.update(scene.tobytes())
    return digest.hexdigest()
