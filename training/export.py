"""From a finished run to a bundle: `convert` quantizes, judges and writes it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from convert.commands import QuantizeArguments, run_quantize
from convert.datasets import DatasetSpec
from edge.contract.manifest import DataSetUse, TrainedFrom
from edge.errors import UsageError
from training.data.prepare import Options, encode_dataset
from training.data.splits import load_training_data
from training.fit.run_folder import load_run, model_file


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
    repair: bool = False,
    force: bool = False,
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
        repair: when the gate fails, find what brings the model back.
        force: replace a bundle.

    Returns:
        The exit code of ``mien-convert quantize``: 0 passed, 3 failed, 4 undecided.

    Raises:
        UsageError: for a run that is not finished, or a head that it does not have.
    """
    recipe, record = load_run(run)
    if not record.finished:
        raise UsageError(f"{run}: training is not finished ({record.epochs} of {recipe.train.epochs} epochs)")
    if target is not None and target not in recipe.data.targets:
        raise UsageError(f"--target {target}: {run} has {', '.join(recipe.data.targets)}")
    *others, last = recipe.data.targets
    chosen = next((other for other in others if other == target), None)
    with tempfile.TemporaryDirectory() as folder:
        origin = Path(folder) / "trained_from.json"
        origin.write_bytes(msgspec.json.encode(trained_from(run)))
        held_out = () if calibrate else (_write_validation(run, Path(folder), votes=(target or last) == "votes"),)
        arguments = QuantizeArguments(
            model=model_file(run, chosen), calibrate=calibrate or held_out, evaluate=evaluate,
            out=out, labels=",".join(recipe.data.classes), crop="square", version=version, licence=licence, name=name,
            notices=notices, notes=recipe.description if notes is None else notes, trained_from=origin, git=None,
            scheme="int8", io=None, scale=None, mean=None,
            color=None if recipe.input.colour == "grey" else recipe.input.colour, head="logits", max_drop=1.0,
            max_class_drop=5.0, repair=repair, qat=0, edgetpu=False, calibration_count=512, seed=0, json=None,
            force=force,
        )  # fmt: skip
        return run_quantize(arguments)


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


def _write_validation(run: Path, folder: Path, *, votes: bool) -> str:
    """Writes the run's validation pictures beside nothing that is kept; returns their data spec.

    On pictures that a network learned from, its confidence is no longer what it is on others: a temperature that is
    fitted on them is wrong.
    """
    recipe, record = load_run(run)
    validation = load_training_data(record.data, recipe).validation
    colour: Literal["grey", "bgr"] = "grey" if recipe.input.colour == "grey" else "bgr"
    file = folder / "validation.npz"
    file.write_bytes(encode_dataset(validation, Options(size_px=recipe.input.size_px, colour=colour)))
    return f"{file}@labels=ferplus" if votes else str(file)
