"""The inputs of golden samples: two free photographs and seeded synthetic pictures, re-creatable without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.contract.preprocess import resize, to_grey
from edge.errors import ConversionError
from edge.records import Image

PICTURES: Final = {
    "collins_face.png": "Eileen Collins, NASA portrait, public domain (from scikit-image's astronaut)",
    "hopper_face.png": "Grace Hopper, US Navy portrait, public domain (from Matplotlib's sample data)",
}
SYNTHETIC_COUNT: Final = 8
_FOLDER: Final = Path(__file__).with_name("pictures")


def make_golden_inputs(
    shape: tuple[int, int, int], *, colour: Literal["grey", "bgr", "rgb"]
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """16 inputs and where they come from.

    Each photograph as it is, mirrored, darker and smaller; each synthetic picture is smooth noise of a coarseness of
    its own, because white noise reaches few of a network's activations.

    Args:
        shape: height, width and channels of the model's input.
        colour: of the input.

    Returns:
        (16, height, width, channels) uint8 and 16 origins.
    """
    height, width, _ = shape
    pictures: list[tuple[Image, str]] = []
    for name, origin in PICTURES.items():
        pictures += _variants(read_portrait(name), origin)
    for seed in range(SYNTHETIC_COUNT):
        cells = 2 + seed
        coarse = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        pictures.append((resize(coarse, (width, height)), f"synthetic seed {seed}"))
    inputs = np.stack([_as_input(picture, (width, height), colour) for picture, _ in pictures])
    return inputs, tuple(origin for _, origin in pictures)


def read_portrait(name: str) -> Image:
    """Return one of `PICTURES`, (height, width, 3) uint8 BGR.

    Raises:
        ConversionError: the installation is damaged.
    """
    picture = cv2.imread(str(_FOLDER / name), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConversionError(f"{_FOLDER / name}: not a picture that can be read")
    return np.asarray(picture, np.uint8)


def _variants(picture: Image, origin: str) -> list[tuple[Image, str]]:
    darker = (picture // 3).astype(np.uint8)
    smaller = resize(picture, (24, 24))
    named = ((picture, ""), (np.ascontiguousarray(picture[:, ::-1]), ", mirrored"), (darker, ", darker"))
    return [(image, origin + how) for image, how in (*named, (smaller, ", at 24 pixels"))]


def _as_input(picture: Image, size_wh: tuple[int, int], colour: str) -> Image:
    if colour == "grey":
        return resize(to_grey(picture), size_wh)[:, :, np.newaxis]
    resized = resize(picture, size_wh)
    return np.ascontiguousarray(resized[:, :, ::-1]) if colour == "rgb" else resized
