"""Augmented views of the training pictures with the teachers' opinion of each, made once and learned from many times.

A student needs hundreds of epochs; its teachers, which cost more than it does, then judge every picture only as often
as there are views. Source: Beyer et al., Knowledge distillation: A good teacher is patient and consistent, 2022.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from edge.contract.golden import encode_npz
from edge.errors import DataError
from training.augment import Pixels, augment_batch
from training.files import write_file
from training.fit.targets import Floats
from training.recipe import Recipe

_CHUNK: Final = 512


@dataclass(frozen=True, slots=True)
class Views:
    """Views of n pictures, v of each.

    Attributes:
        pictures: v arrays (n, height, width, channels) uint8.
        opinions: v arrays (n, heads, classes) float16: the teachers' mean probabilities of view and mirror image.
    """

    pictures: tuple[Pixels, ...]
    opinions: tuple[npt.NDArray[np.float16], ...]

    def of_epoch(self, rows: npt.NDArray[np.int64], epoch: int) -> tuple[Pixels, Floats]:
        """One view of each picture and what the teachers say of it; an epoch later another one, by turns.

        Args:
            rows: positions of the pictures.
            epoch: counted from 1.
        """
        turns = (rows + epoch) % len(self.pictures)
        pictures = np.stack([self.pictures[turn][row] for turn, row in zip(turns, rows, strict=True)])
        opinions = np.stack([self.opinions[turn][row] for turn, row in zip(turns, rows, strict=True)])
        return pictures, opinions.astype(np.float32)


def make_views(
    inputs: Pixels,
    recipe: Recipe,
    *,
    judge: Callable[[npt.NDArray[np.uint8]], Floats],
    teachers: dict[str, str],
    cache: Path,
) -> Views:
    """Makes the views that the cache does not hold yet; what was stopped goes on behind the last whole view.

    Args:
        inputs: (n, height, width, channels) uint8.
        recipe: its augmentation varies the pictures, its ``distill.count`` says how often.
        judge: the teachers' probabilities (n, heads, classes) of pictures.
        teachers: SHA-256 of each teacher, by name.
        cache: folder of the views; each set lies under the hash of all that decides it.

    Raises:
        DataError: for pictures that are features, which cannot be varied.
    """
    if recipe.distill is None or inputs.dtype != np.uint8:
        raise DataError(recipe.name, "views are made of pixels, for a recipe with a [distill] table")
    folder = cache / _key(inputs, recipe, teachers)
    pictures, opinions = [], []
    for turn in range(recipe.distill.count):
        file = folder / f"view_{turn:02d}.npz"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_file(file, encode_npz(_make_view(inputs, recipe, turn, judge)))
        with np.load(file) as view:
            pictures.append(view["pictures"])
            opinions.append(view["opinions"])
    return Views(tuple(pictures), tuple(opinions))


def _make_view(
    inputs: Pixels, recipe: Recipe, turn: int, judge: Callable[[npt.NDArray[np.uint8]], Floats]
) -> dict[str, npt.NDArray[np.generic]]:
    rng = np.random.default_rng([recipe.train.seed, turn])
    pictures, opinions = np.empty_like(inputs), []
    for start in range(0, len(inputs), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pictures[chunk] = augment_batch(inputs[chunk], rng, recipe.augment)
        opinions.append(judge(pictures[chunk]).astype(np.float16))
    return {"pictures": pictures, "opinions": np.concatenate(opinions)}


def _key(inputs: Pixels, recipe: Recipe, teachers: dict[str, str]) -> str:
    assert recipe.distill is not None
    digest = hashlib.sha256(inputs.tobytes())
    digest.update(msgspec.json.encode([inputs.shape, recipe.augment, recipe.distill.temperature, recipe.train.seed]))
    digest.update(msgspec.json.encode([recipe.data.targets, recipe.data.classes, list(teachers.values())]))
    return digest.hexdigest()[:20]
