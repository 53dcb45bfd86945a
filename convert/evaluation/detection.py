"""Pictures with the boxes of all their faces, and the average precision of found boxes against them: numpy and cv2."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from edge.errors import DataError
from edge.images import decode_picture
from edge.records import Faces, Image

BOXES_FILE: Final = "boxes.json"
PICTURES_FOLDER: Final = "images"
IOU_LIMIT: Final = 0.5
"""A found box of at least this overlap with a true one is that face."""
Reals = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class _Face(msgspec.Struct, frozen=True):
    """What else the file says of a face (its difficulty) is not needed."""

    xywh: tuple[float, float, Annotated[float, Meta(ge=0)], Annotated[float, Meta(ge=0)]]


class _Row(msgspec.Struct, frozen=True):
    file: str
    faces: tuple[_Face, ...]


class _BoxesFile(msgspec.Struct, frozen=True):
    images: tuple[_Row, ...]


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture and all its faces.

    Attributes:
        name: of the file.
        image: uint8 (height, width, 3), BGR.
        xywh: (faces, 4) float64, pixels of the picture.
    """

    name: str
    image: Image
    xywh: Reals


@dataclass(frozen=True, slots=True)
class BoxSet:
    """Labelled pictures.

    Attributes:
        name: of their folder.
        sha256: over the boxes and the pictures' files, in order.
        pictures: in the order of the file.
    """

    name: str
    sha256: str
    pictures: tuple[LabelledPicture, ...]


def read_boxes(folder: Path) -> BoxSet:
    """Reads ``boxes.json`` and the pictures in ``images/`` beside it.

    The file: ``{"images": [{"file": name, "faces": [{"xywh": [x, y, width, height]}]}]}``, pixels of the picture.

    Raises:
        DataError: missing or damaged files, or no face at all.
    """
    path = folder / BOXES_FILE
    try:
        raw = path.read_bytes()
        found = msgspec.json.decode(raw, type=_BoxesFile)
    except OSError as error:
        raise DataError(path, f"{error.strerror}; wanted a folder with {BOXES_FILE} and {PICTURES_FOLDER}/") from None
    except msgspec.DecodeError as error:
        raise DataError(path, str(error)) from None
    if not any(row.faces for row in found.images):
        raise DataError(path, "no face in it")
    digest, pictures = hashlib.sha256(raw), []
    for row in found.images:
        encoded, image = _read_picture(folder / PICTURES_FOLDER / row.file)
        digest.update(encoded)
        xywh = np.array([face.xywh for face in row.faces], np.float64).reshape(-1, 4)
        pictures.append(LabelledPicture(row.file, image, xywh))
    return BoxSet(folder.resolve().name, digest.hexdigest(), tuple(pictures))


def _read_picture(path: Path) -> tuple[bytes, Image]:
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise DataError(path, error.strerror or str(error)) from None
    image = decode_picture(encoded)
    if image is None:
        raise DataError(path, "not a picture that can be read")
    return encoded, image


@dataclass(frozen=True, slots=True)
class Detected:
    """The found boxes of a set of pictures that count, right or wrong, best first.

    Attributes:
        scores: (n,) falling.
        hits: (n,) bool, whether the box is a true face.
        pictures: (n,) which picture it was found on.
        totals: (pictures,) true faces that count on each picture.
    """

    scores: Reals
    hits: npt.NDArray[np.bool_]
    pictures: Ints
    totals: Ints


def match_all(truth: Sequence[Reals], found: Sequence[Faces], *, min_px: float) -> Detected:
    """Matches found boxes to true ones, picture by picture.

    A face's size is its shorter side. Best first, a found box takes the free true box that it overlaps most, if by
    `IOU_LIMIT`. True faces below ``min_px`` are ignored: a box that takes one counts neither way, and so does a box
    below ``min_px`` that takes none.

    Args:
        truth: per picture (faces, 4) xywh.
        found: per picture what the detector found.
        min_px: smallest face that counts, pixels of the picture.
    """
    scores: list[float] = []
    hits: list[bool] = []
    owners: list[int] = []
    for index, (true, faces) in enumerate(zip(truth, found, strict=True)):
        for score, hit in _match(true, faces, min_px):
            scores.append(score)
            hits.append(hit)
            owners.append(index)
    order = np.argsort(-np.array(scores, np.float64), kind="stable")
    totals = np.array([int((true[:, 2:].min(axis=1, initial=np.inf) >= min_px).sum()) for true in truth], np.int64)
    return Detected(
        np.array(scores, np.float64)[order], np.array(hits, bool)[order], np.array(owners, np.int64)[order], totals
    )


def _match(true: Reals, faces: Faces, min_px: float) -> list[tuple[float, bool]]:
    """Score and rightness of the boxes of one picture that count."""
    counted = []
    overlaps = pairwise_iou(faces.xywh.astype(np.float64), true)
    for row in np.argsort(-faces.scores, kind="stable"):
        best = int(overlaps[row].argmax()) if len(true) else -1
        if best < 0 or overlaps[row, best] < IOU_LIMIT:
            if faces.xywh[row, 2:].min() >= min_px:
                counted.append((float(faces.scores[row]), False))
            continue
        overlaps[:, best] = -1.0
        if true[best, 2:].min() >= min_px:
            counted.append((float(faces.scores[row]), True))
    return counted


def pairwise_iou(first: Reals, second: Reals) -> Reals:
    """Intersection over union (len(first), len(second)) of xywh boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, :2] + first[:, None, 2:], second[None, :, :2] + second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = first[:, 2:].prod(axis=1)[:, None] + second[:, 2:].prod(axis=1)[None]
    overlap: Reals = shared / (areas - shared)
    return overlap


def average_precision(detected: Detected, *, weights: Ints | None = None) -> float:
    """Area under the interpolated precision-recall curve over all points; 0 without true faces.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, 2015 (the form of 2010 on).

    Args:
        detected: from `match_all`.
        weights: (pictures,) how often each picture counts; once where not given.
    """
    counts = np.ones(len(detected.totals), np.int64) if weights is None else weights
    total = int((detected.totals * counts).sum())
    if not total or not len(detected.scores):
        return 0.0
    times = counts[detected.pictures]
    _, precision = _cumulate(detected.hits, times)
    return float((times * detected.hits * precision).sum() / total)


def precision_recall(detected: Detected) -> tuple[Reals, Reals]:
    """Recall and interpolated precision (n,) after each box that counts, best first."""
    right, precision = _cumulate(detected.hits, np.ones(len(detected.hits), np.int64))
    return right / max(int(detected.totals.sum()), 1), precision


def _cumulate(hits: npt.NDArray[np.bool_], times: Ints) -> tuple[Ints, Reals]:
    """True boxes (n,) until each one, and the best precision from it on, each box counted so many times."""
    right, all_of_them = np.cumsum(times * hits), np.cumsum(times)
    precision = right / np.maximum(all_of_them, 1)
    return right, np.maximum.accumulate(precision[::-1])[::-1]


def resampled_drops(first: Detected, second: Detected, *, resamples: int, seed: int) -> Reals:
    """How far the second detector's average precision lies below the first's, when the pictures are drawn anew.

    Whole pictures are drawn with replacement and both detectors see the same draw: faces of one picture are not
    independent. Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993.

    Args:
        first: the reference on these pictures.
        second: the other one on the same pictures.
        resamples: how many draws.
        seed: of the draws.

    Returns:
        (resamples,) first minus second, -1..1.
    """
    rng, n = np.random.default_rng(seed), len(first.totals)
    drops = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(rng.integers(0, n, n), minlength=n)
        drops[index] = average_precision(first, weights=weights) - average_precision(second, weights=weights)
    return drops
