"""Faces of whole photographs, found by the device's own detector and cut by the device's own geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import cv2

from convert.datasets.dataset import Dropped, Images, stack_images
from edge.bundles.locate import find_bundle
from edge.config.schema import DetectConfig
from edge.contract.bundle import load_detect_bundle
from edge.contract.crop import MEASURED_MARGIN, cut_square, square_box
from edge.detect import open_detector
from edge.detect.base import FaceDetector
from edge.infer import load_model
from edge.records import Faces, Frame, Image

MIN_PX: Final = 24
"""Faces whose box is lower are left out: below it no picture of a face can be judged."""
ALREADY_CUT_PX: Final = 128
"""Square pictures up to this side are cut faces: in them a detector that looks for whole faces often finds none."""
_FILLS: Final = 0.8
"""A square picture whose only face is at least so high, as a share of its side, is a cut face."""
_SMALL_PX: Final = 640
"""Pictures up to this side are searched by the small detector, larger ones by the large one."""

State = Literal["cut", "whole", "left out"]


@dataclass(frozen=True, slots=True)
class FoundFace:
    """What became of one face, or of a picture without one.

    Attributes:
        state: ``cut``; ``whole``: the picture is a cut face already; ``left out``.
        reason: why it is whole or left out; empty for a cut face.
        image: (side, side[, 3]) uint8, the square at the picture's own resolution; the whole picture where no face is
            known.
        xywh: of the face in the picture's pixels; None where none is known.
    """

    state: State
    reason: str
    image: Image
    xywh: tuple[float, float, float, float] | None = None


def find_faces(image: Image) -> Faces:
    """Return the faces of a picture, by the detector that ships.

    Args:
        image: (height, width[, 3]) uint8, grey or BGR.
    """
    coloured: Image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image  # type: ignore[assignment]
    name = "yunet-640x480" if max(image.shape[:2]) <= _SMALL_PX else "yunet-1280x960"
    return _detector(name).detect(Frame(coloured, 0, 0, "picture"))


def cut_faces(image: Image, *, every: bool = False, min_px: int = MIN_PX) -> list[FoundFace]:
    """Return what becomes of a picture's faces, the largest first.

    Args:
        image: (height, width[, 3]) uint8, grey or BGR.
        every: cut all faces; otherwise the largest alone: one label cannot be of several faces.
        min_px: least height of a face's box.
    """
    height, width = image.shape[:2]
    is_square = height == width
    if is_square and height <= ALREADY_CUT_PX:
        return [FoundFace("whole", f"square and at most {ALREADY_CUT_PX} px: a cut face already", image)]
    faces = find_faces(image)
    boxes = sorted((tuple(map(float, box)) for box in faces.xywh), key=lambda box: -box[3])
    if not boxes:
        return [FoundFace("left out", "no face found", image)]
    if is_square and len(boxes) == 1 and boxes[0][3] >= _FILLS * height:
        return [FoundFace("whole", "one face fills it: a cut face already", image, _four(boxes[0]))]
    found = [_cut(image, _four(box), number, every=every, min_px=min_px) for number, box in enumerate(boxes)]
    if faces.bound_hit:
        found.append(FoundFace("left out", "more faces than are looked for in one picture", image))
    return found


def cut_labelled(name: str, images: Images) -> tuple[Images, list[int], tuple[Dropped, ...]]:
    """Return the largest face of each picture, the rows that have one, and what was left out.

    Args:
        name: of the data set.
        images: see `Images`.
    """
    kept, rows, reasons = [], [], list[str]()
    for row, image in enumerate(images):
        found = cut_faces(image)
        for face in found:
            if face.state == "left out":
                reasons.append(face.reason)
            else:
                kept.append(face.image)
                rows.append(row)
    dropped = tuple(Dropped(name, reason, reasons.count(reason)) for reason in dict.fromkeys(reasons))
    return stack_images(kept), rows, dropped


def count_states(found: Sequence[FoundFace]) -> dict[str, int]:
    """Return how many faces were cut, taken whole, and left out for each reason."""
    said = [face.state if face.state != "left out" else f"left out: {face.reason}" for face in found]
    return {what: said.count(what) for what in dict.fromkeys(said)}


def _cut(image: Image, xywh: tuple[float, float, float, float], number: int, *, every: bool, min_px: int) -> FoundFace:
    square = cut_square(image, square_box(xywh, margin=MEASURED_MARGIN))
    if xywh[3] < min_px:
        return FoundFace("left out", f"a face lower than {min_px} px", square, xywh)
    if number and not every:
        return FoundFace("left out", "not the largest face of its picture", square, xywh)
    return FoundFace("cut", "", square, xywh)


def _four(box: tuple[float, ...]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x, y, w, h


@cache
def _detector(name: str) -> FaceDetector:
    bundle = load_detect_bundle(find_bundle(name))
    config = DetectConfig(max_faces=1000)
    network = load_model(bundle).interpreter
    return open_detector(config, score=config.score, manifest=bundle.manifest, network=network)
