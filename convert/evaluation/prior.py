"""The balanced operating point: offsets of the logits that rare expressions gain from, for a stated price.

A model names frequent classes more often than their pictures alone say. Taking a share of the logarithm of each class's
frequency off its logit undoes a part of that (Menon et al., Long-tail learning via logit adjustment, 2021).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from convert.evaluation.classification import Ints
from edge.contract.manifest import LogitOffsets
from edge.records import Floats

SHARES: Final = tuple(round(0.05 * k, 2) for k in range(21))
"""Of the logarithm of the class frequencies; the ones that are tried."""
PRICE: Final = 0.025
"""Share of accuracy that the balanced point may cost, on the pictures that choose it; set with CK+48 in view."""


def fit_offsets(logits: Floats, labels: Ints) -> LogitOffsets:
    """The offsets with the best mean recall among those of `SHARES` that cost no more than `PRICE` of accuracy.

    Args:
        logits: (n, classes) of labelled pictures, which occur as often as they do where the model is used naturally.
        labels: (n,) true classes.

    Returns:
        Offsets that are added to the logits; the natural ones are 0, the balanced ones have the mean 0.
    """
    classes = logits.shape[1]
    frequency = (np.bincount(labels, minlength=classes) + 1) / (len(labels) + classes)
    direction = -np.log(frequency) + np.log(frequency).mean()
    least = (logits.argmax(axis=1) == labels).mean() - PRICE
    best, chosen = -1.0, np.zeros(classes)
    for share in SHARES:
        offsets = share * direction
        right = (logits + offsets.astype(np.float32)).argmax(axis=1) == labels
        recall = float(np.mean([right[labels == k].mean() for k in np.unique(labels)]))
        if right.mean() >= least and recall > best:
            best, chosen = recall, offsets
    return LogitOffsets(natural=(0.0,) * classes, balanced=tuple(round(float(value), 4) for value in chosen))
