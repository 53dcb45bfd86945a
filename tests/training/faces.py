"""A small learnable data set: each class is a pattern of its own under noise."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from convert.datasets import Dataset, read_dataset
from edge.contract.labels import LABELS
from training.recipe import Recipe

TINY_RECIPE = {
    "name": "tiny",
    "model": {"architecture": "resnet", "options": {"stem": 4, "widths": [4, 8], "blocks": [0, 1], "dropout": 0.2}},
    "augment": {"flip": 0.5, "affine": 0.5, "shift_x": 0.05, "noise": 0.2, "erase": 0.2},
    "train": {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.05, "ema": 0.9, "mixup": 0.3},
}


def make_recipe(**changes: object) -> Recipe:
    """The tiny recipe with some of its tables' keys changed: ``train={"epochs": 3}``."""
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY_RECIPE.items()}
    for table, values in changes.items():
        tree[table] = {**tree.get(table, {}), **values} if isinstance(values, dict) else values  # type: ignore[dict-item]
    return msgspec.convert(tree, Recipe)


def write_faces(
    folder: Path,
    *,
    count: int = 70,
    size_px: int = 16,
    seed: int = 5,
    labels: tuple[str, ...] = LABELS,
    votes: bool = True,
) -> Path:
    """An ``.npz`` of ``count`` training pictures and a fifth as many public-test ones, classes in turn."""
    rng = np.random.default_rng(seed)
    total = count + count // 5
    own = np.array([LABELS.index(labels[i % len(labels)]) for i in range(total)], np.uint8)
    patterns = np.random.default_rng(0).integers(40, 216, (len(LABELS), size_px, size_px))
    images = np.clip(patterns[own] + rng.normal(0, 25, (total, size_px, size_px)), 0, 255).astype(np.uint8)
    columns = np.array([4, 5, 6, 1, 3, 2, 0])
    table = np.zeros((total, 10), np.uint8)
    table[np.arange(total), columns[own]] = 8
    table[:, 7] = 2  # contempt
    usage = np.where(np.arange(total) < count, 0, 1).astype(np.uint8)
    arrays = {"images": images, "labels": own, "usage": usage}
    file = folder / "faces.npz"
    np.savez(file, **arrays, **({"ferplus_votes": table} if votes else {}))
    return file


def read_faces(folder: Path, **options: object) -> Dataset:
    """`write_faces`, read."""
    return read_dataset(str(write_faces(folder, **options)))  # type: ignore[arg-type]
