"""The device's crop is never exactly the data set's: how a detector's box scatters, played on labelled crops.

A YuNet box on a FER2013 crop has interquartile ranges of x 0.08, y 0.11, width 0.12 and height 0.18 of the crop's side
(529 faces). The device cuts a square of 0.99 x box height around the box's centre (`edge.contract.crop`, geometry 1):
its side scatters with the height. A box errs in its centre and in its size independently (on 1,078 faces in composed
scenes the correlation of x + width / 2 with width is 0.03, of x with width -0.80), so that the centre's variance is the
edge's less a quarter of the size's: interquartile ranges of 0.053 across and 0.063 down.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset
from convert.datasets.dataset import stack_images
from edge.contract.crop import cut_square

_EDGE_X, _EDGE_Y, _WIDTH, _HEIGHT = 0.08, 0.11, 0.12, 0.18
CENTRE_X_IQR: Final = math.sqrt(_EDGE_X**2 - _WIDTH**2 / 4)
CENTRE_Y_IQR: Final = math.sqrt(_EDGE_Y**2 - _HEIGHT**2 / 4)
SIDE_IQR: Final = _HEIGHT
_SIGMA_PER_IQR: Final = 1 / 1.348980
"""Standard deviation of a normal distribution per interquartile range."""

FIXED: Final[dict[str, tuple[float, float, float]]] = {
    "further left": (-CENTRE_X_IQR / 2, 0.0, 1.0),
    "further right": (CENTRE_X_IQR / 2, 0.0, 1.0),
    "higher": (0.0, -CENTRE_Y_IQR / 2, 1.0),
    "lower": (0.0, CENTRE_Y_IQR / 2, 1.0),
    "tighter": (0.0, 0.0, 1 - SIDE_IQR / 2),
    "wider": (0.0, 0.0, 1 + SIDE_IQR / 2),
}
"""Single moves by half an interquartile range: shift right, shift down (shares of the side), side (1 is exact)."""

DRAWS: Final = 4
"""Scattered cuts of every picture that a measurement is the mean of."""

Moves = npt.NDArray[np.float64]


def draw_moves(count: int, *, seed: int) -> Moves:
    """(count, 3) shift right, shift down and relative side of the device's square against the exact crop.

    Args:
        count: of pictures.
        seed: of the draw.
    """
    spread = np.array([CENTRE_X_IQR, CENTRE_Y_IQR, SIDE_IQR]) * _SIGMA_PER_IQR
    moves: Moves = np.random.default_rng(seed).normal((0.0, 0.0, 1.0), spread, (count, 3))
    moves[:, 2] = np.clip(moves[:, 2], 0.6, 1.6)
    return moves


def move_crops(dataset: Dataset, moves: Moves) -> Dataset:
    """The pictures cut as a scattered box would cut them; beyond a picture's edge its edge pixels are repeated.

    Args:
        dataset: crops that show the face exactly.
        moves: (n, 3) as from `draw_moves`.
    """

    moved = []
    for image, (right, down, scale) in zip(dataset.images, moves, strict=True):
        height, width = image.shape[:2]
        side = min(height, width)
        cut = max(1, round(side * scale))
        left = round(width / 2 + right * side - cut / 2)
        top = round(height / 2 + down * side - cut / 2)
        moved.append(cut_square(image, (left, top, cut)))
    return replace(dataset, images=stack_images(moved))


def scatter(dataset: Dataset, *, cuts: int, seed: int) -> Dataset:
    """``cuts`` scattered cuts of every picture, as one data set.

    Args:
        dataset: crops that show the face exactly.
        cuts: of each.
        seed: of the draw.
    """
    repeated = dataset.select(np.tile(np.arange(len(dataset)), cuts))
    return move_crops(repeated, draw_moves(len(repeated), seed=seed))
