"""The balanced operating point: what it gains and what it may cost."""

from __future__ import annotations

import numpy as np

from convert.evaluation.prior import PRICE, fit_offsets


def pictures(*, pull: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Logits of 3 classes, frequent to rare, that a model pulls to the frequent one by ``pull``."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, 3000, p=[0.7, 0.25, 0.05])
    logits = rng.normal(0, 1, (3000, 3)) + 2.0 * np.eye(3)[labels] + pull * np.array([1.0, 0.3, -1.3])
    return logits.astype(np.float32), labels


def test_rare_classes_gain_recall_within_the_price() -> None:
    logits, labels = pictures(pull=0.4)
    offsets = fit_offsets(logits, labels)
    assert offsets.natural == (0.0, 0.0, 0.0)
    assert offsets.balanced[0] < offsets.balanced[1] < offsets.balanced[2]
    before, after = logits.argmax(axis=1), (logits + np.array(offsets.balanced)).argmax(axis=1)
    recall = [np.mean([(seen[labels == k] == k).mean() for k in range(3)]) for seen in (before, after)]
    assert recall[1] > recall[0] + 0.02
    assert (after == labels).mean() >= (before == labels).mean() - PRICE


def test_a_model_that_knows_everything_needs_no_offsets() -> None:
    labels = np.arange(30) % 3
    assert fit_offsets((9 * np.eye(3)[labels]).astype(np.float32), labels).balanced == (0.0, 0.0, 0.0)


def test_a_class_without_pictures_neither_counts_nor_fails() -> None:
    logits, labels = pictures(pull=0.4)
    kept = labels != 2
    assert np.isfinite(fit_offsets(logits[kept], labels[kept]).balanced).all()
