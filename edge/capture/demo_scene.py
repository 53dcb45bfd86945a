"""A moving picture of several people, composed from photographs; it knows who is where.

People enter at one side, slow down in the middle, cross and leave at the other side, others take their place. A frame
is a function of the seed and the time alone, so that any frame can be made again, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.capture.generated import NumberedSource
from edge.capture.portraits import Portrait, load_portraits, read_portrait
from edge.config.schema import Section
from edge.records import Image

BASE_HEIGHT_PX = 480
"""Sizes below are for a frame of this height and scale with it."""
ENTRY_INTERVAL_S = 2.1
LEAD_S = 5.0
"""The scene begins with people already there."""
VISIT_S = (7.8, 9.8)
"""Shortest and longest visit; with five people and this interval nobody is there twice."""
FAR_FACE_PX, NEAR_FACE_PX = (64.0, 92.0), (100.0, 138.0)
"""Ranges of face heights in the upper (far) and lower (near) row."""
LINGER = 0.3
"""Speed in the middle of a visit as a share of the mean speed."""
FEATHER = 0.16
"""Width of the soft edge of a photograph, as a share of its half side."""
MIN_VISIBLE_SHARE = 0.75
"""A face belongs to the truth when at least so much of it is inside the frame and not covered."""


@dataclass(frozen=True, slots=True)
class SceneFace:
    """A face of one frame.

    Attributes:
        person: who it is.
        visit: number of this appearance; the same person coming back has another one.
        xywh: left, top, width, height in pixels, inside the frame.
    """

    person: str
    visit: int
    xywh: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Visit:
    """One person crossing the scene; all lengths in pixels of the frame."""

    number: int
    portrait: Portrait
    start_s: float
    duration_s: float
    from_x: float
    to_x: float
    y: float
    face_px: float
    zoom: float
    bob_px: float
    phase: float

    def place(self, time_s: float) -> tuple[float, float, float]:
        """Centre of the face and its height at a time."""
        u = (time_s - self.start_s) / self.duration_s
        swing = 2 * u - 1
        along = 0.5 + 0.5 * (LINGER * swing + (1 - LINGER) * swing**3)
        x = self.from_x + (self.to_x - self.from_x) * along
        y = self.y + self.bob_px * math.sin(1.9 * time_s + self.phase)
        return x, y, self.face_px * (1 + self.zoom * math.sin(math.pi * u))


@dataclass(frozen=True, slots=True)
class _Card:
    """A photograph at the size of a visit: colours already multiplied with the soft mask, and what shows through."""

    premultiplied: Image
    through: Image
    face_xywh: tuple[float, float, float, float]


class Scene:
    """Generator of frames with the true places of the faces."""

    def __init__(self, *, size_wh: tuple[int, int], seed: int = 0, fps: float = 20.0) -> None:
        """Prepare the background.

        Args:
            size_wh: width and height of the frames in pixels.
            seed: the same seed makes the same scene.
            fps: frames a second, turns a frame's number into time.
        """
        self._size_wh, self._seed, self._fps = size_wh, seed, fps
        self._unit = size_wh[1] / BASE_HEIGHT_PX
        self._portraits = load_portraits()
        self._order = np.random.default_rng(seed).permutation(len(self._portraits)).tolist()
        self._backdrop = _draw_backdrop(size_wh, seed)
        self._card = lru_cache(maxsize=16)(self._make_card)
        self._visit = lru_cache(maxsize=64)(self._make_visit)

    def draw(self, number: int) -> Image:
        """Frame ``number``, (height, width, 3) uint8 BGR."""
        time_s = number / self._fps
        image = self._pan(time_s)
        for visit in self._present(time_s):
            self._paste(image, visit, time_s)
        return image

    def truth(self, number: int) -> tuple[SceneFace, ...]:
        """Return the faces that can be seen in frame ``number``, the nearest last.

        Faces of which less than `MIN_VISIBLE_SHARE` is inside the frame or uncovered are left out.
        """
        time_s = number / self._fps
        visits = self._present(time_s)
        boxes = [self._face_box(visit, time_s) for visit in visits]
        faces = []
        for i, (visit, box) in enumerate(zip(visits, boxes, strict=True)):
            inside = _clip(box, self._size_wh)
            covered = sum(_overlap(inside, self._card_box(nearer, time_s)) for nearer in visits[i + 1 :])
            if inside[2] * inside[3] - covered >= MIN_VISIBLE_SHARE * box[2] * box[3]:
                faces.append(SceneFace(visit.portrait.person, visit.number, inside))
        return tuple(faces)

    def _present(self, time_s: float) -> list[_Visit]:
        """Who is there, the farthest first."""
        newest = math.floor((time_s + LEAD_S) / ENTRY_INTERVAL_S)
        oldest = max(0, newest - math.ceil(VISIT_S[1] / ENTRY_INTERVAL_S) - 1)
        visits = [self._visit(number) for number in range(oldest, newest + 1)]
        present = [visit for visit in visits if visit.start_s <= time_s < visit.start_s + visit.duration_s]
        return sorted(present, key=lambda visit: (visit.face_px, visit.number))

    def _make_visit(self, number: int) -> _Visit:
        """Visit ``number``: who, when, from where to where."""
        random = np.random.default_rng((self._seed, number))
        width, height = self._size_wh
        portrait = self._portraits[self._order[number % len(self._portraits)]]
        is_near = number % 2 == 1
        face_px = float(random.uniform(*(NEAR_FACE_PX if is_near else FAR_FACE_PX))) * self._unit
        outside = face_px * 1.6
        edges = (-outside, width + outside)
        leftwards = bool(random.integers(2))
        return _Visit(
            number=number,
            portrait=portrait,
            start_s=number * ENTRY_INTERVAL_S - LEAD_S,
            duration_s=float(random.uniform(*VISIT_S)),
            from_x=edges[leftwards],
            to_x=edges[not leftwards],
            y=height * float(random.uniform(0.6, 0.68) if is_near else random.uniform(0.26, 0.34)),
            face_px=face_px,
            zoom=float(random.uniform(0.03, 0.12)),
            bob_px=float(random.uniform(2, 6)) * self._unit,
            phase=float(random.uniform(0, 2 * math.pi)),
        )

    def _make_card(self, number: int) -> _Card:
        """Return the photograph of visit ``number`` at its largest size: later only made smaller, by little."""
        visit = self._visit(number)
        picture = read_portrait(visit.portrait)
        scale = visit.face_px * (1 + visit.zoom) / visit.portrait.face_xywh[3]
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=way), np.uint8)
        mask = _soft_mask(picture.shape[1], picture.shape[0])[:, :, None]
        premultiplied = np.rint(picture * mask).astype(np.uint8)
        through = np.repeat(np.rint((1 - mask) * 255).astype(np.uint8), 3, axis=2)
        x, y, w, h = (value * scale for value in visit.portrait.face_xywh)
        return _Card(premultiplied, through, (x, y, w, h))

    def _transform(self, visit: _Visit, time_s: float) -> tuple[float, float, float]:
        """Scale of the card and where its left top corner is."""
        card = self._card(visit.number)
        x, y, face_px = visit.place(time_s)
        left, top, width, height = card.face_xywh
        scale = face_px / height
        return scale, x - scale * (left + width / 2), y - scale * (top + height / 2)

    def _face_box(self, visit: _Visit, time_s: float) -> tuple[float, float, float, float]:
        scale, left, top = self._transform(visit, time_s)
        x, y, w, h = self._card(visit.number).face_xywh
        return left + scale * x, top + scale * y, scale * w, scale * h

    def _card_box(self, visit: _Visit, time_s: float) -> tuple[float, float, float, float]:
        scale, left, top = self._transform(visit, time_s)
        height, width = self._card(visit.number).premultiplied.shape[:2]
        return left, top, scale * width, scale * height

    def _paste(self, image: Image, visit: _Visit, time_s: float) -> None:
        """Blend a person over the picture, at fractions of a pixel."""
        scale, left, top = self._transform(visit, time_s)
        card = self._card(visit.number)
        x0, y0, width, height = self._card_box(visit, time_s)
        x1, y1 = min(image.shape[1], math.ceil(x0 + width)), min(image.shape[0], math.ceil(y0 + height))
        x0, y0 = max(0, math.floor(x0)), max(0, math.floor(y0))
        if x1 <= x0 or y1 <= y0:
            return
        place = np.array([[scale, 0, left - x0], [0, scale, top - y0]], np.float64)
        window = (x1 - x0, y1 - y0)
        colours = cv2.warpAffine(card.premultiplied, place, window, flags=cv2.INTER_LINEAR)
        through = cv2.warpAffine(card.through, place, window, flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255))
        region = image[y0:y1, x0:x1]
        cv2.multiply(region, through, dst=region, scale=1 / 255)
        cv2.add(region, colours, dst=region)

    def _pan(self, time_s: float) -> Image:
        """Return the backdrop, drifting slowly."""
        width, height = self._size_wh
        spare_x, spare_y = self._backdrop.shape[1] - width, self._backdrop.shape[0] - height
        x = round(spare_x * (0.5 + 0.5 * math.sin(time_s * 0.11)))
        y = round(spare_y * (0.5 + 0.5 * math.cos(time_s * 0.13)))
        return np.array(self._backdrop[y : y + height, x : x + width], np.uint8)


class Options(Section, frozen=True):
    """``camera.options`` of the demo's scene."""

    seed: Annotated[int, Meta(ge=0, description="the same seed makes the same scene")] = 0
    frames: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="ends after so many; unset: never")] = None


class DemoSource(NumberedSource):
    """The scene as a source of frames.

    Attributes:
        scene: what is drawn; it knows where the faces are.
    """

    def __init__(self, request: SourceRequest) -> None:
        options, config = request.options(Options), request.config
        super().__init__(request, count=options.frames)
        self.scene = Scene(size_wh=(config.width, config.height), seed=options.seed, fps=config.fps)

    @classmethod
    def open(cls, request: SourceRequest) -> DemoSource:
        """Make the source.

        Raises:
            ConfigError: an unknown or wrong option.
        """
        return cls(request)

    def make_picture(self, index: int) -> tuple[Image, str]:
        """Draw picture ``index``."""
        return self.scene.draw(index), self.name


def _soft_mask(width: int, height: int) -> npt.NDArray[np.float32]:
    """Return a rounded rectangle with soft edges: (height, width) float32, 1 inside, 0 at the border."""
    x = np.abs(np.linspace(-1, 1, width, dtype=np.float32))[None, :]
    y = np.abs(np.linspace(-1, 1, height, dtype=np.float32))[:, None]
    distance = (x**6 + y**6) ** (1 / 6)
    ramp = np.clip((1 - distance) / FEATHER, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def _draw_backdrop(size_wh: tuple[int, int], seed: int) -> Image:
    """Return a soft, dark studio wall a little larger than the frame: blue to violet, with large pools of light."""
    width, height = round(size_wh[0] * 1.2), round(size_wh[1] * 1.2)
    random = np.random.default_rng((seed, 1))
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    top, bottom = np.array([92, 66, 44], np.float32), np.array([70, 44, 62], np.float32)
    wall = top * (1 - y) + bottom * y + np.zeros_like(x)
    for _ in range(5):
        cx, cy = random.uniform(0, 1, 2)
        colour = np.array(random.uniform((36, 18, 14), (74, 52, 44)), np.float32)
        wall = wall + colour * np.exp(-(((x - cx) / 0.28) ** 2 + ((y - cy) / 0.34) ** 2))
    grain = random.normal(0, 1.2, (height, width, 1)).astype(np.float32)
    return np.asarray(np.clip(wall + grain, 0, 255), np.uint8)


def _clip(box: Sequence[float], size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    left, top = max(0.0, x), max(0.0, y)
    return left, top, max(0.0, min(x + w, size_wh[0]) - left), max(0.0, min(y + h, size_wh[1]) - top)


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
