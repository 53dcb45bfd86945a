"""The run folder: everything that a training run leaves behind, enough to build it again.

``recipe.toml`` the recipe, ``run.json`` (`RunRecord`), ``log.jsonl`` one row an epoch, ``curves.png``,
``checkpoint.npz`` the last state (for ``--resume``), ``model.keras`` the best weights (pixels 0..255 in, logits of the
last target out) and, for every other target, ``model_TARGET.keras``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from convert.datasets import Dataset
from edge.errors import DataError, UsageError
from training.files import write_file
from training.fit.fingerprint import Fingerprint, hash_pictures
from training.recipe import Recipe, Target, load_recipe

SCHEMA: Final = "mien.run/1"
RECIPE, RECORD, LOG, CURVES, CHECKPOINT = "recipe.toml", "run.json", "log.jsonl", "curves.png", "checkpoint.npz"
LOCK: Final = "lock"


class EpochRow(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One epoch in ``log.jsonl``.

    Attributes:
        epoch: from 1.
        learning_rate: after its last step.
        loss: mean over the training steps, augmentation and smoothing included.
        accuracy: of the last target on the validation pictures.
        accuracies: of every target.
        validation_loss: cross-entropy of the last target on the validation pictures.
        seconds: duration, validation included.
        best: whether the weights of this epoch are the best so far and were written.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    accuracies: dict[str, float]
    validation_loss: float
    seconds: float
    best: bool


class RunRecord(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``run.json``.

    Attributes:
        schema: of this file.
        git: commit of the code, ``-dirty`` behind it when something was changed; empty outside a checkout.
        versions: of what computed.
        machine: processor architecture, cores, Keras backend, accelerators.
        data: the data sets as asked for.
        data_sha256: of the files and of what was asked for.
        counts: pictures per split and class.
        teachers: sha256 of each teacher's file.
        began_with: sha256 of each file whose weights it began with; empty where they were random.
        parameters: of the network with all its heads, and the trainable ones.
        epochs: trained so far.
        best: the row of the best epoch.
        finished: whether training came to its end.
        fingerprint: what the weights depend on; None in a run of a version that did not note it.
        changes: what was changed when the run went on, in words.
    """

    schema: str = SCHEMA
    git: str
    versions: dict[str, str]
    machine: dict[str, str]
    data: tuple[str, ...]
    data_sha256: str
    counts: dict[str, dict[str, int]]
    teachers: dict[str, str]
    began_with: dict[str, str] = {}
    parameters: dict[str, int]
    epochs: int
    best: EpochRow | None
    finished: bool
    fingerprint: Fingerprint | None = None
    changes: tuple[str, ...] = ()


def model_file(run: Path, target: Target | None = None) -> Path:
    """The Keras file of a run: the last target's, or another's."""
    return run / ("model.keras" if target is None else f"model_{target}.keras")


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a folder to this process while it writes there.

    Raises:
        UsageError: another process has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{folder}: another process writes there; wait for it, or use another folder") from None
        yield


def load_run(run: Path) -> tuple[Recipe, RunRecord]:
    """Recipe and record of a run folder.

    Raises:
        DataError: when the folder is no run.
    """
    try:
        record = msgspec.json.decode((run / RECORD).read_bytes(), type=RunRecord)
    except FileNotFoundError as error:
        raise DataError(run, f"no training run: {RECORD} is missing") from error
    except msgspec.DecodeError as error:
        raise DataError(run / RECORD, str(error)) from error
    return load_recipe(run / RECIPE), record


def check_validation(run: Path, validation: Dataset, *, say: Callable[[str], None]) -> None:
    """Check that pictures are those that a run was selected on.

    Args:
        run: its folder.
        validation: what its data give now.
        say: takes a line where the run did not note which pictures they were.

    Raises:
        UsageError: they are others.
    """
    fingerprint = load_run(run)[1].fingerprint
    if fingerprint is None:
        say(f"warning: {run} did not note which pictures it was selected on; taken are those that its data give now")
    elif hash_pictures(validation) != fingerprint.validation:
        raise UsageError(
            f"{run}: its data are not what they were: the pictures that it was selected on have changed; "
            "name labelled pictures of your own with --calibrate"
        )


def load_log(run: Path) -> list[EpochRow]:
    """The rows of ``log.jsonl``; empty before the first epoch's end."""
    file = run / LOG
    return [msgspec.json.decode(line, type=EpochRow) for line in file.read_text().splitlines()] if file.exists() else []


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON."""
    write_file(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def describe_machine(backend: str, accelerators: int) -> dict[str, str]:
    """What computed, without the machine's name."""
    return {
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "backend": backend,
        "accelerators": str(accelerators),
    }


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    versions = {"python": platform.python_version()}
    for package in ("mien", "keras", "tensorflow", "torch", "jax", "numpy", "opencv-python-headless"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def git_commit() -> str:
    """Commit of the code that runs; empty outside a checkout or without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as TOML: what `training.recipe.load_recipe` reads back as the same recipe."""
    lines: list[str] = []
    _dump_table(msgspec.to_builtins(recipe), "", lines)
    return "\n".join(lines).strip() + "\n"


def _dump_table(table: Mapping[str, Any], path: str, lines: list[str]) -> None:
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping) and value is not None}
    if path and values:
        lines.extend(["", f"[{path}]"])
    # A JSON string, number, boolean or list of them is a TOML one too.
    lines.extend(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
    for key, value in table.items():
        if isinstance(value, Mapping):
            _dump_table(value, f"{path}.{key}" if path else key, lines)
