"""``mien-train evaluate``: reads a model and data, measures, writes the page and the report that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from convert.datasets import Dataset, DatasetSpec, concatenate, read_dataset
from convert.datasets.split_names import PRIVATE_TEST, PUBLIC_TEST, TEST
from edge.contract.manifest import Prior
from edge.errors import UsageError
from training.data.splits import picture_hashes
from training.evaluate.evaluate import Report, encode_predictions, encode_report, evaluate, fit_on
from training.evaluate.models import load_evaluated_model
from training.evaluate.protocols import count_contempt
from training.evaluate.report import write_pages
from training.files import write_file


def evaluate_command(
    name_or_path: str,
    data: Sequence[str],
    *,
    calibrate: Sequence[str] = (),
    other: str | None = None,
    flip: bool = False,
    scatter: bool = False,
    prior: Prior = "natural",
    copies: Path | None = None,
    protocols: bool = False,
    out: Path | None = None,
    json_file: Path | None = None,
    predictions: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Evaluates a run or a bundle and writes what is asked for.

    Args:
        name_or_path: run folder, bundle folder, or the name of a bundle that ships.
        data: data sets as on the command line; of one that names test splits, only those, where no split is asked for.
        calibrate: labelled data to fit the temperature on; empty for the bundle's own, or the run's validation split.
        other: a second run or bundle to compare with.
        flip: average over the picture and its mirror image.
        scatter: measure under the device's scatter, too.
        prior: the operating point.
        copies: list of test pictures that are training pictures too, for the figure without them.
        protocols: measure by other protocols, too.
        out: folder for the page and the charts.
        json_file: the report as JSON.
        predictions: a row a picture as CSV.
        say: takes a line about what is not known.

    Raises:
        UsageError: a run's validation pictures are not what they were, or pictures that the temperature is fitted on
            are the ones that are evaluated.
    """
    dataset = read_for_evaluation(data)
    for record in dataset.dropped:
        say(f"left out of {record.source}: {record.count:,} ({record.reason})")
    held_out = concatenate([read_dataset(spec) for spec in calibrate]) if calibrate else None
    if held_out is not None:
        _refuse_overlap(held_out, dataset)
    model = load_evaluated_model(name_or_path, prior=prior)
    if held_out is None and model.kind == "run":
        held_out = _validation_of_run(Path(name_or_path), say=say)
    found = evaluate(
        model,
        dataset,
        temperature=fit_on(model, held_out, flip=flip) if held_out is not None else None,
        flip=flip,
        scatter=scatter,
        other=load_evaluated_model(other, prior=prior) if other else None,
        copies=copies,
        contempt=_count_contempt(data) if protocols else None,
    )
    if out is not None:
        write_pages(found, out)
    if json_file is not None:
        write_file(json_file, encode_report(found.report))
    if predictions is not None:
        write_file(predictions, encode_predictions(found))
    return found.report


def read_for_evaluation(data: Sequence[str | DatasetSpec]) -> Dataset:
    """Reads data sets; of one that names test splits, only those are kept unless a split is asked for."""
    parts = []
    for text in data:
        spec = text if isinstance(text, DatasetSpec) else DatasetSpec.parse(text)
        part = read_dataset(spec)
        tests = part.in_splits(TEST, PUBLIC_TEST, PRIVATE_TEST)
        parts.append(tests if len(tests) and not spec.splits else part)
    return concatenate(parts)


def _count_contempt(data: Sequence[str]) -> int:
    """Pictures of FER+'s eighth class that reading by FER+'s labels left out."""
    voted = [spec for spec in map(DatasetSpec.parse, data) if spec.labels == "ferplus"]
    parts = [read_for_evaluation([replace(spec, labels="own")]) for spec in voted]
    return sum(map(count_contempt, parts))


def _refuse_overlap(held_out: Dataset, dataset: Dataset) -> None:
    judged = set(picture_hashes(dataset))  # by pixels: the same picture has another name in another file
    same = sum(digest in judged for digest in picture_hashes(held_out))
    if same:
        raise UsageError(f"--calibrate: {same} of its pictures are among those of --data; fit on others (split=…)")


def _validation_of_run(path: Path, *, say: Callable[[str], None]) -> Dataset:
    from training.data.splits import load_training_data
    from training.fit.run_folder import check_validation, load_run

    recipe, record = load_run(path)
    validation = load_training_data(record.data, recipe).validation
    check_validation(path, validation, say=say)
    return replace(validation, name="the run's validation split")
