"""What a reader hands over: pictures with the source's own class names, before anything is mapped or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from convert.datasets.dataset import Images, Texts
from convert.datasets.ferplus import Votes


@dataclass(frozen=True, slots=True)
class Samples:
    """All pictures of one source, in a fixed order; every array has one entry a picture.

    Attributes:
        images: see `convert.datasets.dataset.Images`.
        classes: (n,) class names as the source writes them.
        splits: (n,) names of `convert.datasets.split_names`.
        subjects: (n,) subject, empty where unknown.
        sequences: (n,) sequence, empty where unknown.
        ids: (n,) the source row.
        votes: (n, 10) uint8 FER+ votes, or None.
        left_out: reason to how many pictures were not read.
    """

    images: Images
    classes: Texts
    splits: Texts
    subjects: Texts
    sequences: Texts
    ids: Texts
    votes: Votes | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


class Reader(Protocol):
    """One form in which people have labelled faces on disk."""

    def recognises(self, path: Path) -> bool:
        """Whether ``path``, which exists, looks like this form. Cheap: no picture is decoded."""

    def files(self, path: Path) -> list[Path]:
        """Every file that `read` reads, in a fixed order."""

    def read(self, path: Path) -> Samples:
        """Reads everything.

        Raises:
            DataError: with the file, the row or key, its value and what is allowed.
        """


def texts(values: Sequence[str]) -> Texts:
    """An array of texts; empty sequences keep their kind. Bytes of file names that are no UTF-8 are escaped."""
    return np.array([printable(value) for value in values], dtype=np.str_)


def printable(name: str) -> str:
    """Return a file's name with bytes that are no UTF-8 escaped, so that it can be printed and written."""
    return name.encode("utf-8", "backslashreplace").decode()


def same_text(value: str, count: int) -> Texts:
    """``count`` times the same text."""
    return np.full(count, value, dtype=f"<U{max(1, len(value))}")
