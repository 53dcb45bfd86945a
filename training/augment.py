"""Augmentation on uint8 pictures, before they enter the network.

The affine part learns the device's scatter: where a detector's box falls around a face differs each time (see
`edge.contract.crop`); shift and scale are drawn with the spread that was measured.
"""

from __future__ import annotations

import math
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from edge.contract.preprocess import resize
from edge.errors import ConfigError

Pixels = npt.NDArray[np.uint8]
_BORDERS: Final = (cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101)
_RAMP: Final = np.arange(256, dtype=np.float32) / 255


class Augment(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How strongly pictures are varied; everything is off at 0.

    Attributes:
        flip: probability of a mirrored picture.
        affine: probability that the five next apply.
        rotation_deg: standard deviation of the angle, cut at three times.
        shift_x: standard deviation of the shift as a share of the side, cut at three times.
        shift_y: the same, vertically.
        scale: standard deviation of the zoom's logarithm, cut at three times.
        aspect: standard deviation of the logarithm of width over height, cut at three times.
        photometric: probability that the three next apply.
        contrast: largest relative change.
        brightness: largest shift in grey levels.
        gamma: largest logarithm of the exponent.
        blur: probability of a Gaussian blur of 0.4 to 1.1 px.
        low_resolution: probability of a face that was small: half to five sixths of the side, enlarged again.
        noise: probability of Gaussian noise of 2 to 10 grey levels.
        erase: probability of one rectangle of 2 to 20 % of the area, random pixels or one grey (Zhong et al., Random
            Erasing Data Augmentation, 2020).
    """

    flip: float = 0.0
    affine: float = 0.0
    rotation_deg: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    scale: float = 0.0
    aspect: float = 0.0
    photometric: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    low_resolution: float = 0.0
    noise: float = 0.0
    erase: float = 0.0

    def check(self) -> None:
        """Raises `ConfigError` for a value outside its range."""
        limits = {
            "rotation_deg": 60.0,
            "shift_x": 0.3,
            "shift_y": 0.3,
            "scale": 0.4,
            "aspect": 0.3,
            "brightness": 128.0,
        }
        for name in self.__struct_fields__:
            value, high = getattr(self, name), limits.get(name, 1.0)
            if not 0 <= value <= high:
                raise ConfigError(f"augment.{name}", f"{value} is not in 0..{high:g}")


def augment_batch(images: Pixels, rng: np.random.Generator, options: Augment) -> Pixels:
    """Varied copies of pictures, each in its own way.

    Args:
        images: (n, height, width, channels) uint8.
        rng: decides everything: the same state gives the same pictures.
        options: how strongly.

    Returns:
        The same shape, uint8.
    """
    count, height, width, channels = images.shape
    matrices = _affine_matrices(count, (height, width), rng, options)
    tables = _photometric_tables(images, rng, options)
    out = np.empty_like(images)
    for i, image in enumerate(images):
        picture: Any = image[:, :, 0] if channels == 1 else image
        if rng.random() < options.flip:
            picture = cv2.flip(picture, 1)
        if rng.random() < options.affine:
            border = _BORDERS[int(rng.integers(len(_BORDERS)))]
            picture = cv2.warpAffine(picture, matrices[i], (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
        picture = _soften(picture, rng, options)
        if tables is not None:
            picture = cv2.LUT(picture, tables[i])
        if rng.random() < options.noise:
            picture = np.clip(picture + rng.normal(0, rng.uniform(2, 10), picture.shape), 0, 255).astype(np.uint8)
        out[i] = picture.reshape(height, width, channels)
        if rng.random() < options.erase:
            _erase(out[i], rng)
    return out


def mix_batch(
    images: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], rng: np.random.Generator, *, kind: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mixes a batch with a shuffled copy of itself, pixels and targets in the same proportion.

    Args:
        images: (n, height, width, channels) float32.
        targets: (n, ...) float32; linear in the loss.
        rng: decides partners and proportion.
        kind: ``mixup`` (Beta(0.4, 0.4)) or ``cutmix`` (a rectangle of a uniform share of the area).
    """
    partners = rng.permutation(len(images))
    if kind == "mixup":
        own = np.float32(rng.beta(0.4, 0.4))
        return own * images + (1 - own) * images[partners], own * targets + (1 - own) * targets[partners]
    height, width = images.shape[1:3]
    side = math.sqrt(rng.uniform())
    cut_h, cut_w = round(height * side), round(width * side)
    top, left = int(rng.integers(0, height - cut_h + 1)), int(rng.integers(0, width - cut_w + 1))
    mixed = images.copy()
    mixed[:, top : top + cut_h, left : left + cut_w] = images[partners, top : top + cut_h, left : left + cut_w]
    own = np.float32(1 - cut_h * cut_w / (height * width))
    return mixed, own * targets + (1 - own) * targets[partners]


def _affine_matrices(
    count: int, shape_hw: tuple[int, int], rng: np.random.Generator, options: Augment
) -> npt.NDArray[np.float64]:
    """(n, 2, 3) maps from source to result around the centre: scale and aspect, then rotation, then shift."""

    def draw(deviation: float) -> npt.NDArray[np.float64]:
        return np.clip(rng.standard_normal(count), -3, 3) * deviation

    height, width = shape_hw
    angle, zoom, aspect = draw(np.deg2rad(options.rotation_deg)), draw(options.scale), draw(options.aspect) / 2
    shift_x, shift_y = draw(options.shift_x) * width, draw(options.shift_y) * height
    scale_x, scale_y = np.exp(zoom + aspect), np.exp(zoom - aspect)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    matrices = np.empty((count, 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = np.cos(angle) * scale_x, -np.sin(angle) * scale_y
    matrices[:, 1, 0], matrices[:, 1, 1] = np.sin(angle) * scale_x, np.cos(angle) * scale_y
    matrices[:, 0, 2] = centre_x + shift_x - matrices[:, 0, 0] * centre_x - matrices[:, 0, 1] * centre_y
    matrices[:, 1, 2] = centre_y + shift_y - matrices[:, 1, 0] * centre_x - matrices[:, 1, 1] * centre_y
    return matrices


def _photometric_tables(images: Pixels, rng: np.random.Generator, options: Augment) -> Pixels | None:
    """(n, 256) uint8: what becomes of each grey level (contrast around the mean, gamma, brightness); or None."""
    if not options.photometric:
        return None
    count = len(images)
    applies = (rng.random(count) < options.photometric)[:, None]
    contrast = 1 + rng.uniform(-options.contrast, options.contrast, (count, 1))
    exponent = np.exp(rng.uniform(-options.gamma, options.gamma, (count, 1)))
    shift = rng.uniform(-options.brightness, options.brightness, (count, 1)) / 255
    mean = images.mean(axis=(1, 2, 3))[:, None] / 255
    levels = np.clip((_RAMP - mean) * contrast + mean, 0, 1) ** exponent + shift
    tables: Pixels = np.rint(np.clip(np.where(applies, levels, _RAMP), 0, 1) * 255).astype(np.uint8)
    return tables


def _soften(picture: Any, rng: np.random.Generator, options: Augment) -> Any:
    """The picture as a small face or a bad lens would give it."""
    height, width = picture.shape[:2]
    if rng.random() < options.low_resolution:
        share = rng.uniform(0.5, 0.83)
        reduced = resize(picture, (max(4, round(width * share)), max(4, round(height * share))))
        picture = resize(reduced, (width, height))
    if rng.random() < options.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.1)))
    return picture


def _erase(image: Pixels, rng: np.random.Generator) -> None:
    height, width, channels = image.shape
    area, ratio = rng.uniform(0.02, 0.2) * height * width, math.exp(rng.uniform(-0.8, 0.8))
    cut_h = min(height - 1, max(1, round(math.sqrt(area * ratio))))
    cut_w = min(width - 1, max(1, round(math.sqrt(area / ratio))))
    top, left = int(rng.integers(0, height - cut_h)), int(rng.integers(0, width - cut_w))
    shape = (cut_h, cut_w, channels) if rng.random() < 0.5 else (1, 1, 1)
    image[top : top + cut_h, left : left + cut_w] = rng.integers(0, 256, shape, dtype=np.uint8)
