"""Pictures that are the same picture: pixel for pixel, or cropped, rescaled, retouched, watermarked or mirrored.

A picture is described by 24 x 24 area-averaged pixels without mean and scale; two pictures are near-duplicates when
their descriptors' correlation exceeds `NEAR`, either way round. On FER2013, of 100 pairs drawn at random from 0.94 to
1.0, 100 show the same photograph; from 0.92 to 0.94 about three of four; below 0.90 most show two people in one pose.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.datasets import Images
from edge.contract.preprocess import resize, to_grey

NEAR: Final = 0.94
"""Correlation from which on two pictures count as one."""
_COARSE_PX, _FINE_PX = 12, 24
_COARSE_SLACK: Final = 0.015
"""How much the coarse correlation may lie below the fine one; a pair further below is missed."""
_BLOCK: Final = 2048

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Which pictures of a data set are the same.

    Attributes:
        original: (n,) row of the first picture with exactly these pixels; a picture's own row where it is that one.
        pairs: (m, 2) rows of near-duplicates, first < second; of identical pictures only the first stands here.
        similarity: (m,) correlation of each pair.
        mirrored: (m,) whether one is the other's mirror image.
        cluster: (n,) smallest row of all pictures that are the same, directly or through others.
    """

    original: Ints
    pairs: Ints
    similarity: Floats
    mirrored: npt.NDArray[np.bool_]
    cluster: Ints


def find_duplicates(images: Images, *, threshold: float = NEAR) -> Duplicates:
    """Compares every picture with every other: about n²/2 products of 144 numbers (32,298 pictures: seconds).

    Args:
        images: grey or BGR pictures of any sizes.
        threshold: correlation from which on two pictures count as one, 0..1.
    """
    original = _originals(images)
    rows = np.flatnonzero(original == np.arange(len(original)))
    coarse = _descriptors(images, rows, _COARSE_PX)
    fine = _descriptors(images, rows, _FINE_PX)
    first, second = _candidates(coarse, threshold - _COARSE_SLACK)
    direct, flipped = _row_products(fine, first, second)
    similarity = np.maximum(direct, flipped)
    near = similarity > threshold
    pairs = np.stack([rows[first[near]], rows[second[near]]], axis=1)
    return Duplicates(
        original=original,
        pairs=pairs,
        similarity=similarity[near],
        mirrored=(flipped > direct)[near],
        cluster=_clusters(original, pairs),
    )


def _originals(images: Images) -> Ints:
    seen: dict[bytes, int] = {}
    originals = np.empty(len(images), np.int64)
    for row, image in enumerate(images):
        digest = hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=16)
        originals[row] = seen.setdefault(digest.digest(), row)
    return originals


def _descriptors(images: Images, rows: Ints, side: int) -> Floats:
    """(len(rows), side, side) float32 without mean, of norm 1; zeros for constant pictures."""
    small = np.stack([resize(to_grey(images[row]), (side, side)) for row in rows]) if len(rows) else np.zeros((0, 1, 1))
    values = small.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt((values**2).sum(axis=(1, 2), keepdims=True))
    described: Floats = values / np.maximum(norms, 1e-3)
    return described


def _candidates(described: Floats, threshold: float) -> tuple[Ints, Ints]:
    """Positions of pairs whose correlation, plain or mirrored, exceeds ``threshold``.

    With a picture's even and odd part under mirroring, the plain correlation is even + odd and the mirrored one
    even - odd: both come for the price of one.
    """
    flat_shape = (len(described), -1)
    even = ((described + described[:, :, ::-1]) / 2).reshape(flat_shape)
    odd = ((described - described[:, :, ::-1]) / 2).reshape(flat_shape)
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for top in range(0, len(described), _BLOCK):
        for left in range(top, len(described), _BLOCK):
            best = odd[top : top + _BLOCK] @ odd[left : left + _BLOCK].T
            np.abs(best, out=best)
            best += even[top : top + _BLOCK] @ even[left : left + _BLOCK].T
            first, second = np.divmod(np.flatnonzero(best > threshold), best.shape[1])
            once = first + top < second + left
            firsts.append(first[once] + top)
            seconds.append(second[once] + left)
    return np.concatenate(firsts), np.concatenate(seconds)


def _row_products(described: Floats, first: Ints, second: Ints) -> tuple[Floats, Floats]:
    a, b = described[first], described[second]
    return (a * b).sum(axis=(1, 2)), (a * b[:, :, ::-1]).sum(axis=(1, 2))


def _clusters(original: Ints, pairs: Ints) -> Ints:
    parent = original.copy()

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for first, second in pairs:
        low, high = sorted((root(int(first)), root(int(second))))
        parent[high] = low
    return np.array([root(row) for row in range(len(parent))], np.int64)
