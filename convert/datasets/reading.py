"""Reads any data set in any known form into a `Dataset`; the table of forms stands here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import numpy as np

from convert.datasets.class_names import DROPPED, map_classes
from convert.datasets.dataset import Dataset, Dropped, Labels, concatenate
from convert.datasets.ferplus import majority_labels, plurality_labels
from convert.datasets.samples import Reader, Samples, printable, same_text
from convert.datasets.spec import DatasetSpec
from convert.datasets.split_names import selected_by
from edge.errors import DataError
from edge.registry import load_entry
from edge.system.files import hash_file

READERS: Final = {
    "fer2013": "convert.datasets.fer2013:Fer2013Csv",
    "arrays": "convert.datasets.arrays:Arrays",
    "ckplus": "convert.datasets.ckplus:CkPlus48",
    "jaffe": "convert.datasets.jaffe:Jaffe",
    "folders": "convert.datasets.folders:ClassFolders",
}
"""Form -> its reader. Forms are tried in this order when none is named: the general one comes last."""


Held = dict[tuple[str, Path], Samples]
"""What was read already, by form and path: several parts of one file are decoded once."""


def read_datasets(specs: Sequence[str | DatasetSpec], *, held: Held | None = None) -> Dataset:
    """Reads several data sets into one, in their order; see `read_dataset`."""
    held = {} if held is None else held
    return concatenate([read_dataset(spec, held=held) for spec in specs])


def read_dataset(spec: str | DatasetSpec, *, held: Held | None = None) -> Dataset:
    """Reads one data set, labels in our order.

    Args:
        spec: ``[FORMAT:]PATH[@KEY=VALUE,…]`` (`convert.datasets.spec`) or the parsed form.
        held: looked into before a file is read, and added to.

    Raises:
        UsageError: for a spec that says nothing, or an unknown form.
        DataError: for data that cannot be read, a class that is neither known nor mapped, or no picture left.
    """
    spec = DatasetSpec.parse(spec) if isinstance(spec, str) else spec
    form, reader = _reader_of(spec)
    samples = held.get((form, spec.path)) if held is not None else None
    if samples is None:
        samples = reader.read(spec.path)
    if held is not None:
        held[form, spec.path] = samples
    name = printable(spec.path.resolve().stem if spec.path.is_file() else spec.path.resolve().name)
    mapped = map_classes(samples.classes, spec.class_map, source=spec.path)
    labels, reasons = _chosen_labels(spec, samples, mapped)
    wanted = [split for chosen in spec.splits for split in selected_by(chosen)]
    selected = np.isin(samples.splits, wanted) if wanted else np.ones(len(labels), bool)
    kept = selected & (labels != DROPPED)
    unread = tuple(Dropped(name, reason, count) for reason, count in samples.left_out.items())
    dropped = unread + tuple(
        Dropped(name, reason, int((selected & rows).sum())) for reason, rows in reasons if (selected & rows).any()
    )
    whole = Dataset(
        name=name,
        images=samples.images,
        labels=labels,
        splits=samples.splits,
        subjects=np.array([f"{form}/{subject}" if subject else "" for subject in samples.subjects], np.str_),
        sequences=np.array([f"{form}/{sequence}" if sequence else "" for sequence in samples.sequences], np.str_),
        ids=samples.ids,
        sources=same_text(name, len(labels)),
        votes=samples.votes,
        sha256=_hash(spec, form, reader),
        dropped=dropped,
    )
    dataset = whole.select(kept).without_labels(*spec.omit)
    if spec.cut:
        dataset = _cut(dataset)
    if not len(dataset):
        there = ", ".join(np.unique(samples.splits))
        raise DataError(spec.path, f"no picture left of {len(labels)} in {there}; asked: {spec.canonical()}")
    return dataset


def _cut(dataset: Dataset) -> Dataset:
    """Return the largest face of each picture."""
    from convert.datasets.face_cut import cut_labelled  # the interpreter is loaded for this alone

    images, rows, dropped = cut_labelled(dataset.name, dataset.images)
    faces = replace(dataset.select(np.array(rows, np.int64)), images=images)
    return replace(faces, dropped=dataset.dropped + dropped)


def hash_datasets(specs: Sequence[str | DatasetSpec]) -> str:
    """sha256 of all files and of what is asked for, as `read_datasets` has it in ``sha256``; nothing is decoded."""
    parsed = [DatasetSpec.parse(spec) if isinstance(spec, str) else spec for spec in specs]
    hashes = [_hash(spec, *_reader_of(spec)) for spec in parsed]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _reader_of(spec: DatasetSpec) -> tuple[str, Reader]:
    if not spec.path.exists():
        raise DataError(spec.path, "no such file or folder")
    if spec.format is not None:
        return spec.format, _load_reader(spec.format)
    for form in READERS:
        reader = _load_reader(form)
        if reader.recognises(spec.path):
            return form, reader
    raise DataError(
        spec.path,
        "not recognised; wanted: fer2013.csv, an .npz of arrays, or a folder with one folder a class; "
        f"or name the form: {{{','.join(READERS)}}}:{spec.path}",
    )


def _load_reader(form: str) -> Reader:
    return cast(Reader, load_entry(READERS, form, what="form of data")())


def _chosen_labels(
    spec: DatasetSpec, samples: Samples, mapped: Labels
) -> tuple[Labels, list[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]]]:
    """The labels asked for, and for each reason to leave rows out the rows (n,) bool it concerns."""
    reasons = [(f"class {name} dropped", (samples.classes == name) & (mapped == DROPPED))
               for name in np.unique(samples.classes[mapped == DROPPED])]  # fmt: skip
    if spec.labels == "own":
        return mapped, reasons
    if samples.votes is None:
        raise DataError(spec.path, f"labels={spec.labels}: no FER+ votes (fer2013new.csv beside it, or ferplus_votes)")
    voted = (majority_labels if spec.labels == "ferplus" else plurality_labels)(samples.votes)
    voted = np.where(mapped == DROPPED, DROPPED, voted)
    reasons.append((f"no {spec.labels} label among ours", (voted == DROPPED) & (mapped != DROPPED)))
    return voted, reasons


def _hash(spec: DatasetSpec, form: str, reader: Reader) -> str:
    """sha256 of the form, what is asked for, and each file's name and content; not of where the files lie."""
    digest = hashlib.sha256(f"{form};{spec.canonical()}\n".encode())
    root = spec.path if spec.path.is_dir() else spec.path.parent
    try:
        for file in reader.files(spec.path):
            digest.update(f"{file.relative_to(root).as_posix()} {hash_file(file)}\n".encode(errors="surrogateescape"))
    except OSError as error:
        raise DataError(error.filename, f"cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
