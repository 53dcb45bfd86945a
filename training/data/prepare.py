"""Makes one clean data set of many, once: what leaks is dropped, splits are cut, pixels brought to one size.

The result is an ``.npz`` in the form that `convert.datasets.arrays` reads, so that it is data like any other:
``mien-train fit RECIPE --data PREPARED.npz``. It lies in a cache under the hash of everything that went into it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from convert.datasets import Dataset, Dropped, hash_datasets, read_datasets
from convert.datasets.split_names import PRIVATE_TEST, PUBLIC_TEST, TEST, TRAIN, VALIDATION
from edge.contract.golden import encode_npz
from edge.contract.labels import LABELS
from edge.errors import DataError, UsageError
from training.data.duplicates import NEAR, Duplicates, Ints, find_duplicates
from training.data.splits import assign_folds
from training.files import write_file

SCHEMA: Final = "mien.prepared/1"
_HELD_OUT: Final = (VALIDATION, TEST, PUBLIC_TEST, PRIVATE_TEST)


class Options(Struct, frozen=True, kw_only=True):
    """How data are prepared.

    Attributes:
        validation: share of the training pictures that becomes the validation split, where the data name none.
        test: share that becomes the test split, where the data name none; 0 for no test split.
        seed: of the draws.
        size_px: side of the pictures; None keeps the size that all of them have.
        colour: of the pictures.
        near: correlation from which on two pictures are the same photograph.
    """

    validation: float = 0.1
    test: float = 0.0
    seed: int = 2013
    size_px: int | None = None
    colour: Literal["grey", "bgr"] = "grey"
    near: float = NEAR


class Report(Struct, frozen=True, kw_only=True):
    """What lies beside the prepared data as JSON.

    Attributes:
        schema: of this file.
        name: of the data.
        inputs_sha256: of the files read and of what was asked for.
        options: how they were prepared.
        counts: per split, per label.
        dropped: data set, reason, count; what the reading left out on purpose stands first.
    """

    schema: str = SCHEMA
    name: str
    inputs_sha256: str
    options: Options
    counts: dict[str, dict[str, int]]
    dropped: list[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Prepared data on disk.

    Attributes:
        path: the ``.npz``.
        report: what was done.
        reused: whether it was in the cache.
    """

    path: Path
    report: Report
    reused: bool


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/mien``, or ``~/.cache/mien``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def prepare(specs: Sequence[str], *, options: Options | None = None, cache: Path | None = None) -> Prepared:
    """Reads, cleans and splits data sets, or finds them done in the cache.

    Args:
        specs: data sets as on the command line.
        options: how.
        cache: folder of the results; `default_cache` when None.

    Raises:
        UsageError: shares that leave nothing to train on.
        DataError: data that cannot be read, or no training picture left.
    """
    options = options or Options()
    if options.validation <= 0 or options.test < 0 or options.validation + options.test > 0.5:
        shares = f"validation {options.validation:g} and test {options.test:g}"
        raise UsageError(f"{shares}: not shares that are positive and leave half of the pictures to train on")
    inputs = hash_datasets(specs)
    key = hashlib.sha256(SCHEMA.encode() + inputs.encode() + msgspec.json.encode(options)).hexdigest()
    path = (cache or default_cache()) / f"{key[:20]}.npz"
    record = path.with_suffix(".json")
    if path.is_file() and record.is_file():
        return Prepared(path, msgspec.json.decode(record.read_bytes(), type=Report), reused=True)
    dataset = clean_and_split(read_datasets(specs), options)
    report = Report(
        name=dataset.name,
        inputs_sha256=inputs,
        options=options,
        counts=_counts(dataset),
        dropped=[(drop.source, drop.reason, drop.count) for drop in dataset.dropped],
    )
    write_file(record, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    write_file(path, encode_dataset(dataset, options))  # the pictures last: where they are, everything is
    return Prepared(path, report, reused=False)


def clean_and_split(dataset: Dataset, options: Options) -> Dataset:
    """Every picture in ``train``, ``validation`` or a test split, none of them in two; held-out pictures come first.

    Held-out pictures that the data name are left as they are. From the rest everything goes that shows nothing, is the
    same photograph as a held-out picture, or shows a person who is held out. What is cut off then keeps people and
    copies of a photograph on one side.
    """
    duplicates = find_duplicates(dataset.images, threshold=options.near)
    groups = independent_groups(dataset, duplicates)
    held_out = np.isin(dataset.splits, _HELD_OUT)
    reasons = _reasons_to_drop(dataset, duplicates, held_out)
    dropped = np.any(list(reasons.values()), axis=0)
    pool = np.flatnonzero(~held_out & ~dropped)
    if not len(pool):
        raise DataError(dataset.name, "no picture to train on is left; name a training split, or data without splits")
    learned = replace(dataset.select(pool), subjects=groups[pool].astype(np.str_))
    splits = dataset.splits.astype("<U12")
    splits[pool] = _cut(learned, options, named=set(dataset.splits))
    records = tuple(Dropped(dataset.name, reason, int(rows.sum())) for reason, rows in reasons.items() if rows.any())
    whole = replace(dataset, splits=splits, dropped=dataset.dropped + records)
    return whole.select(np.r_[np.flatnonzero(held_out), pool])


def _reasons_to_drop(
    dataset: Dataset, duplicates: Duplicates, held_out: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Each reason with the rows (n,) bool that it alone takes out of the training pictures, in this order."""
    constant = np.array([int(image.max()) == int(image.min()) for image in dataset.images])
    people = set(dataset.subjects[held_out]) - {""}
    candidates = {
        "shows nothing: all pixels equal": constant,
        "pixel-identical to a held-out picture": np.isin(duplicates.original, duplicates.original[held_out]),
        "the same photograph as a held-out picture": np.isin(duplicates.cluster, duplicates.cluster[held_out]),
        "shows a person who is held out": np.isin(dataset.subjects, sorted(people)),
    }
    taken, reasons = held_out.copy(), {}
    for reason, rows in candidates.items():
        reasons[reason] = rows & ~taken
        taken |= rows
    return reasons


def independent_groups(dataset: Dataset, duplicates: Duplicates) -> Ints:
    """(n,) group of each picture: pictures of one person or of one photograph, directly or through others, share it."""
    group: Ints = duplicates.cluster.copy()
    _, person = np.unique(dataset.subjects, return_inverse=True)
    known = dataset.subjects != ""
    while True:
        smallest = np.full(int(person.max(initial=-1)) + 1, len(group), np.int64)
        np.minimum.at(smallest, person[known], group[known])
        merged = group.copy()
        merged[known] = smallest[person[known]]
        of_cluster = np.full(len(group), len(group), np.int64)
        np.minimum.at(of_cluster, duplicates.cluster, merged)
        merged = of_cluster[duplicates.cluster]
        if np.array_equal(merged, group):
            return group
        group = merged


def _cut(learned: Dataset, options: Options, *, named: set[str]) -> npt.NDArray[np.str_]:
    """The new split of each training picture; test and validation are cut off where the data name none."""
    splits = np.full(len(learned), TRAIN, "<U12")
    rest = np.arange(len(learned))
    for split, share, others in (
        (TEST, options.test, {TEST, PUBLIC_TEST, PRIVATE_TEST}),
        (VALIDATION, options.validation, {VALIDATION}),
    ):
        if share and not named & others:
            left = learned.select(rest)
            folds_wanted = round(len(rest) / (share * len(learned)))
            count = max(2, min(folds_wanted, len(set(left.subjects))))  # a small set of few people loses one of them
            folds = assign_folds(left, count=count, seed=options.seed)
            splits[rest[folds == 0]] = split
            rest = rest[folds != 0]
    return splits


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {
        split: dict(zip(LABELS, dataset.in_splits(split).label_counts().tolist(), strict=True))
        for split in (TRAIN, *_HELD_OUT)
        if split in set(dataset.splits)
    }


def encode_dataset(dataset: Dataset, options: Options) -> bytes:
    """The ``.npz`` that `convert.datasets.arrays` reads, pixels brought to the size and colour of the options."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "images": _pixels(dataset, options),
        "labels": dataset.labels.astype(np.uint8),
        "classes": np.array(LABELS),
        "split": dataset.splits,
        "subject": dataset.subjects,
        "sequence": dataset.sequences,
        "name": np.char.add(np.char.add(dataset.sources, "/"), dataset.ids),
    }
    if dataset.votes is not None:
        arrays["ferplus_votes"] = dataset.votes
    return encode_npz(arrays)


def _pixels(dataset: Dataset, options: Options) -> npt.NDArray[np.uint8]:
    size_px = options.size_px
    if size_px is None:
        sizes = {image.shape[:2] for image in dataset.images}
        if len(sizes) != 1 or len(set(next(iter(sizes)))) != 1:
            there = ", ".join(sorted(f"{width}x{height}" for height, width in sizes)[:6])
            raise UsageError(f"{dataset.name}: pictures of {there}; say which size they shall have: --size 48")
        size_px = next(iter(sizes))[0]
    return dataset.model_inputs(size_px=size_px, colour=options.colour)
