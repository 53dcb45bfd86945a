"""The command ``mien-train``. Arguments and printing only; the work is done by the modules it calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edge.cli_app import make_app, run_app
from edge.errors import UsageError, config_context
from training.backend import start_keras
from training.data import commands as data_commands
from training.recipe import Recipe

app = make_app(
    "mien-train", help_text="Audit data; train, cross-validate, tune, distil and evaluate facial-expression networks."
)
app.command()(data_commands.data)
app.command()(data_commands.prepare)
app.command()(data_commands.cut)
app.command()(data_commands.copies)
app.command()(data_commands.predict)
app.command()(data_commands.evaluate)
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

RecipeName = Annotated[
    str, typer.Argument(help="A recipe file, the name of one of Mien's, or a run folder.", metavar="RECIPE")
]
DataSpecs = Annotated[
    list[str] | None,
    typer.Option(
        "--data", "-d", help=f"{data_commands.DATA_HELP} May be given again.", metavar="[FORMAT:]PATH[@KEY=VALUE,…]"
    ),
]
RunFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", "-w", help="Begin with these instead of random ones: a Keras file or run.")
]
Classes = Annotated[
    str | None,
    typer.Option(help="Other classes than the recipe's, in the order of the logits.", metavar="happy,sad,neutral"),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Another number of epochs than the recipe's.")]


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run folder.", metavar="RUN")],
    evaluate_on: Annotated[
        list[str], typer.Option("--evaluate", help="Labelled faces for the verdict.", metavar="DATA")
    ],
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="The bundle's folder.")],
    licence: Annotated[str, typer.Option(help="Licence of the weights.")],
    version: Annotated[str, typer.Option(help="Version of the bundle.")],
    calibrate: Annotated[
        list[str] | None,
        typer.Option(help="Labelled faces for ranges and temperature; otherwise the run's validation.", metavar="DATA"),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Another head than the run's last.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle; otherwise the folder's.")] = None,
    notice: Annotated[list[str] | None, typer.Option(help="Line that must go with the weights; repeatable.")] = None,
    notes: Annotated[str | None, typer.Option(help="For the model card; otherwise the recipe's description.")] = None,
    copies: Annotated[
        Path | None, typer.Option(help="List of test pictures that are training pictures, by mien-train copies.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="When the gate fails, find what brings the model back.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle.")] = False,
) -> None:
    """Quantize a run's network and write a bundle, by mien-convert and with its verdict."""
    from training.export import export_run

    raise typer.Exit(
        export_run(
            run,
            calibrate=tuple(calibrate or ()),
            evaluate=tuple(evaluate_on),
            out=out_folder,
            licence=licence,
            version=version,
            target=target,
            name=name,
            notices=tuple(notice or ()),
            notes=notes,
            copies=copies,
            repair=repair,
            force=force,
            say=data_commands.say,
        )
    )


@app.command()
def recipes() -> None:
    """List the recipes that come with Mien."""
    from training.recipe import load_recipe, recipe_names

    table = Table("recipe", "network", "published", "what it is")
    for name in recipe_names():
        recipe = load_recipe(name)
        table.add_row(name, recipe.model.architecture, recipe.published.accuracy or "–", recipe.description)
    out.print(table)


@app.command()
def fit(
    recipe: RecipeName,
    out_folder: RunFolder,
    data: DataSpecs = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    epochs: Epochs = None,
    weights: Weights = None,
    classes: Classes = None,
) -> None:
    """Train a recipe; a run folder as RECIPE trains that run again, on its own data."""
    _fit(recipe, out_folder, data, resume=resume, epochs=epochs, teachers=(), weights=weights, classes=classes)


@app.command()
def distill(
    recipe: RecipeName,
    out_folder: RunFolder,
    teacher: Annotated[
        list[Path], typer.Option("--teacher", "-t", help="A run folder or Keras file; may be repeated.")
    ],
    data: DataSpecs = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    epochs: Epochs = None,
    weights: Weights = None,
) -> None:
    r"""Train a recipe with a \[distill] table on what its teachers say."""
    _fit(recipe, out_folder, data, resume=resume, epochs=epochs, teachers=tuple(teacher), weights=weights)


@app.command()
def kfold(
    recipe: RecipeName,
    out_folder: RunFolder,
    data: DataSpecs = None,
    folds: Annotated[int, typer.Option("-k", min=2, help="Number of folds.")] = 5,
    epochs: Epochs = None,
) -> None:
    """Cross-validate a recipe: no person or photograph is in two folds. Finished folds are not trained again."""
    from training.fit.progress import ConsoleReporter

    chosen, specs = _recipe_and_data(recipe, data, epochs=epochs)

    start_keras()
    from training.search.kfold import kfold as cross_validate

    with (
        _says_how_to_go_on("the same command goes on with what is finished"),
        ConsoleReporter(err, epochs=chosen.train.epochs) as reporter,
    ):
        report = cross_validate(chosen, specs, folds=folds, out=out_folder, reporter=reporter, say=reporter.say)
    table = Table("fold", "pictures", "accuracy")
    for fold, (count, accuracy) in enumerate(zip(report.counts, report.accuracies, strict=True)):
        table.add_row(str(fold), str(count), f"{100 * accuracy:.2f} %")
    out.print(table)
    out.print(f"{100 * report.mean:.2f} ± {100 * report.sd:.2f} %, pooled {100 * report.pooled_accuracy:.2f} %")
    if report.test_accuracies:
        mean = sum(report.test_accuracies) / len(report.test_accuracies)
        out.print(
            f"held-out test pictures: {100 * mean:.2f} % of {report.test_count:,}, mean of the folds' networks "
            f"({100 * min(report.test_accuracies):.2f}..{100 * max(report.test_accuracies):.2f})"
        )


@app.command()
def tune(
    space: Annotated[Path, typer.Argument(help="The search space (TOML).", metavar="SPACE.toml")],
    out_folder: RunFolder,
    data: DataSpecs = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Another number of trials than the space's.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Another number of epochs a trial.")] = None,
) -> None:
    """Search a family of networks; an interrupted search goes on. The best becomes a recipe file."""
    start_keras()
    from training.data.splits import load_training_data
    from training.fit.progress import ConsoleReporter
    from training.search.tune import BEST, describe_values, load_space
    from training.search.tune import tune as search

    chosen, base = load_space(space, trials=trials, epochs=epochs)
    with (
        _says_how_to_go_on("the same command goes on with what is finished"),
        ConsoleReporter(err, epochs=chosen.epochs) as reporter,
    ):
        pictures = load_training_data(_specs(data), base)
        found = search(chosen, base, pictures, out=out_folder, reporter=reporter, say=reporter.say)
    table = Table("trial", "accuracy", *describe_values(found[0].values))
    for trial in found[:20]:
        table.add_row(trial.number, f"{100 * trial.accuracy:.2f} %", *describe_values(trial.values).values())
    out.print(table)
    out.print(f"best recipe: {out_folder / BEST}")


def _fit(
    recipe: str,
    out_folder: Path,
    data: list[str] | None,
    *,
    resume: bool,
    epochs: int | None,
    teachers: tuple[Path, ...],
    weights: Path | None,
    classes: str | None = None,
) -> None:
    from training.data.splits import load_training_data
    from training.fit.progress import ConsoleReporter
    from training.fit.run_folder import model_file

    chosen, specs = _recipe_and_data(recipe, data, epochs=epochs, classes=classes)
    if bool(teachers) != (chosen.distill is not None):
        raise UsageError(
            f"{recipe}: the recipe has a [distill] table; use mien-train distill"
            if chosen.distill
            else f"{recipe}: the recipe has no [distill] table; use mien-train fit"
        )
    before = _began_with(recipe)
    if before and weights is None and not resume:
        raise UsageError(f"{recipe}: the run began with {', '.join(before)}; give it with --weights")
    training_data = load_training_data(specs, chosen)
    for dropped in training_data.train.dropped:
        data_commands.say(f"left out of {dropped.source}: {dropped.count:,} ({dropped.reason})")
    err.print(f"{chosen.name}: {len(training_data.train)} pictures, {len(training_data.validation)} for validation")

    start_keras()  # takes seconds: what can be refused without it was refused above
    from training.fit.trainer import fit as train

    loaded = None
    if teachers:
        from training.fit.distill import load_teachers

        loaded = load_teachers(teachers, chosen)
    known = None
    if weights is not None:
        from training.fit.transfer import load_weights

        known = load_weights(weights, chosen)
        if before not in ({}, known.sha256):
            err.print(f"warning: {recipe}: {weights} is not what the run began with")
    with (
        _says_how_to_go_on(f"the same command with --resume goes on from {out_folder}"),
        ConsoleReporter(err, epochs=chosen.train.epochs) as reporter,
    ):
        record = train(
            chosen, training_data, out=out_folder, resume=resume, teachers=loaded, weights=known, reporter=reporter
        )
    assert record.best is not None
    out.print(
        f"{model_file(out_folder)}: {100 * record.best.accuracy:.2f} % of the validation pictures "
        f"(epoch {record.best.epoch} of {record.epochs})",
        soft_wrap=True,
    )


@contextmanager
def _says_how_to_go_on(line: str) -> Iterator[None]:
    """Say how a training that is interrupted by Ctrl-C goes on."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"interrupted: {line}", soft_wrap=True)
        raise


def _recipe_and_data(
    recipe: str, data: list[str] | None, *, epochs: int | None, classes: str | None = None
) -> tuple[Recipe, tuple[str, ...]]:
    from convert.datasets import hash_datasets
    from training.fit.run_folder import load_run
    from training.recipe import load_recipe, with_classes, with_epochs

    if (Path(recipe) / "run.json").is_file():
        chosen, record = load_run(Path(recipe))
        specs = tuple(data) if data else record.data
        if hash_datasets(specs) != record.data_sha256:
            err.print(f"warning: {recipe}: the data are not those that the run was trained on")
    else:
        chosen, specs = load_recipe(recipe), _specs(data)
    if epochs is not None:
        chosen = with_epochs(chosen, epochs)
    if classes is not None:
        with config_context("--classes"):
            chosen = with_classes(chosen, tuple(name.strip() for name in classes.split(",")))
    return chosen, specs


def _began_with(recipe: str) -> dict[str, str]:
    from training.fit.run_folder import RECORD, load_run

    return load_run(Path(recipe))[1].began_with if (Path(recipe) / RECORD).is_file() else {}


def _specs(data: list[str] | None) -> tuple[str, ...]:
    if not data:
        raise UsageError("--data: at least one data set")
    return tuple(data)


def main() -> None:
    """Entry point of ``mien-train``."""
    run_app(app)
