"""The page of ``mien-train data``: what was found, with the pictures. It shows data-set pictures: keep it private."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from convert.datasets import read_datasets
from edge.contract.labels import LABELS
from training import page
from training.data.audit import Audit, Report, audit
from training.data.duplicates import Ints
from training.files import write_file

_GROUPS_SHOWN: Final = 60
_PICTURES_A_GROUP: Final = 9
_PICTURES_A_CLASS: Final = 30


def audit_command(data: Sequence[str], *, out: Path, json_file: Path | None = None) -> Report:
    """Reads data sets, audits them, writes the page and, where asked for, the JSON.

    Args:
        data: data sets as on the command line.
        out: the HTML page to write.
        json_file: the report as JSON.

    Returns:
        The report, for the terminal.
    """
    found = audit(read_datasets(data))
    write_file(out, render_page(found).encode())
    if json_file is not None:
        write_file(json_file, msgspec.json.format(msgspec.json.encode(found.report), indent=2) + b"\n")
    return found.report


def render_page(found: Audit) -> str:
    """The whole page as self-contained HTML."""
    report = found.report
    parts = [
        _cards(report),
        _counts(report),
        _classes(found),
        _leaks(found),
        _contradictions(found),
        _copies(found),
        _constant(found),
        _subjects(report),
    ]
    sizes = ", ".join(f"{count:,} of {size}" for size, count in report.sizes.items())
    return page.page(
        f"Data: {report.name}",
        f"{report.pictures:,} pictures: {sizes}.",
        parts,
        footer=f"{report.schema} · sha256 {report.sha256[:16]} · made by mien-train data. "
        "Shows pictures of the data set: they may not be yours to publish.",
    )


def _cards(report: Report) -> str:
    leaking = max((leak.near for leak in report.leaks), default=0)
    items = [
        (f"{report.pictures:,}", "pictures", ""),
        (f"{leaking:,}", "pictures that stand in two splits", "bad" if leaking else "good"),
        (f"{report.identical_copies:,}", "pixel-identical copies", "warn" if report.identical_copies else "good"),
        (f"{report.contradictions:,}", "equal pictures, different labels", "bad" if report.contradictions else "good"),
        (f"{report.constant:,}", "constant pictures", "warn" if report.constant else "good"),
    ]
    if report.subjects:
        across = sum(len(people) for _, _, people in report.subjects_across)
        items.append((f"{report.subjects:,}", f"people, {across} in two splits", "bad" if across else ""))
    if report.vote_agreement is not None:
        items.append((f"{100 * report.vote_agreement:.1f} %", "of labels are FER+'s majority, too", ""))
    return page.cards(items)


def _counts(report: Report) -> str:
    splits = list(report.counts)
    rows = {label: {split: report.counts[split][label] for split in splits} for label in LABELS}
    totals = {split: sum(report.counts[split].values()) for split in splits}
    body = [
        [
            label,
            *(f"{rows[label][s]:,}  ({100 * rows[label][s] / max(totals[s], 1):.1f} %)" for s in splits),
            f"{sum(rows[label].values()):,}",
        ]
        for label in LABELS
    ]
    body.append(["all", *(f"{totals[split]:,}" for split in splits), f"{report.pictures:,}"])
    dropped = "".join(
        f"<p>Left out of {escape(source)}: {count:,} ({escape(reason)}).</p>"
        for source, reason, count in report.dropped
    )
    filled = {label: counts for label, counts in rows.items() if sum(counts.values())}
    missing = [label for label in LABELS if label not in filled]
    note = "Pictures per label and split." + (f" None of {', '.join(missing)}." if missing else "")
    return page.section(
        "Labels", note, page.stacked_bars(filled, splits), page.table(["label", *splits, "all"], body), dropped
    )


def _classes(found: Audit) -> str:
    dataset, rng, items = found.dataset, np.random.default_rng(0), []
    for index, label in enumerate(LABELS):
        rows = np.flatnonzero(dataset.labels == index)
        if len(rows):
            items.append(page.figure(_pictures(found, rng.permutation(rows)[:_PICTURES_A_CLASS], side_px=60), label))
    return page.section("What the labels look like", "Drawn at random.", *(f"<div>{item}</div><br>" for item in items))


def _leaks(found: Audit) -> str:
    rows = [
        [f"{leak.splits[0]} in {leak.splits[1]}", f"{leak.identical:,}", f"{leak.near:,}"]
        for leak in found.report.leaks
    ]
    if not rows:
        return page.section("Copies across splits", "There is one split only.")
    note = (
        "A picture that is trained on and tested on makes the test worth less. Near: the same photograph, cropped, "
        "retouched, watermarked or mirrored. mien-train prepare leaves these out of the training split."
    )
    shown = found.leaking[:_GROUPS_SHOWN]
    more = f"{len(found.leaking):,} groups" + (f", {len(shown)} shown." if len(shown) < len(found.leaking) else ".")
    return page.section(
        "Copies across splits",
        note,
        page.table(["pictures of … in …", "identical", "identical or near"], rows),
        f"<p><br>{more}</p>",
        page.figures(_group(found, rows) for rows in shown),
    )


def _contradictions(found: Audit) -> str:
    if not found.contradicting:
        return page.section("Equal pictures, different labels", "None.")
    shown = found.contradicting[:_GROUPS_SHOWN]
    note = (
        f"{len(found.contradicting):,} groups of pixel-identical pictures have labels that contradict each other: "
        "no model can be right about all of them."
    )
    return page.section("Equal pictures, different labels", note, page.figures(_group(found, rows) for rows in shown))


def _copies(found: Audit) -> str:
    report = found.report
    note = (
        f"{report.identical_groups:,} groups of pixel-identical pictures ({report.identical_copies:,} copies); with "
        f"near-duplicates {report.near_groups:,} groups. {int(found.duplicates.mirrored.sum()):,} pairs are mirrored. "
        "The largest:"
    )
    return page.section(
        "The same photograph more than once", note, page.figures(_group(found, rows) for rows in found.repeated[:24])
    )


def _constant(found: Audit) -> str:
    if not len(found.constant):
        return page.section("Constant pictures", "None.")
    shown = found.constant[:48]
    names = ", ".join(found.dataset.ids[shown][:12])
    note = f"{len(found.constant):,} pictures show nothing: every pixel has the same value. {names}"
    return page.section("Constant pictures", note, page.figure(_pictures(found, shown, side_px=48), "all equal"))


def _subjects(report: Report) -> str:
    if not report.subjects:
        return page.section("People", "Unknown: this data does not say who is shown, so splits may share people.")
    if not report.subjects_across:
        return page.section("People", f"{report.subjects:,} people; none is in two splits.")
    rows = [[f"{a} and {b}", f"{len(people):,}", ", ".join(people[:8])] for a, b, people in report.subjects_across]
    return page.section("People", "The same person on both sides of a split.", page.table(["", "people", "who"], rows))


def _group(found: Audit, rows: Ints) -> str:
    """A group's pictures, those of the smaller splits first, with its labels."""
    dataset = found.dataset
    sizes = {split: int((dataset.splits == split).sum()) for split in set(dataset.splits[rows])}
    rows = rows[np.argsort([sizes[split] for split in dataset.splits[rows]], kind="stable")]
    said = Counter(
        f"{LABELS[label]} ({split})" for label, split in zip(dataset.labels[rows], dataset.splits[rows], strict=True)
    )
    caption = " · ".join(f"{count} x {what}" if count > 1 else what for what, count in said.items())
    return page.figure(_pictures(found, rows[:_PICTURES_A_GROUP]), caption)


def _pictures(found: Audit, rows: Ints, *, side_px: int = page.PICTURE_PX) -> list[str]:
    dataset = found.dataset
    return [
        page.picture(dataset.images[row], title=f"{dataset.ids[row]} {LABELS[dataset.labels[row]]}", side_px=side_px)
        for row in rows
    ]
