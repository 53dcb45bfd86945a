"""``mien-train predict``: what a run or a bundle sees in any picture, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from convert.datasets.face_cut import MIN_PX, cut_faces
from convert.datasets.pictures import find_pictures, read_picture
from convert.datasets.samples import printable
from edge.commands.render import render
from edge.contract.crop import cut_square, square_box
from edge.contract.preprocess import resize, to_grey
from edge.contract.scores import softmax
from edge.errors import DataError, UsageError
from edge.records import FaceState, Floats, Image, Quality, Track
from training.evaluate.models import EvaluatedModel, Pixels
from training.files import write_file


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one face.

    Attributes:
        xywh: of the face in the picture's pixels; the whole picture where it is a cut face already.
        whole: whether it is.
        scores: (labels,) float32 probabilities, in the model's order.
    """

    xywh: tuple[float, float, float, float]
    whole: bool
    scores: Floats


def predict_picture(model: EvaluatedModel, image: Image) -> list[Prediction]:
    """Return what a model says of each face of a picture, the largest first.

    Args:
        model: the model.
        image: (height, width[, 3]) uint8, grey or BGR.
    """
    found: list[tuple[tuple[float, float, float, float], bool, Image]] = []
    for face in cut_faces(image, every=True, min_px=1):
        if face.state == "whole":
            found.append(((0.0, 0.0, float(image.shape[1]), float(image.shape[0])), True, image))
        elif face.xywh is not None:
            found.append((face.xywh, False, cut_square(image, square_box(face.xywh, margin=model.margin))))
    if not found:
        return []
    pixels = np.stack([_model_input(model, square) for _, _, square in found])
    scores = softmax(model.logits(pixels), temperature=model.temperature)
    return [Prediction(xywh, whole, row) for (xywh, whole, _), row in zip(found, scores, strict=True)]


def predict_files(model: EvaluatedModel, photographs: Sequence[Path], *, out: Path) -> list[str]:
    """Write each picture with what the model says drawn on it, and return a line a face.

    Args:
        model: the model.
        photographs: files, or folders with folders.
        out: folder of the drawn pictures; earlier ones of the same name are replaced.

    Raises:
        UsageError: a drawn picture would replace one that is read.
        DataError: no such file, no picture, or one that cannot be read.
    """
    pictures = [picture for path in photographs for picture in _pictures_of(path)]
    if not pictures:
        raise DataError(photographs[0], "no picture")
    taken: set[Path] = set()
    places = [_place(out, picture.stem, taken) for picture in pictures]
    read = {picture.resolve() for picture in pictures}
    if over := next((file for file in places if file.resolve() in read), None):
        raise UsageError(f"--out {out}: {over} is a picture that is read; use another folder")
    lines: list[str] = []
    for picture, file in zip(pictures, places, strict=True):
        image = read_picture(picture)
        said = predict_picture(model, image)
        lines += [f"{printable(str(picture))}: {_words(model, face)}" for face in said]
        if not said:
            lines.append(f"{printable(str(picture))}: no face found")
        drawn = render(_coloured(image), [_state(model, face) for face in said])
        encoded: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = cv2.imencode(".png", drawn)[1]
        write_file(file, encoded.tobytes())
    return lines


def _pictures_of(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(path, "no such file or folder")
    return list(find_pictures(path)) if path.is_dir() else [path]


def _place(out: Path, name: str, taken: set[Path]) -> Path:
    """Return a file of this name that no other picture of this call has."""
    file, number = out / f"{name}.png", 1
    while file in taken:
        number += 1
        file = out / f"{name}_{number}.png"
    taken.add(file)
    return file


def _model_input(model: EvaluatedModel, square: Image) -> Pixels:
    side = (model.size_px, model.size_px)
    if model.colour == "grey":
        return resize(to_grey(square), side)[:, :, np.newaxis]
    pixels = resize(_coloured(square), side)
    return pixels[:, :, ::-1] if model.colour == "rgb" else pixels


def _coloured(image: Image) -> Image:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image  # type: ignore[return-value]


def _words(model: EvaluatedModel, face: Prediction) -> str:
    order = np.argsort(-face.scores)
    said = ", ".join(f"{model.labels[index]} {face.scores[index]:.0%}" for index in order[:3])
    if face.whole:
        return f"{said}; taken whole"
    x, y, w, h = map(round, face.xywh)
    small = f"; lower than {MIN_PX} px" if face.xywh[3] < MIN_PX else ""
    return f"{said}; face at {x},{y} of {w}x{h} px{small}"


def _state(model: EvaluatedModel, face: Prediction) -> FaceState:
    """Return a face as the device's drawing takes it; what a single picture does not have is nought."""
    best = int(face.scores.argmax())
    landmarks = np.zeros((5, 2), np.float32)
    return FaceState(
        track=Track("", face.xywh, landmarks, score=1.0, observed=True, first_ns=0, last_seen_ns=0),
        scores=face.scores,
        smoothed=face.scores,
        emotion=model.labels[best],
        confidence=float(face.scores[best]),
        reason=None,
        since_ns=0,
        evidence_frames=1,
        quality=Quality(face_px=min(face.xywh[2:]), blur=0.0, yaw=0.0, brightness=0.5),
    )
