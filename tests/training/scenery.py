"""Pictures that behave like photographs under comparison, and data sets made of them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from convert.datasets import Dataset


def scenery(count: int, seed: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pictures with structure at every scale, as photographs have it; no two alike."""
    rng = np.random.default_rng(seed)
    smooth = cv2.INTER_CUBIC
    layers = [
        np.stack([cv2.resize(rng.normal(0, 1, (cells, cells)), (48, 48), interpolation=smooth) for _ in range(count)])
        for cells in (3, 6, 12, 24)
    ]
    mixed = layers[0] + 0.7 * layers[1] + 0.4 * layers[2] + 0.2 * layers[3]
    return np.clip(128 + 40 * mixed, 0, 255).astype(np.uint8)


def dataset_of(images: Any, labels: list[int], splits: list[str], subjects: list[str] | None = None) -> Dataset:
    count = len(labels)
    people = np.array(subjects if subjects is not None else [""] * count)
    ids = np.array([f"row{i}" for i in range(count)])
    named = np.full(count, "made")
    return Dataset("made", images, np.array(labels), np.array(splits), people, people, ids, named, None, "0" * 64)
