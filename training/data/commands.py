"""The commands of ``mien-train`` about data and measuring: ``data``, ``prepare``, ``evaluate``. Printing only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

from edge.contract.labels import LABELS
from edge.contract.manifest import Prior
from edge.errors import UsageError

if TYPE_CHECKING:
    from training.evaluate.evaluate import Report, Share

out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

_SPEC = "[FORMAT:]PATH[@KEY=VALUE,…]"
DATA_HELP = (
    "A data set: a file or folder, and what to take of it: @split=test, @labels=ferplus, @omit=fear+disgust, "
    "@cut=faces (of whole photographs), @CLASS=LABEL or @CLASS=drop for a class of another name; several are joined "
    "by commas."
)
"""What every command that takes data says of it."""
DataArguments = Annotated[list[str], typer.Argument(help=DATA_HELP, metavar=f"{_SPEC}…")]
DataOptions = Annotated[
    list[str] | None, typer.Option("--data", "-d", help=f"{DATA_HELP} May be given again.", metavar=_SPEC)
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the report as JSON.", metavar="FILE")]


def say(line: str) -> None:
    """Print a line for people, as it is."""
    err.print(line, soft_wrap=True)


def data(
    datasets: DataArguments,
    page: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("data.html"),
    json_file: JsonFile = None,
) -> None:
    """Audit data before training: counts, copies across splits, contradicting labels, constant pictures, people."""
    from training.data.audit_page import audit_command

    with err.status("comparing every picture with every other"):
        report = audit_command(datasets, out=page, json_file=json_file)
    out.print(_count_table(report.counts))
    for source, reason, count in report.dropped:
        out.print(f"left out of {source}: {count:,} ({reason})")
    for leak in report.leaks:
        if leak.near:
            first, second = leak.splits
            out.print(f"{leak.identical:,} pictures of {first} stand in {second}, too; {leak.near:,} with near copies")
    out.print(
        f"{report.identical_copies:,} pixel-identical copies, {report.near_pairs:,} pairs of near-duplicates, "
        f"{report.contradictions:,} groups of equal pictures with different labels, {report.constant:,} constant"
    )
    for first, second, people in report.subjects_across:
        out.print(f"{len(people):,} people are in {first} and in {second}: {', '.join(people[:6])}")
    out.print(f"page: {page}")


def cut(
    photographs: Annotated[
        list[Path], typer.Argument(help="Photographs, or folders of them, one folder a class.", metavar="PHOTOS…")
    ],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the cut faces: data for every command.")],
    every: Annotated[
        bool, typer.Option("--every-face", help="Cut all faces of a picture; otherwise the largest alone.")
    ] = False,
    min_px: Annotated[int, typer.Option(min=8, help="Least height of a face in pixels.")] = 24,
) -> None:
    """Find the faces of whole photographs with the device's detector and cut them as the device does."""
    from training.data.cut import cut_photographs

    with err.status("cutting"):
        report = cut_photographs(photographs, out=folder, every=every, min_px=min_px)
    for line in report.unreadable:
        say(line)
    for what, count in report.counts().items():
        out.print(f"{count:,} {what}")
    out.print(f"page: {report.page}")


def predict(
    photographs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", metavar="PHOTO…")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A run folder, a bundle, or a shipped bundle's name.")
    ] = "emotion-ferplus",
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the drawn pictures.")] = Path("predicted"),
) -> None:
    """Say and draw what a run or a bundle sees in pictures; without the device's rules for when it is uncertain."""
    from training.evaluate.models import load_evaluated_model
    from training.evaluate.predict import predict_files

    loaded = load_evaluated_model(model)
    if loaded.kind == "run":
        say(f"{loaded.name}: a run; its confidence is not calibrated before export")
    for line in predict_files(loaded, photographs, out=folder):
        out.print(line, soft_wrap=True)
    out.print(f"drawn: {folder}", soft_wrap=True)


def copies(
    datasets: DataArguments,
    of: Annotated[list[str], typer.Option("--of", help="What was trained on; may be given again.", metavar=_SPEC)],
    file: Annotated[Path, typer.Option("--out", "-o", help="The list to write.")] = Path("copies.txt"),
) -> None:
    """List test pictures that are a training picture too, identical, nearly so or mirrored, by their SHA-256."""
    from convert.datasets import read_datasets
    from training.data.copies import encode_copies, find_copies
    from training.evaluate.command import read_for_evaluation
    from training.files import write_file

    tests, trained_on = read_for_evaluation(datasets), read_datasets(of)
    with err.status("comparing every picture with every other"):
        copied = find_copies(tests, trained_on)
    write_file(file, encode_copies(tests, copied))
    out.print(f"{file}: {int(copied.sum()):,} of {len(tests):,} pictures have a copy in {trained_on.name}")


def prepare(
    datasets: DataArguments,
    validation: Annotated[float, typer.Option(help="Share cut off for validation where the data name none.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share cut off for testing where the data name none.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 2013,
    size: Annotated[int | None, typer.Option(min=16, max=512, help="Side of the pictures in pixels.")] = None,
    colour: Annotated[bool, typer.Option("--colour", help="Keep colours; grey otherwise.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared data.", metavar="DIR")] = None,
) -> None:
    """Drop what leaks, cut splits that keep people and copies together, and keep the result as one data set."""
    from training.data.prepare import Options
    from training.data.prepare import prepare as make

    options = Options(
        validation=validation, test=test, seed=seed, size_px=size, colour="bgr" if colour else "grey"
    )  # fmt: skip
    with err.status("preparing"):
        prepared = make(datasets, options=options, cache=cache)
    err.print(_count_table(prepared.report.counts))
    for source, reason, count in prepared.report.dropped:
        err.print(f"{source}: {count:,} dropped ({reason})")
    err.print("found in the cache" if prepared.reused else "prepared now", style="dim")
    out.print(str(prepared.path), soft_wrap=True)


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, a bundle, or a shipped bundle's name.", metavar="MODEL")],
    datasets: DataOptions = None,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(help="Labelled data to fit the temperature on; never those of --data.", metavar=_SPEC),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="A second run or bundle, measured on the same pictures.", metavar="MODEL")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average over each picture and its mirror image.")] = False,
    scatter: Annotated[
        bool, typer.Option("--scatter", help="Measure under the scatter of the device's crops.")
    ] = False,
    prior: Annotated[str, typer.Option(help="Operating point of a bundle: natural or balanced.")] = "natural",
    copies: Annotated[
        Path | None, typer.Option(help="List by mien-train copies: accuracy without these.", metavar="FILE")
    ] = None,
    protocols: Annotated[
        bool, typer.Option("--protocols", help="Mirror images, ten views and FER+'s eight classes, too.")
    ] = False,
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for page and charts.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write a row a picture: label, prediction, scores.", metavar="FILE.csv")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure a run or a bundle on labelled data; of data with test splits, on those unless a split is named."""
    from training.evaluate.command import evaluate_command

    if not datasets:
        raise UsageError(f"evaluate: no data; say --data {_SPEC}")
    if prior not in get_args(Prior):
        raise UsageError(f"--prior: {prior}: not one of {', '.join(get_args(Prior))}")
    with err.status("measuring"):
        report = evaluate_command(
            model, datasets, calibrate=calibrate or (), other=compare, flip=flip, scatter=scatter,
            prior=cast(Prior, prior), copies=copies, protocols=protocols, out=folder, json_file=json_file,
            predictions=predictions, say=say,
        )  # fmt: skip
    _print_report(report)
    if folder is not None:
        out.print(f"page: {folder / 'evaluation.html'}")


def _print_protocols(report: Report) -> None:
    if report.clean is not None:
        note = " (not the list that the bundle names)" if report.clean.of_bundle is False else ""
        without = f"without {report.clean.copies:,} copies{note}"
        out.print(f"{without}: {_percent(report.clean.accuracy)} of {report.clean.accuracy.n:,}")
    if report.protocols is not None:
        found = report.protocols
        out.print(f"with mirror images {_percent(found.flip)}; ten views {_percent(found.ten)}")
        if found.eight_classes is not None:
            out.print(f"FER+'s eight classes {_percent(found.eight_classes)} of {found.eight_classes.n:,}")


def _print_report(report: Report) -> None:
    classes = Table("label", "pictures", "recall", "precision", "F1", title=f"{report.model} on {report.data}")
    for one in report.classes:
        f1 = "–" if one.f1 is None else f"{one.f1:.3f}"
        classes.add_row(one.label, f"{one.n:,}", _percent(one.recall), _percent(one.precision), f1)
    out.print(classes)
    out.print(f"accuracy {_percent(report.accuracy)} of {report.n:,}", style="bold")
    if report.accuracy_by_subject is not None:
        out.print(f"by person: {_percent(report.accuracy_by_subject)}")
    _print_protocols(report)
    if report.left_out:
        out.print(f"{report.left_out:,} pictures left out: classes that the model lacks")
    belief = report.calibration
    out.print(f"balanced accuracy {100 * report.balanced_accuracy:.2f} %, macro-F1 {report.macro_f1:.4f}")
    out.print(
        f"calibration error {belief.error_after:.4f} at temperature {belief.temperature:.3f} ({belief.source}), "
        f"{belief.error_before:.4f} at 1"
    )
    if report.scatter is not None:
        found = report.scatter
        out.print(
            f"under the device's scatter {100 * found.accuracy:.2f} %: {found.drop:.2f} points less "
            f"({found.drop_low:.2f}..{found.drop_high:.2f})"
        )
    if report.comparison is not None:
        other = report.comparison
        out.print(
            f"against {other.other} ({_percent(other.accuracy_other)}): {100 * other.difference:+.2f} points "
            f"({100 * other.low:+.2f}..{100 * other.high:+.2f}), McNemar p = {other.mcnemar_p:.2g}"
        )


def _count_table(counts: dict[str, dict[str, int]]) -> Table:
    table = Table("label", *counts, "all")
    for column in table.columns[1:]:
        column.justify = "right"
    for label in LABELS:
        row = [split[label] for split in counts.values()]
        table.add_row(label, *(f"{count:,}" for count in row), f"{sum(row):,}")
    totals = [sum(split.values()) for split in counts.values()]
    table.add_row("all", *(f"{total:,}" for total in totals), f"{sum(totals):,}", style="bold")
    return table


def _percent(share: Share) -> str:
    if share.value is None:
        return "–"
    return f"{100 * share.value:.2f} % ({100 * share.low:.1f}..{100 * share.high:.1f})"
