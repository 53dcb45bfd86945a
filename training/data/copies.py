"""Test pictures with a copy among the training pictures, and what a figure is without them.

The list holds SHA-256 of pixels, no picture; a bundle's manifest says by the list's own SHA-256 which one it goes with.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset, concatenate
from edge.errors import DataError
from training.data.duplicates import NEAR, find_duplicates

Bools = npt.NDArray[np.bool_]


def find_copies(tests: Dataset, trained_on: Dataset, *, threshold: float = NEAR) -> Bools:
    """(n,) whether a test picture is a training picture, identical, nearly so or mirrored.

    Args:
        tests: n pictures.
        trained_on: what a model was trained on.
        threshold: correlation from which on two pictures are the same photograph.
    """
    found = find_duplicates(concatenate([trained_on, tests]).images, threshold=threshold)
    count = len(trained_on)
    # A copy is direct: a chain of near copies need not show the same photograph at its ends.
    near = found.pairs[(found.pairs[:, 0] < count) & (found.pairs[:, 1] >= count)][:, 1]
    copied = found.original[count:] < count
    return copied | np.isin(found.original[count:], near)


def hash_pictures(dataset: Dataset) -> list[str]:
    """SHA-256 of each picture's shape and pixels, 64 hexadecimal digits."""
    return [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in dataset.images]


def encode_copies(tests: Dataset, copied: Bools) -> bytes:
    """The list of the copied pictures, one SHA-256 a line, sorted."""
    hashes = sorted({digest for digest, is_copy in zip(hash_pictures(tests), copied, strict=True) if is_copy})
    return "".join(f"{digest}\n" for digest in hashes).encode()


def read_copies(file: Path, tests: Dataset) -> tuple[Bools, str]:
    """(n,) whether a test picture is in a list, and the list's SHA-256.

    Raises:
        DataError: a file that cannot be read, or that is no such list.
    """
    try:
        raw = file.read_bytes()
        lines = raw.decode("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            file, f"cannot be read: {getattr(error, 'strerror', None) or 'not a list of SHA-256'}"
        ) from error
    if not all(len(line) == 64 and set(line) <= set("0123456789abcdef") for line in lines):
        raise DataError(file, "not a list of SHA-256, one a line, as mien-train copies writes it")
    listed = set(lines)
    return np.array([digest in listed for digest in hash_pictures(tests)], bool), hashlib.sha256(raw).hexdigest()
