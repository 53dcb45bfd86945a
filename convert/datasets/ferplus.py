"""FER+: ten votes for every picture of FER2013, and what can be made of them.

Source: Barsoum, Zhang, Canton Ferrer, Zhang, Training Deep Networks for Facial Expression Recognition with
Crowd-Sourced Label Distribution, ICMI 2016.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge.contract.labels import LABELS

COLUMNS: Final = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
"""The vote columns of ``fer2013new.csv``, in their order. NF: not a face."""
NO_VOTES: Final = 255
"""Fills the row of a picture that FER+ did not judge."""
OUR_COLUMNS: Final = (4, 5, 6, 1, 3, 2, 0)
"""Column of each of our labels, in our order."""

Votes = npt.NDArray[np.uint8]


def count_votes(votes: Votes) -> npt.NDArray[np.int64]:
    """(n, 10) votes without the outliers: a single vote for an emotion is dropped, as FER+ does it.

    Args:
        votes: (n, 10) uint8; 255 in rows that FER+ did not judge, which come back as zeros.
    """
    return np.where((votes <= 1) | (votes == NO_VOTES), 0, votes).astype(np.int64)


def majority_labels(votes: Votes) -> npt.NDArray[np.int64]:
    """FER+'s majority rule: the winner needs more than half of the votes that are left after the outliers.

    Args:
        votes: (n, 10) uint8, as in `count_votes`.

    Returns:
        (n,) int64 in our order; -1 where there is no majority, or it is contempt, unknown or not a face.
    """
    counted = count_votes(votes)
    has_majority = counted.max(axis=1, initial=0) * 2 > counted.sum(axis=1)
    return np.where(has_majority, _ours(counted), -1)


def plurality_labels(votes: Votes) -> npt.NDArray[np.int64]:
    """The most voted column after the outliers, majority or not; ties go to the earlier column.

    Args:
        votes: (n, 10) uint8, as in `count_votes`.

    Returns:
        (n,) int64 in our order; -1 where nothing is left, or contempt, unknown or not a face leads.
    """
    counted = count_votes(votes)
    return np.where(counted.max(axis=1, initial=0) > 0, _ours(counted), -1)


def vote_distributions(votes: Votes) -> npt.NDArray[np.float32]:
    """The share of each of our labels among the votes for our labels, outliers removed.

    Args:
        votes: (n, 10) uint8, as in `count_votes`.

    Returns:
        (n, 7) float32 in our order; rows sum to 1, or to 0 where no vote for one of our labels is left.
    """
    counted = count_votes(votes)[:, list(OUR_COLUMNS)].astype(np.float32)
    total = counted.sum(axis=1, keepdims=True)
    shares: npt.NDArray[np.float32] = np.divide(counted, total, out=np.zeros_like(counted), where=total > 0)
    return shares


def _ours(counted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    table = np.full(len(COLUMNS), -1, np.int64)
    table[list(OUR_COLUMNS)] = np.arange(len(LABELS))
    winners: npt.NDArray[np.int64] = table[counted.argmax(axis=1)]
    return winners
