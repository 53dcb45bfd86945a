"""From a finished run to a bundle: `convert` quantizes, judges and writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from convert import QuantizeData, QuantizeOptions
from convert.arguments import hash_list
from convert.commands import run_quantize
from convert.datasets import Dataset, DatasetSpec, majority_labels, read_datasets
from edge.contract.manifest import DataSetUse, TrainedFrom
from edge.errors import DataError, UsageError
from training.data.splits import TrainingData, load_training_data, picture_hashes
from training.fit.run_folder import RunRecord, check_validation, load_run, model_file
from training.recipe import Recipe


def export_run(
    run: Path,
    *,
    evaluate: tuple[str, ...],
    out: Path,
    licence: str,
    version: str,
    calibrate: tuple[str, ...] = (),
    target: str | None = None,
    name: str | None = None,
    notices: tuple[str, ...] = (),
    notes: str | None = None,
    copies: Path | None = None,
    repair: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Quantizes a run's network into a bundle whose manifest says what it was trained on.

    Args:
        run: a finished run folder.
        evaluate: data sets for the verdict.
        out: the bundle's folder.
        licence: of the weights.
        version: of the bundle.
        calibrate: data sets for ranges and temperature; the run's own validation pictures where none is given.
        target: the head to export; the run's last where None.
        name: of the bundle; the folder's where None.
        notices: lines that must go with the weights.
        notes: for the model card; the recipe's description where None.
        copies: list of test pictures that are training pictures (`training.data.copies`), for the manifest.
        repair: when the gate fails, find what brings the model back.
        force: replace a bundle.
        say: takes a line about what is not known, or not as it should be.

    Returns:
        The exit code of ``mien-convert quantize``: 0 passed, 3 failed, 4 undecided.

    Raises:
        UsageError: for a run that is not finished, a head that it does not have, or one whose data are not what they
            were while its own validation pictures are to calibrate.
    """
    recipe, record = load_run(run)
    if not record.finished:
        raise UsageError(f"{run}: training is not finished ({record.epochs} of {recipe.train.epochs} epochs)")
    if target is not None and target not in recipe.data.targets:
        raise UsageError(f"--target {target}: {run} has {', '.join(recipe.data.targets)}")
    *others, last = recipe.data.targets
    chosen = next((other for other in others if other == target), None)
    options = QuantizeOptions(
        name=name or out.resolve().name,
        version=version,
        licence=licence,
        labels=recipe.data.classes,
        colour=recipe.input.colour,
        head="logits",
        notices=notices,
        notes=recipe.description if notes is None else notes,
        trained_from=trained_from(run),
        copies_sha256=hash_list(copies),
        repair=repair,
    )

    def read_data() -> QuantizeData:
        judged = read_datasets(evaluate)
        own = _own_data(run, recipe, record, needed=not calibrate, say=say)
        if own is not None and (said := _learned_from(run, own.train, judged)):
            say(said)
        if calibrate:
            return QuantizeData(read_datasets(calibrate), judged)
        assert own is not None
        check_validation(run, own.validation, say=say)
        return QuantizeData(_held_out(own.validation, votes=(target or last) == "votes"), judged)

    return run_quantize(model_file(run, chosen), read_data, options, out=out, force=force)


def trained_from(run: Path) -> TrainedFrom:
    """The manifest's word on where the weights of a run come from."""
    recipe, record = load_run(run)
    count = sum(record.counts["train"].values())
    names = " + ".join(Path(DatasetSpec.parse(spec).path).stem for spec in record.data)
    begun = ", ".join(f"{name} (sha256 {digest[:12]})" for name, digest in record.began_with.items())
    return TrainedFrom(
        git=record.git or "unknown",
        recipe=f"{recipe.name}, begun with {begun}" if begun else recipe.name,
        datasets=(DataSetUse(name=names, count=count),),
    )


def _own_data(
    run: Path, recipe: Recipe, record: RunRecord, *, needed: bool, say: Callable[[str], None]
) -> TrainingData | None:
    """Return the pictures of a run; None where they cannot be read any more and are not needed, which is said."""
    try:
        return load_training_data(record.data, recipe)
    except DataError as error:
        if needed:
            raise
        say(f"warning: whether {run} learned from the pictures that judge it is not known: {error}")
        return None


def _learned_from(run: Path, train: Dataset, judged: Dataset) -> str:
    """Return a line where pictures that are to judge a network are among those that it learned from; else nothing."""
    learned = set(picture_hashes(train))
    same = sum(digest in learned for digest in picture_hashes(judged))
    if not same:
        return ""
    return (
        f"warning: {run} learned from {same} of the {len(judged)} pictures that judge it; "
        "its accuracy on new ones is lower"
    )


def _held_out(validation: Dataset, *, votes: bool) -> Dataset:
    """Return a run's validation pictures; with ``votes`` by FER+'s majority, those without one left out.

    On pictures that a network learned from, its confidence is no longer what it is on others: a temperature that is
    fitted on them is wrong.
    """
    validation = replace(validation, name="validation")
    if not votes or validation.votes is None:
        return validation
    labels = majority_labels(validation.votes)
    return replace(validation, labels=labels).select(labels >= 0)
