"""Looks at data before anybody trains: counts, copies across splits, contradictions, constant pictures, subjects.

`audit` finds the facts, `training.data.audit_page` shows them, `mien-train data` calls both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Final

import numpy as np
from msgspec import Struct

from convert.datasets import Dataset, majority_labels
from convert.datasets.ferplus import NO_VOTES
from convert.datasets.split_names import SPLITS
from edge.contract.labels import LABELS
from training.data.duplicates import Duplicates, Ints, find_duplicates

SCHEMA: Final = "mien.data/1"
_SHOWN: Final = 200
"""Rows of pictures that are named in the JSON; counts are always of all."""


class Leak(Struct, frozen=True, kw_only=True):
    """Pictures of one split that another split has, too.

    Attributes:
        splits: the one whose pictures are counted, and the one that has them, too.
        identical: pictures of the first that stand, pixel for pixel, in the second.
        near: pictures of the first that are the same photograph as one in the second, identical ones included.
    """

    splits: tuple[str, str]
    identical: int
    near: int


class Group(Struct, frozen=True, kw_only=True):
    """Pictures that belong together: their ids, labels and splits."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]


class Report(Struct, frozen=True, kw_only=True):
    """What ``mien-train data --json`` writes; figures are counts of pictures unless said otherwise.

    Attributes:
        schema: of this file.
        name: of the data.
        sha256: of the files read and of what was asked for.
        pictures: all that were read.
        counts: per split, per label.
        sources: per data set.
        dropped: what was left out on purpose: data set, reason, count.
        sizes: per picture size, ``48x48 grey``.
        identical_groups: groups of pixel-identical pictures.
        identical_copies: pictures that could be removed without losing one.
        near_pairs: pairs of different files that show the same photograph, identical ones not counted.
        near_groups: groups of the same photograph, identical ones included.
        leaks: per pair of splits.
        contradictions: groups of identical pictures with different labels.
        contradicting: groups named, at most 200.
        constant: pictures whose pixels are all equal.
        constant_ids: named, at most 200.
        subjects: different people, where known.
        subjects_across: per pair of splits the people on both sides.
        voted: pictures with FER+ votes.
        vote_agreement: share of the voted pictures with a majority among our labels whose label is that majority.
    """

    schema: str = SCHEMA
    name: str
    sha256: str
    pictures: int
    counts: dict[str, dict[str, int]]
    sources: dict[str, int]
    dropped: list[tuple[str, str, int]]
    sizes: dict[str, int]
    identical_groups: int
    identical_copies: int
    near_pairs: int
    near_groups: int
    leaks: list[Leak]
    contradictions: int
    contradicting: list[Group]
    constant: int
    constant_ids: list[str]
    subjects: int
    subjects_across: list[tuple[str, str, list[str]]]
    voted: int
    vote_agreement: float | None


@dataclass(frozen=True, slots=True)
class Audit:
    """A report with the rows behind it, for the page.

    Attributes:
        report: the figures.
        dataset: what was audited.
        duplicates: which pictures are the same.
        repeated: rows of each group of the same photograph, largest first, constant pictures left out.
        contradicting: rows of each group of identical pictures with different labels.
        leaking: rows of each group of the same photograph that lies in several splits.
        constant: rows of constant pictures.
    """

    report: Report
    dataset: Dataset
    duplicates: Duplicates
    repeated: list[Ints]
    contradicting: list[Ints]
    leaking: list[Ints]
    constant: Ints


def audit(dataset: Dataset) -> Audit:
    """Finds everything that makes a figure measured on this data worth less than it looks.

    Constant pictures are counted for themselves, not as copies of each other.
    """
    duplicates = find_duplicates(dataset.images)
    constant = np.flatnonzero([int(image.max()) == int(image.min()) for image in dataset.images])
    identical = _groups(duplicates.original, without=constant)
    same_photo = _groups(duplicates.cluster, without=constant)
    contradicting = [rows for rows in identical if len(np.unique(dataset.labels[rows])) > 1]
    voted, agreement = _vote_agreement(dataset)
    names, sizes = np.unique(dataset.sources, return_counts=True)
    report = Report(
        name=dataset.name,
        sha256=dataset.sha256,
        pictures=len(dataset),
        counts=_counts(dataset),
        sources={str(name): int(size) for name, size in zip(names, sizes, strict=True)},
        dropped=[(record.source, record.reason, record.count) for record in dataset.dropped],
        sizes=_sizes(dataset),
        identical_groups=len(identical),
        identical_copies=sum(len(rows) - 1 for rows in identical),
        near_pairs=len(duplicates.pairs),
        near_groups=len(same_photo),
        leaks=_leaks(dataset, duplicates),
        contradictions=len(contradicting),
        contradicting=[_name(dataset, rows) for rows in contradicting[:_SHOWN]],
        constant=len(constant),
        constant_ids=[str(name) for name in dataset.ids[constant[:_SHOWN]]],
        subjects=len(set(dataset.subjects) - {""}),
        subjects_across=_subjects_across(dataset),
        voted=voted,
        vote_agreement=agreement,
    )
    leaking = [rows for rows in same_photo if len(np.unique(dataset.splits[rows])) > 1]
    return Audit(report, dataset, duplicates, same_photo, contradicting, leaking, constant)


def present_splits(dataset: Dataset) -> list[str]:
    """The splits that have pictures, in their usual order."""
    there = set(dataset.splits)
    return [split for split in SPLITS if split in there]


def shared_rows(dataset: Dataset, key: Ints, first: str, second: str) -> Ints:
    """Rows of split ``first`` whose ``key`` also occurs in split ``second``."""
    in_first = np.flatnonzero(dataset.splits == first)
    return in_first[np.isin(key[in_first], key[dataset.splits == second])]


def _groups(key: Ints, *, without: Ints) -> list[Ints]:
    """Rows of equal ``key`` that are more than one, largest group first."""
    order = np.argsort(key, kind="stable")
    order = order[~np.isin(order, without)]
    parts = np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=len, reverse=True)


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {
        split: {
            label: int(count)
            for label, count in zip(LABELS, dataset.in_splits(split).label_counts(), strict=True)
        }
        for split in present_splits(dataset)
    }  # fmt: skip


def _sizes(dataset: Dataset) -> dict[str, int]:
    if not isinstance(dataset.images, tuple):
        return {_size(dataset.images.shape[1:]): len(dataset)}
    names, counts = np.unique([_size(image.shape) for image in dataset.images], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} {'colour' if len(shape) == 3 else 'grey'}"


def _leaks(dataset: Dataset, duplicates: Duplicates) -> list[Leak]:
    """In every direction: one training picture may stand in the test split three times."""
    return [
        Leak(
            splits=(first, second),
            identical=len(shared_rows(dataset, duplicates.original, first, second)),
            near=len(shared_rows(dataset, duplicates.cluster, first, second)),
        )
        for first, second in permutations(present_splits(dataset), 2)
    ]


def _name(dataset: Dataset, rows: Ints) -> Group:
    return Group(
        ids=tuple(map(str, dataset.ids[rows])),
        labels=tuple(LABELS[label] for label in dataset.labels[rows]),
        splits=tuple(map(str, dataset.splits[rows])),
    )


def _subjects_across(dataset: Dataset) -> list[tuple[str, str, list[str]]]:
    people = {split: set(dataset.subjects[dataset.splits == split]) - {""} for split in present_splits(dataset)}
    return [
        (first, second, sorted(map(str, people[first] & people[second])))
        for first, second in combinations(people, 2)
        if people[first] & people[second]
    ]


def _vote_agreement(dataset: Dataset) -> tuple[int, float | None]:
    if dataset.votes is None:
        return 0, None
    majority = majority_labels(dataset.votes)
    decided = majority >= 0
    voted = int((dataset.votes[:, 0] != NO_VOTES).sum())
    return voted, float((majority == dataset.labels)[decided].mean()) if decided.any() else None
