"""Charts of an evaluation as PNG: confusion, reliability, coverage, and the contact sheet of the worst mistakes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from convert.datasets import Images
from convert.evaluation.classification import Calibration, Coverage, Ints
from edge.contract.preprocess import resize
from edge.errors import MissingDependencyError
from edge.packages import install_line
from edge.records import Floats, Image

_BLUE, _ORANGE, _GREY = "#2f6fde", "#e0872f", "#8a94a3"
_DPI: Final = 130
_TILE_PX: Final = 112


def confusion_chart(confusion: Ints, labels: Sequence[str], *, by: str) -> bytes:
    """Shares with counts below, as PNG.

    Args:
        confusion: (classes, classes) counts; row = label, column = prediction.
        labels: names of the classes.
        by: ``recall`` (each row sums to 1: the confusion matrix) or ``precision`` (each column does).
    """
    totals = confusion.sum(axis=1 if by == "recall" else 0, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    plt = _pyplot()
    side = 1.6 + 0.82 * len(labels)
    figure, axes = plt.subplots(figsize=(side, side * 0.92), dpi=_DPI, layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*confusion.shape):
        ink = "white" if shares[row, column] > 0.55 else "#1c2430"
        strong = "bold" if row == column else "normal"
        axes.text(column, row - 0.1, f"{100 * shares[row, column]:.1f}", ha="center", va="center", color=ink,
                  fontsize=11, fontweight=strong)  # fmt: skip
        axes.text(column, row + 0.24, f"{confusion[row, column]:,}", ha="center", va="center", color=ink,
                  fontsize=7.5, alpha=0.8)  # fmt: skip
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    what = "confusion: % of each label" if by == "recall" else "precision: % of each prediction"
    axes.set_title(f"{what} (counts below)", fontsize=11, loc="left")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _png(figure)


def reliability_chart(before: Calibration, after: Calibration, *, temperature: float) -> bytes:
    """Accuracy against confidence in bins of equal mass, before and after the temperature, as PNG."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5.4, 5.0), dpi=_DPI, layout="constrained")
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="perfect")
    for found, colour, name in ((before, _ORANGE, "T = 1"), (after, _BLUE, f"T = {temperature:.3f}")):
        label = f"{name}: ECE {found.error:.4f}"
        axes.plot(found.confidences, found.accuracies, color=colour, marker="o", markersize=4.5, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="confidence", ylabel="accuracy")
    axes.set_title("reliability: 15 bins of equal mass", fontsize=11, loc="left")
    return _finish(figure, axes)


def coverage_chart(curve: Coverage) -> bytes:
    """Accuracy among the pictures answered, the most confident first, as PNG."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5.4, 5.0), dpi=_DPI, layout="constrained")
    shown = slice(max(0, len(curve.coverages) // 50), None)  # the first few pictures jump between 0 and 1
    axes.plot(100 * curve.coverages[shown], 100 * curve.accuracies[shown], color=_BLUE, linewidth=2)
    for coverage in (1.0, 0.9, 0.8, 0.5):
        accuracy = 100 * curve.accuracy_at(coverage)
        axes.plot(100 * coverage, accuracy, "o", color=_BLUE, markersize=5)
        axes.annotate(f"{accuracy:.1f} %", (100 * coverage, accuracy), xytext=(-4, -14), fontsize=9, ha="right",
                      textcoords="offset points")  # fmt: skip
    low = float(100 * curve.accuracies[shown].min())
    axes.set(xlim=(0, 101), ylim=(max(0.0, low - 8), 101), xlabel="% of pictures answered", ylabel="accuracy, %")
    axes.set_title("accuracy against coverage", fontsize=11, loc="left")
    return _finish(figure, axes, legend=False)


def contact_sheet(
    images: Images, labels: Ints, scores: Floats, *, classes: Sequence[str], columns: int = 8, rows: int = 6
) -> bytes:
    """The most confident mistakes with label, prediction and score, as PNG. Shows data-set pictures.

    Args:
        images: the pictures.
        labels: (n,) positions in ``classes``.
        scores: (n, classes) probabilities.
        classes: names.
        columns: of the sheet.
        rows: of the sheet, at most.
    """
    worst = worst_mistakes(labels, scores, count=columns * rows)
    tiles = [
        _tile(images[row], f"{classes[labels[row]]}", f"{classes[scores[row].argmax()]} {100 * scores[row].max():.0f}%")
        for row in worst
    ]
    if not tiles:
        tiles = [np.full((_TILE_PX + 40, _TILE_PX + 8, 3), 255, np.uint8)]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[at : at + columns]) for at in range(0, len(tiles), columns)])
    encoded: npt.NDArray[np.uint8] = cv2.imencode(".png", sheet)[1]
    return encoded.tobytes()


def worst_mistakes(labels: Ints, scores: Floats, *, count: int) -> Ints:
    """Rows of wrong predictions, the most confident first."""
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    return wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")][:count]


def _tile(image: Image, label: str, prediction: str) -> Image:
    height, width = image.shape[:2]
    scale = _TILE_PX / max(height, width)
    face = resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))
    tile = np.full((_TILE_PX + 40, _TILE_PX + 8, 3), 255, np.uint8)
    tile[4 : 4 + face.shape[0], 4 : 4 + face.shape[1]] = face if face.ndim == 3 else face[:, :, np.newaxis]
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(tile, label, (4, _TILE_PX + 18), font, 0.4, (60, 110, 20), 1, cv2.LINE_AA)
    cv2.putText(tile, prediction, (4, _TILE_PX + 33), font, 0.4, (40, 40, 190), 1, cv2.LINE_AA)
    return tile


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError("charts", "matplotlib", install_line("training")) from error
    mpl.use("agg")
    import matplotlib.pyplot as plt

    return plt


def _finish(figure: Any, axes: Any, *, legend: bool = True) -> bytes:
    axes.grid(color="#e3e8ef", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if legend:
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return _png(figure)


def _png(figure: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    _pyplot().close(figure)
    return target.getvalue()
