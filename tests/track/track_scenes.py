"""Scenes with known identities: people that move as functions of time, and what a detector would report of them.

The detector model is that of YuNet on real clips: centres scatter by 1 to 3 % of a face, sizes by 2 %, landmarks by
2 %; of two overlapping faces only the nearer is found (non-maximum suppression at IoU 0.3, or half of the farther one
is covered); the box of a face that is covered in part shrinks to what is seen; a face that reaches out of the
frame by more than half is not found; others are missed at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from edge.config.schema import DetectConfig, TrackConfig
from edge.records import Faces
from edge.track import open_tracker
from edge.track.base import FaceTracker
from edge.track.ids import TrackIds

FRAME_WH = (640, 480)
FRONTAL = np.array([(-0.22, -0.1), (0.22, -0.1), (0.0, 0.1), (-0.18, 0.3), (0.18, 0.3)])
"""Landmarks of a frontal face in sizes from the box's centre, as YuNet has them."""


@dataclass(frozen=True)
class Person:
    """Somebody in a scene.

    Attributes:
        place: time in seconds to the face's centre in pixels; None while not there.
        size_px: time to the square root of the box's area.
        turn: time to the nose's offset in sizes, the picture's right positive.
        depth: nearer (smaller) hides farther.
    """

    place: Callable[[float], tuple[float, float] | None]
    size_px: Callable[[float], float]
    turn: Callable[[float], float] = field(default=lambda t: 0.0)
    depth: float = 0.0


@dataclass
class Outcome:
    """What a tracker made of a scene.

    Attributes:
        ids: per person the track's id each time its face was found and its track reported.
        shown: ids of all tracks that were ever reported.
        ended: (time in seconds, id) of those that ended.
    """

    ids: list[list[tuple[float, str]]]
    shown: set[str] = field(default_factory=set)
    ended: list[tuple[float, str]] = field(default_factory=list)

    @property
    def switches(self) -> int:
        """How often a person's id changed from one report to the next, the usual IDSW."""
        return sum(a[1] != b[1] for row in self.ids for a, b in pairwise(row))

    def ids_of(self, person: int) -> list[str]:
        """A person's ids in order, repetitions left out."""
        return list(dict.fromkeys(id for _, id in self.ids[person]))


Box = tuple[float, float, float, float, float, int]
"""Depth, centre, width and height of a face's box, and whose it is."""
Look = Callable[[float], tuple[Faces, list[int]]]
"""Time in seconds to the faces found and whose they are."""


def steady(value: float) -> Callable[[float], float]:
    return lambda t: value


def walk(*points: tuple[float, float, float]) -> Callable[[float], tuple[float, float] | None]:
    """Straight lines through (time, x, y); nobody there before the first and after the last."""
    times, xs, ys = zip(*points, strict=True)

    def place(t: float) -> tuple[float, float] | None:
        if not times[0] <= t <= times[-1]:
            return None
        return float(np.interp(t, times, xs)), float(np.interp(t, times, ys))

    return place


def detect(
    people: Sequence[Person], t: float, rng: np.random.Generator, *, miss: float = 0.0, jitter: float = 0.02
) -> tuple[Faces, list[int]]:
    """The faces found at a time, best first, and whose they are."""
    boxes: list[Box] = []
    for index, person in enumerate(people):
        place = person.place(t)
        if place is not None:
            size = person.size_px(t)
            boxes.append((person.depth, *place, size * 0.87, height_px(size), index))
    found = [box for box in sorted(boxes) if _is_in_view(box)]
    found = [box for i, box in enumerate(found) if not any(_hides(near, box) for near in found[:i])]
    found = [_shrunk(box, found[:i], rng) for i, box in enumerate(found) if rng.random() >= miss]
    xywh, points = [], []
    for _, cx, cy, w, h, index in found:
        size = (w * h) ** 0.5
        dx, dy = rng.normal(0, jitter, 2) * size
        grown = np.exp(rng.normal(0, jitter, 2))
        shape = FRONTAL + (people[index].turn(t), 0) * np.array([[0.6], [0.6], [1.0], [0.6], [0.6]])
        points.append((cx, cy) + (shape + rng.normal(0, jitter, (5, 2))) * size)
        w, h = w * grown[0], h * grown[1]
        xywh.append((cx + dx - w / 2, cy + dy - h / 2, w, h))
    scores = np.clip(rng.normal(0.88, 0.03, len(found)), 0.6, 1.0)
    order = np.argsort(-scores)
    faces = Faces(
        np.array(xywh, np.float32).reshape(-1, 4)[order],
        scores.astype(np.float32)[order],
        np.array(points, np.float32).reshape(-1, 5, 2)[order],
    )
    return faces, [found[i][5] for i in order]


def _is_in_view(box: Box) -> bool:
    return 0 <= box[1] <= FRAME_WH[0] and 0 <= box[2] <= FRAME_WH[1]


def _hides(near: Box, far: Box) -> bool:
    width = min(near[1] + near[3] / 2, far[1] + far[3] / 2) - max(near[1] - near[3] / 2, far[1] - far[3] / 2)
    height = min(near[2] + near[4] / 2, far[2] + far[4] / 2) - max(near[2] - near[4] / 2, far[2] - far[4] / 2)
    shared = max(0.0, width) * max(0.0, height)
    return shared > 0.5 * far[3] * far[4] or shared > 0.3 * (near[3] * near[4] + far[3] * far[4] - shared)


def _shrunk(far: Box, nearer: Sequence[Box], rng: np.random.Generator) -> Box:
    """A box without about half of the width that others cover, less where they cover only some of its height."""
    depth, cx, cy, w, h, index = far
    for near in nearer:
        width = min(near[1] + near[3] / 2, cx + w / 2) - max(near[1] - near[3] / 2, cx - w / 2)
        height = min(near[2] + near[4] / 2, cy + h / 2) - max(near[2] - near[4] / 2, cy - h / 2)
        if width > 0 and height > 0:
            lost = rng.normal(0.5, 0.1) * width * height / h
            cx += lost / 2 if near[1] < cx else -lost / 2
            w -= lost
            h -= 0.3 * lost
    return depth, cx, cy, max(w, far[3] / 3), max(h, far[4] / 2), index


def height_px(size_px: float) -> float:
    """Height of a face's box of a size (square root of its area), at the aspect ratio that YuNet's boxes have."""
    return size_px * 1.15


def make_tracker(seed: int = 0, **keys: float) -> FaceTracker:
    """A tracker with keys of the section ``track``; faces that start a track need the default ``detect.score``."""
    new_id = TrackIds(random.Random(seed))
    return open_tracker(TrackConfig(**keys), new_id=new_id, start_score=DetectConfig().score)  # type: ignore[arg-type]


def follow(
    people: Sequence[Person],
    *,
    seconds: float,
    fps: float = 15,
    seed: int = 0,
    miss: float = 0.0,
    jitter: float = 0.02,
    detect_every: int = 1,
    unsteady_clock: float = 0.1,
    tracker: FaceTracker | None = None,
    look: Look | None = None,
) -> Outcome:
    """Runs a scene through a tracker.

    Args:
        people: who is there.
        seconds: length of the scene.
        fps: frames a second.
        seed: of the detector's scatter.
        miss: share of faces that are missed at random.
        jitter: scatter of boxes and landmarks in face sizes.
        detect_every: the detector runs on every so many frames.
        unsteady_clock: scatter of the frames' times, in intervals.
        tracker: the tracker; a new one by default.
        look: what finds the faces; `detect`, the model of a detector, by default.
    """
    rng = np.random.default_rng(seed)
    tracker = tracker or make_tracker(seed)
    outcome = Outcome([[] for _ in people])
    for number in range(round(seconds * fps)):
        t = (number + rng.uniform(0, unsteady_clock)) / fps
        runs = number % detect_every == 0
        faces, whose = look(t) if look else detect(people, t, rng, miss=miss, jitter=jitter)
        tracks = tracker.update(faces if runs else None, round(t * 1e9), frame_wh=FRAME_WH)
        outcome.shown.update(track.id for track in tracks.active)
        outcome.ended.extend((t, id) for id in tracks.ended)
        places = {tuple(box): person for box, person in zip(faces.xywh.tolist(), whose, strict=True)}
        for track in tracks.active:
            if track.observed:
                outcome.ids[places[track.xywh]].append((t, track.id))
    return outcome
