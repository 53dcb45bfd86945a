"""A source that needs nothing: shapes that move over a slowly changing background."""

from __future__ import annotations

import math
from typing import Annotated

import cv2
import numpy as np
from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.capture.generated import NumberedSource
from edge.config.schema import Section
from edge.records import Image


class Options(Section, frozen=True):
    """``camera.options`` of the synthetic source."""

    seed: Annotated[int, Meta(ge=0, description="the same seed makes the same pictures")] = 0
    shapes: Annotated[int, Meta(ge=0, le=100, description="moving shapes")] = 6
    frames: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="ends after so many; unset: never")] = None


class SyntheticSource(NumberedSource):
    """Moving shapes, the same for the same seed and size."""

    def __init__(self, request: SourceRequest) -> None:
        options = request.options(Options)
        super().__init__(request, count=options.frames)
        self._scene = _Scene(options, size_wh=(request.config.width, request.config.height))

    @classmethod
    def open(cls, request: SourceRequest) -> SyntheticSource:
        """Make the source.

        Raises:
            ConfigError: an unknown or wrong option.
        """
        return cls(request)

    def make_picture(self, index: int) -> tuple[Image, str]:
        """Draw picture ``index``."""
        return self._scene.draw(index / self._fps), self.name


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
