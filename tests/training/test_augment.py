"""Augmentation varies pictures as it says, and the same seed varies them the same way."""

from __future__ import annotations

import numpy as np
import pytest

from training.augment import Augment, augment_batch, mix_batch

ALL = Augment(
    flip=0.5, affine=1.0, rotation_deg=10, shift_x=0.1, shift_y=0.1, scale=0.1, aspect=0.1, photometric=1.0,
    contrast=0.4, brightness=30, gamma=0.4, blur=0.5, low_resolution=0.5, noise=0.5, erase=0.5,
)  # fmt: skip


def pictures(count: int = 6, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 24, 24, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_gives_the_same_pictures_and_another_seed_others(channels: int) -> None:
    images = pictures(channels=channels)
    first, again, other = (augment_batch(images, np.random.default_rng(s), ALL) for s in (7, 7, 8))
    assert first.shape == images.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_nothing_asked_changes_nothing_and_the_originals_are_never_written_to() -> None:
    images = pictures()
    np.testing.assert_array_equal(augment_batch(images, np.random.default_rng(1), Augment()), images)
    before = images.copy()
    augment_batch(images, np.random.default_rng(1), ALL)
    np.testing.assert_array_equal(images, before)


def test_a_certain_flip_mirrors_every_picture() -> None:
    images = pictures()
    np.testing.assert_array_equal(augment_batch(images, np.random.default_rng(1), Augment(flip=1)), images[:, :, ::-1])


def test_shift_and_scale_scatter_as_far_as_was_asked() -> None:
    """A bright disc's centre and radius are measured after the shift and the zoom."""
    y, x = np.mgrid[:96, :96]
    disc = (255 * ((x - 47.5) ** 2 + (y - 47.5) ** 2 < 24**2)).astype(np.uint8)
    images = np.repeat(disc[None, :, :, None], 400, axis=0)
    moved = augment_batch(images, np.random.default_rng(4), Augment(affine=1, shift_x=0.06, shift_y=0.03, scale=0.1))
    bright = moved[..., 0] > 127
    centre_x = (bright * x).sum(axis=(1, 2)) / bright.sum(axis=(1, 2)) - 47.5
    centre_y = (bright * y).sum(axis=(1, 2)) / bright.sum(axis=(1, 2)) - 47.5
    radius = np.sqrt(bright.sum(axis=(1, 2)) / np.pi) / 24
    assert centre_x.std() / 96 == pytest.approx(0.06, rel=0.15)
    assert centre_y.std() / 96 == pytest.approx(0.03, rel=0.15)
    assert np.log(radius).std() == pytest.approx(0.1, rel=0.15)
    assert abs(centre_x.mean()) < 1.5


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_takes_pixels_and_targets_in_the_same_proportion(kind: str) -> None:
    """Picture k is filled with k and its target is k: after mixing, mean pixel and target still agree."""
    images = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones((1, 20, 20, 1), np.float32)
    targets = np.arange(8, dtype=np.float32)[:, None, None]
    mixed, answers = mix_batch(images, targets, np.random.default_rng(3), kind=kind)
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), answers[:, 0, 0], atol=1e-5)
    assert (mixed != images).any()
