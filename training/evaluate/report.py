"""The folder of ``mien-train evaluate --out``: charts as PNG, and one self-contained page with all of them.

It shows pictures of the data set and is written beside a run, never into a bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from training import page
from training.evaluate.charts import confusion_chart, contact_sheet, coverage_chart, reliability_chart
from training.evaluate.evaluate import Evaluation, Report, Share, encode_report
from training.files import write_file

CONFUSION, PRECISION, RELIABILITY, COVERAGE, MISTAKES = (
    "confusion.png", "precision.png", "reliability.png", "coverage.png", "mistakes.png",
)  # fmt: skip
PAGE: Final = "evaluation.html"
REPORT: Final = "evaluation.json"


def write_pages(found: Evaluation, out: Path) -> None:
    """Writes the charts, the page and the report into a folder."""
    charts = make_charts(found)
    for name, content in charts.items():
        write_file(out / name, content)
    write_file(out / REPORT, encode_report(found.report))
    write_file(out / PAGE, render_page(found.report, charts).encode())


def make_charts(found: Evaluation) -> dict[str, bytes]:
    """File name to PNG."""
    report = found.report
    confusion = np.array(report.confusion, np.int64)
    return {
        CONFUSION: confusion_chart(confusion, report.labels, by="recall"),
        PRECISION: confusion_chart(confusion, report.labels, by="precision"),
        RELIABILITY: reliability_chart(found.before, found.after, temperature=report.calibration.temperature),
        COVERAGE: coverage_chart(found.coverage),
        MISTAKES: contact_sheet(found.dataset.images, found.labels, found.scores, classes=report.labels),
    }


def render_page(report: Report, charts: dict[str, bytes]) -> str:
    """The whole page as self-contained HTML."""
    how = "measured through edge.infer, the code that ships" if report.kind == "bundle" else "float, through Keras"
    flipped = ", mean over the picture and its mirror image" if report.flip else ""
    flipped += ", balanced operating point" if report.prior == "balanced" else ""
    return page.page(
        f"{report.model} on {report.data}",
        f"{report.n:,} pictures, {how}{flipped}.",
        [_cards(report), *_comparison(report), _classes(report), _matrices(charts), _belief(report, charts),
         *_scatter(report), _mistakes(charts)],
        footer=f"{report.schema} · data sha256 {report.data_sha256[:16]} · made by mien-train evaluate. "
        "Apparent expression, not what a person feels. Shows pictures of the data set.",
    )  # fmt: skip


def _cards(report: Report) -> str:
    items = [
        (_percent(report.accuracy.value), f"accuracy, 95 %: {_interval(report.accuracy)}", ""),
        (_percent(report.balanced_accuracy), "balanced accuracy (mean recall)", ""),
        (f"{report.macro_f1:.4f}", "macro-F1", ""),
        (f"{report.calibration.error_after:.4f}", f"calibration error at T = {report.calibration.temperature:.3f}", ""),
    ]
    if report.accuracy_by_subject is not None:
        items.insert(1, (_interval(report.accuracy_by_subject), "interval when whole people are drawn", ""))
    if report.clean is not None:
        items.append((_percent(report.clean.accuracy.value), f"without {report.clean.copies:,} copies", ""))
    if report.protocols is not None:
        items.append((_percent(report.protocols.flip.value), "with mirror images", ""))
        items.append((_percent(report.protocols.ten.value), "mean over ten views", ""))
        if report.protocols.eight_classes is not None:
            items.append((_percent(report.protocols.eight_classes.value), "FER+'s eight classes", ""))
    if report.left_out:
        items.append((f"{report.left_out:,}", "pictures left out: classes that the model lacks", "warn"))
    return page.cards(items)


def _comparison(report: Report) -> list[str]:
    found = report.comparison
    if found is None:
        return []
    decided = found.low > 0 or found.high < 0
    verdict = ("better than" if found.difference > 0 else "worse than") if decided else "not told apart from"
    rows = [
        ["accuracy", f"{_percent(report.accuracy.value)}", f"{_percent(found.accuracy_other.value)}"],
        ["right where the other is wrong", f"{found.only_this:,}", f"{found.only_other:,}"],
    ]
    note = (
        f"{report.model} is {verdict} {found.other}: {100 * found.difference:+.2f} points, 95 %: "
        f"{100 * found.low:+.2f}..{100 * found.high:+.2f}; McNemar p = {found.mcnemar_p:.2g}."
    )
    return [page.section("Compared on the same pictures", note, page.table(["", report.model, found.other], rows))]


def _classes(report: Report) -> str:
    rows = [
        [
            one.label,
            f"{one.n:,}",
            f"{_percent(one.recall.value)}  ({_interval(one.recall)})" if one.n else "–",
            f"{_percent(one.precision.value)}  ({_interval(one.precision)})" if one.precision.n else "–",
            f"{one.f1:.4f}" if one.f1 is not None else "–",
        ]
        for one in report.classes
    ]
    return page.section(
        "Classes",
        "Recall: of the pictures with this label, the share recognised. Precision: of the predictions, the share "
        "right. Intervals are 95 %.",
        page.table(["label", "pictures", "recall", "precision", "F1"], rows),
    )


def _matrices(charts: dict[str, bytes]) -> str:
    return page.section(
        "Confusion",
        "Rows are labels, columns predictions; the first chart's rows sum to 100 %, the second one's columns.",
        _pair(charts[CONFUSION], charts[PRECISION]),
    )


def _belief(report: Report, charts: dict[str, bytes]) -> str:
    figures = report.calibration
    note = (
        f"Temperature {figures.temperature:.3f} ({figures.source}{f', {figures.n:,} pictures' if figures.n else ''}). "
        f"Expected calibration error {figures.error_before:.4f} before, {figures.error_after:.4f} after; "
        f"negative log-likelihood {figures.nll_before:.4f} and {figures.nll_after:.4f}."
    )
    rows = [[f"{100 * p.coverage:.0f} %", _percent(p.accuracy), f"{p.threshold:.3f}"] for p in report.coverage]
    return page.section(
        "How far it can be believed",
        note,
        _pair(charts[RELIABILITY], charts[COVERAGE]),
        page.table(["answered", "accuracy", "from confidence"], rows),
    )


def _scatter(report: Report) -> list[str]:
    found = report.scatter
    if found is None:
        return []
    rows = [["exact crop", _percent(report.accuracy.value), ""]]
    rows += [
        [f"drawn scatter, {found.draws} draws a picture", _percent(found.accuracy), f"{-found.drop:+.2f}"],
        *(
            [name, _percent(value), f"{100 * (value - (report.accuracy.value or 0)):+.2f}"]
            for name, value in found.moves.items()
        ),
    ]
    note = (
        "A detector's box falls a little differently each time; these are crops as the device would cut them. Drop "
        f"{found.drop:.2f} points, 95 %: {found.drop_low:.2f}..{found.drop_high:.2f}."
    )
    return [page.section("The device's crop", note, page.table(["crop", "accuracy", "points"], rows))]


def _mistakes(charts: dict[str, bytes]) -> str:
    return page.section(
        "Worst mistakes",
        "The most confident wrong answers: the label in green, the prediction in red.",
        _embed(charts[MISTAKES]),
    )


def _pair(first: bytes, second: bytes) -> str:
    return f'<div class="pair">{_embed(first)}{_embed(second)}</div>'


def _embed(png: bytes) -> str:
    return f'<img class="wide" src="{page.data_uri(png)}" alt="">'


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _interval(share: Share) -> str:
    return f"{100 * share.low:.1f}..{100 * share.high:.1f} %"
