"""Search for the best network of a family: ``mien-train tune SPACE.toml``.

A space is a recipe with alternatives::

    base = "recipe name or file"     # everything that is not searched
    trials = 30
    epochs = 12                      # of a trial
    algorithm = "random"             # random, bayesian or hyperband

    [parameters."model.options.filters"]
    kind = "list"                    # a list of as many entries as `length` says, each one of `values`
    length = [4, 4]
    values = [32, 64, 128]

    [parameters."train.learning_rate"]
    kind = "log"                     # log or linear between low and high; or kind = "choice" with values
    low = 1e-4
    high = 1e-2
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edge.config.loader import decode_options, read_toml
from edge.errors import ConfigError, DataError, MienError, TrainingError, UsageError, config_context
from training.data.splits import TrainingData
from training.files import write_file
from training.fit.fingerprint import Fingerprint, make_fingerprint, refuse_other
from training.fit.run_folder import RECORD, dump_recipe, lock_folder, write_json
from training.fit.trainer import Reporter, fit
from training.recipe import Recipe, check_recipe, load_recipe, with_epochs

TRIALS, BEST, SEARCH = "trials.csv", "best.toml", "search.json"


class Parameter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One searched key of the recipe.

    Attributes:
        kind: ``choice`` of ``values``; ``linear`` or ``log`` between ``low`` and ``high``; ``list`` of ``length``
            (fewest, most) entries, each a choice of ``values``.
        values: alternatives.
        low: smallest number.
        high: largest number.
        length: fewest and most entries.
    """

    kind: Literal["choice", "linear", "log", "list"]
    values: tuple[float | int | str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    length: tuple[int, int] = (1, 1)


class Space(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What ``SPACE.toml`` says.

    Attributes:
        base: the recipe that the parameters change.
        parameters: dotted key of the recipe to its alternatives.
        trials: networks to train.
        epochs: of each trial.
        algorithm: of keras-tuner.
        seed: of the search.
    """

    base: str
    parameters: dict[str, Parameter]
    trials: int = 30
    epochs: int = 10
    algorithm: Literal["random", "bayesian", "hyperband"] = "random"
    seed: Annotated[int, Meta(ge=0)] = 1


class Trial(Struct, frozen=True, kw_only=True):
    """One trained network of the search; ``values`` by dotted key."""

    number: str
    accuracy: float
    values: dict[str, Any]


def load_space(path: Path, *, trials: int | None = None, epochs: int | None = None) -> tuple[Space, Recipe]:
    """Reads a space and its base recipe.

    Args:
        path: of the TOML file.
        trials: instead of the file's.
        epochs: of a trial, instead of the file's.

    Raises:
        ConfigError: for a file that is no space, or alternatives that say nothing.
    """
    with config_context(path):
        space = decode_options(read_toml(path), Space)
        _check_space(space)
    beside = path.parent / space.base
    base = load_recipe(beside if beside.is_file() else space.base)
    return msgspec.structs.replace(space, trials=trials or space.trials, epochs=epochs or space.epochs), base


def _check_space(space: Space) -> None:
    """Refuse alternatives that say nothing."""
    for key, parameter in space.parameters.items():
        if parameter.kind in ("choice", "list") and not parameter.values:
            raise ConfigError(f"parameters.{key}", f"kind {parameter.kind!r} needs values")
        if parameter.kind in ("linear", "log") and not parameter.low < parameter.high:
            raise ConfigError(f"parameters.{key}", f"low {parameter.low:g} must be below high {parameter.high:g}")
        if parameter.kind == "log" and parameter.low <= 0:
            raise ConfigError(f"parameters.{key}.low", f"{parameter.low:g}: a logarithmic range begins above 0")
        if parameter.kind == "list" and not 0 < parameter.length[0] <= parameter.length[1]:
            raise ConfigError(f"parameters.{key}.length", f"{parameter.length}: [fewest, most], at least 1")
    if not (space.parameters and space.trials > 0 and space.epochs > 0):
        raise ConfigError("", "at least one parameter, one trial and one epoch")


def tune(
    space: Space,
    base: Recipe,
    data: TrainingData,
    *,
    out: Path,
    reporter: Reporter | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Trial]:
    """Searches, going on where an interrupted search of the same folder stopped.

    Every trial is a run folder (``OUT/trials/…/run``); after each, ``OUT/trials.csv`` is the table, best first, and
    ``OUT/best.toml`` the recipe of the best, with the base's own number of epochs. A network that cannot be trained
    (its loss is no number, it has no room in memory) is left out; three in a row end the search.

    Args:
        space: what is searched.
        base: everything else.
        data: of all trials.
        out: folder of the search.
        reporter: of each trial's epochs.
        say: takes a line when a trial begins, ends or fails.

    Returns:
        The trials, best first.

    Raises:
        TrainingError: when three networks in a row could not be trained.
        UsageError: the folder holds a search of another space, base or data.
        MienError: whatever else makes training stop.
    """
    with lock_folder(out):
        _check_same_search(space, base, data, out)
        return _search(_make_tuner(space, base, data, out=out, reporter=reporter, say=say), space, out)


def _search(tuner: Any, space: Space, out: Path) -> list[Trial]:
    import keras_tuner

    try:
        tuner.search(verbose=0)
    except keras_tuner.errors.FatalError as error:
        raise error.__cause__ or error from None
    except RuntimeError as error:  # keras-tuner's after three; what failed has been said
        raise TrainingError(f"{out}: three networks in a row could not be trained") from error
    trials = _finished(tuner, space)
    if not trials:
        raise TrainingError(f"{out}: no trial was finished")
    return trials


class SearchRecord(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``search.json``: what a search depends on; `trials` may grow.

    Attributes:
        space: the searched keys, epochs, algorithm and seed.
        base: fingerprint of the base recipe and the data.
    """

    space: dict[str, Any]
    base: Fingerprint


def _check_same_search(space: Space, base: Recipe, data: TrainingData, out: Path) -> None:
    """Note what a new search depends on; compare that of one that goes on.

    Raises:
        UsageError: the folder holds a search of something else, or one that did not note what it depends on.
    """
    fixed = msgspec.json.decode(msgspec.json.encode(space))
    now = SearchRecord(
        space={key: value for key, value in fixed.items() if key not in ("base", "trials")},
        base=make_fingerprint(base, training=data.train, validation=data.validation),
    )
    file = out / SEARCH
    if not file.is_file():
        if (out / "trials").exists():
            refuse_other(str(out), None, now.base, allowed=frozenset())
        write_json(file, now)
        return
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=SearchRecord)
    except msgspec.DecodeError as error:
        raise DataError(file, f"cannot be read: {error}") from error
    changed = [key for key, value in now.space.items() if stored.space.get(key) != value]
    if changed:
        raise UsageError(f"{out} holds a search of another space: {', '.join(changed)}; use another folder")
    refuse_other(str(out), stored.base, now.base, allowed=frozenset())


def describe_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Each searched key as text for people, by the last part of its name; by the whole where that is not unique."""
    last = [key.rpartition(".")[2] for key in values]
    return {
        short if last.count(short) == 1 else key: _describe(value)
        for short, (key, value) in zip(last, values.items(), strict=True)
    }


def _describe(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@config_context("space")
def apply_values(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The base recipe with some dotted keys set.

    Raises:
        ConfigError: for a key or value that a recipe does not allow.
    """
    tree = msgspec.to_builtins(base)
    for key, value in values.items():
        *path, last = key.split(".")
        table = tree
        for part in path:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"parameters.{key}", f"{part} is no table of a recipe")
        table[last] = value
    return check_recipe(decode_options(tree, Recipe))


def _make_tuner(
    space: Space, base: Recipe, data: TrainingData, *, out: Path, reporter: Reporter | None, say: Callable[[str], None]
) -> Any:
    import keras_tuner

    # keras-tuner asks for a subclass; it is made here, so that the package is needed by this command alone.
    class RecipeTuner(keras_tuner.engine.base_tuner.BaseTuner):  # type: ignore[misc]
        def run_trial(self, trial: Any, *_: Any, **__: Any) -> float:
            values = draw_values(space, trial.hyperparameters)
            drawn = ", ".join(f"{key} {text}" for key, text in describe_values(values).items())
            say(f"trial {trial.trial_id}: {drawn}")
            # Hyperband gives its better networks more epochs.
            epochs = int(trial.hyperparameters.values.get("tuner/epochs", space.epochs))
            run = Path(self.get_trial_dir(trial.trial_id)) / "run"
            try:
                recipe = with_epochs(apply_values(base, values), epochs)
                record = fit(recipe, data, out=run, resume=(run / RECORD).is_file(), reporter=reporter)
            except Exception as error:
                ours = isinstance(error, MienError)
                if ours and not isinstance(error, TrainingError):  # data or space: the next network fails alike
                    raise keras_tuner.errors.FatalError(str(error)) from error
                say(f"trial {trial.trial_id} failed: {error if ours else f'{type(error).__name__}: {error}'}")
                raise keras_tuner.errors.FailedTrialError(str(error)) from error
            return -record.best.accuracy if record.best else 0.0

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            score = self.oracle.get_trial(trial.trial_id).score
            if score is None:
                return
            trials = _finished(self, space)
            _write_found(trials, base, out)
            say(
                f"trial {trial.trial_id}: {-100 * score:.2f} % of the validation pictures; "
                f"best of {len(trials)}: trial {trials[0].number}, {100 * trials[0].accuracy:.2f} %"
            )

    algorithms = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    }
    objective = keras_tuner.Objective("default_objective", "min")
    # Registered before the search: Hyperband asks for them, and a first trial without them has nothing but defaults.
    known = keras_tuner.HyperParameters()
    draw_values(space, known)
    if space.algorithm == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(
            objective, max_epochs=space.epochs, seed=space.seed, hyperparameters=known
        )
    else:
        oracle = algorithms[space.algorithm](objective, max_trials=space.trials, seed=space.seed, hyperparameters=known)
    return RecipeTuner(oracle=oracle, hypermodel=None, directory=str(out), project_name="trials", overwrite=False)


def draw_values(space: Space, hyperparameters: Any) -> dict[str, Any]:
    """One value for each searched key, registered with keras-tuner's ``HyperParameters``."""
    values: dict[str, Any] = {}
    for key, parameter in space.parameters.items():
        if parameter.kind == "choice":
            values[key] = hyperparameters.Choice(key, list(parameter.values))
        elif parameter.kind == "list":
            fewest, most = parameter.length
            length = hyperparameters.Int(f"{key}.length", fewest, most)
            entries = [hyperparameters.Choice(f"{key}.{i}", list(parameter.values)) for i in range(most)]
            values[key] = entries[:length]
        else:
            values[key] = hyperparameters.Float(key, parameter.low, parameter.high, sampling=parameter.kind)
    return values


def _finished(tuner: Any, space: Space) -> list[Trial]:
    """The trials that have a score, best first."""
    trials = [
        Trial(number=trial.trial_id, accuracy=-trial.score, values=draw_values(space, trial.hyperparameters))
        for trial in tuner.oracle.trials.values()
        if trial.score is not None
    ]
    return sorted(trials, key=lambda trial: -trial.accuracy)


def _write_found(trials: list[Trial], base: Recipe, out: Path) -> None:
    """The table of the trials and the recipe of the first."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["trial", "accuracy", *trials[0].values])
    writer.writerows([trial.number, f"{trial.accuracy:.4f}", *trial.values.values()] for trial in trials)
    write_file(out / TRIALS, text.getvalue().encode())
    best = msgspec.structs.replace(apply_values(base, trials[0].values), name=f"{base.name}_tuned")
    write_file(out / BEST, dump_recipe(best).encode())
