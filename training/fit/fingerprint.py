"""The fingerprint of a run: everything that its weights depend on, compared before anything of it is reused.

A run folder, a fold or a search that was made from something else is never gone on with, averaged or judged in
silence: `differences` names what is not the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from convert.datasets import Dataset
from edge.errors import UsageError
from training.recipe import Recipe

CHANGEABLE: Final = frozenset({"train.epochs", "train.warmup_epochs", "train.learning_rate", "train.patience"})
"""Keys of a recipe that a run which goes on may change; each change is written into its record."""
_UNNOTICED: Final = ("name", "description", "published")
"""Keys that only people read."""


class Fingerprint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run's weights depend on.

    Attributes:
        recipe: dotted key to its value as JSON; without what only people read.
        training: SHA-256 of the pictures that are learned from, their labels and votes.
        validation: the same of the pictures that choose the best epoch.
        teachers: SHA-256 of each teacher's file, by its name.
        weights: SHA-256 of each file that the run began with, by its name.
    """

    recipe: dict[str, str]
    training: str
    validation: str
    teachers: dict[str, str] = {}
    weights: dict[str, str] = {}


def make_fingerprint(
    recipe: Recipe,
    *,
    training: Dataset,
    validation: Dataset,
    teachers: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
) -> Fingerprint:
    """Return the fingerprint of a run.

    Args:
        recipe: what is trained.
        training: pictures that are learned from.
        validation: pictures that choose the best epoch.
        teachers: SHA-256 of each teacher's file, by its name.
        weights: SHA-256 of each file to begin with, by its name.
    """
    return Fingerprint(
        recipe=flatten_recipe(recipe),
        training=hash_pictures(training),
        validation=hash_pictures(validation),
        teachers=dict(teachers or {}),
        weights=dict(weights or {}),
    )


def differences(stored: Fingerprint, now: Fingerprint, *, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Return what is not the same, in words; empty where nothing differs.

    Args:
        stored: of the run that exists.
        now: of what was asked for.
        allowed: keys of the recipe that may differ.
    """
    found = recipe_changes(stored.recipe, now.recipe, without=allowed)
    for part, words in (("training", "the training pictures"), ("validation", "the validation pictures")):
        if getattr(stored, part) != getattr(now, part):
            found.append(words)
    for part, words in (("teachers", "the teachers"), ("weights", "the weights to begin with")):
        if getattr(stored, part) != getattr(now, part):
            found.append(f"{words} ({_names(getattr(stored, part))}, now {_names(getattr(now, part))})")
    return found


def recipe_changes(
    stored: Mapping[str, str], now: Mapping[str, str], *, without: frozenset[str] = frozenset()
) -> list[str]:
    """Return each key of a recipe that changed: ``train.seed 1, now 2``."""
    keys = [key for key in {**stored, **now} if key not in without]
    return [
        f"{key} {stored.get(key, 'unset')}, now {now.get(key, 'unset')}"
        for key in keys
        if stored.get(key) != now.get(key)
    ]


def refuse_other(what: str, stored: Fingerprint | None, now: Fingerprint, *, allowed: frozenset[str]) -> None:
    """Refuse to reuse what was made from something else.

    Raises:
        UsageError: one line that says what differs, or that nothing is known about it.
    """
    if stored is None:
        raise UsageError(
            f"{what} is of a version that did not note what a run depends on; it can be evaluated and exported, "
            "not gone on with: use another folder"
        )
    if found := differences(stored, now, allowed=allowed):
        raise UsageError(f"{what} was made from something else: {'; '.join(found)}; use another folder")


def flatten_recipe(recipe: Recipe) -> dict[str, str]:
    """Return the recipe as dotted keys and JSON values, without what only people read."""
    tree = {key: value for key, value in msgspec.to_builtins(recipe).items() if key not in _UNNOTICED}
    flat: dict[str, str] = {}
    _flatten(tree, "", flat)
    return flat


def hash_pictures(dataset: Dataset) -> str:
    """Return the SHA-256 of pictures with their labels and votes, in their order; their paths do not count."""
    digest = hashlib.sha256()
    for table in (dataset.labels, dataset.votes):
        digest.update(b"-" if table is None else np.ascontiguousarray(table).tobytes())
    for image in dataset.images:
        digest.update(str(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _flatten(tree: Mapping[str, Any], path: str, flat: dict[str, str]) -> None:
    for key, value in tree.items():
        dotted = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and value:
            _flatten(value, dotted, flat)
        elif value is not None and value != {}:
            flat[dotted] = json.dumps(value, ensure_ascii=False)


def _names(files: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {digest[:8]}" for name, digest in files.items()) or "none"
