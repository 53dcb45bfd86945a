"""A source that needs nothing: shapes that move over a slowly changing background."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import cv2
import numpy as np
from msgspec import Meta

from edge.capture.base import Pace, SourceRequest
from edge.config.schema import Section
from edge.records import Frame, Image


class Options(Section, frozen=True):
    """``camera.options`` of the synthetic source."""

    seed: Annotated[int, Meta(ge=0, description="the same seed makes the same pictures")] = 0
    shapes: Annotated[int, Meta(ge=0, le=100, description="moving shapes")] = 6
    frames: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="ends after so many; unset: never")] = None


class SyntheticSource:
    """Moving shapes, the same for the same seed and size. See `edge.capture.base.Source`."""

    reopens: ClassVar[bool] = False
    identity: str | None = None

    def __init__(self, request: SourceRequest, *, options: Options) -> None:
        self.name, self.live = request.name, request.paced
        self._frames = options.frames
        self._loop = request.loop
        self._fps = request.config.fps
        self._scene = _Scene(options, size_wh=(request.config.width, request.config.height))
        self._pace = Pace(request)
        self._number = 0

    @classmethod
    def open(cls, request: SourceRequest) -> SyntheticSource:
        """Make the source.

        Raises:
            ConfigError: an option that cannot be meant.
        """
        return cls(request, options=request.options(Options))

    def read(self) -> Frame | None:
        """Return the next frame, (height, width, 3) uint8 BGR; None after the last one."""
        number = self._number
        if self._pace.closed or (self._frames and number >= self._frames and not self._loop):
            return None
        self._number += 1
        shown = number % self._frames if self._frames else number
        image = self._scene.draw(shown / self._fps)
        stamp_ns = self._pace.stamp(round(number * 1e9 / self._fps), interval_ns=round(1e9 / self._fps))
        if stamp_ns is None:
            return None
        restarts = shown == 0 and number > 0
        return Frame(image=image, timestamp_ns=stamp_ns, number=number, source=self.name, discontinuity=restarts)

    def close(self) -> None:
        """End a wait."""
        self._pace.close()


class _Scene:
    """Shapes on Lissajous curves; a picture is a function of time alone."""

    def __init__(self, options: Options, *, size_wh: tuple[int, int]) -> None:
        random = np.random.default_rng(options.seed)
        self._size_wh = size_wh
        self._colours = random.integers(64, 256, (options.shapes, 3)).tolist()
        self._radii = (random.uniform(0.03, 0.12, options.shapes) * min(size_wh)).tolist()
        self._rates_hz = random.uniform(0.05, 0.4, (options.shapes, 2)).tolist()
        self._phases = random.uniform(0, 2 * math.pi, (options.shapes, 2)).tolist()

    def draw(self, time_s: float) -> Image:
        width, height = self._size_wh
        shade = 48 + 32 * math.sin(2 * math.pi * 0.1 * time_s)
        rows = np.linspace(shade, shade + 60, height).astype(np.uint8)
        image: Image = np.ascontiguousarray(np.broadcast_to(rows[:, None, None], (height, width, 3)))
        shapes = zip(self._colours, self._radii, self._rates_hz, self._phases, strict=True)
        for index, (colour, radius, rates_hz, phases) in enumerate(shapes):
            x, y = (
                round(side * (0.5 + 0.45 * math.sin(2 * math.pi * rate * time_s + phase)))
                for side, rate, phase in zip((width, height), rates_hz, phases, strict=True)
            )
            reach = max(1, round(radius))
            if index % 2:
                cv2.rectangle(image, (x - reach, y - reach), (x + reach, y + reach), colour, cv2.FILLED)
            else:
                cv2.circle(image, (x, y), reach, colour, cv2.FILLED)
        return image
