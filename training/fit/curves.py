"""The curves of a training run as a picture, drawn anew after each epoch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from training.files import write_file
from training.fit.run_folder import EpochRow


def draw_curves(rows: Sequence[EpochRow], path: Path, *, title: str) -> None:
    """Writes a PNG: losses and learning rate on the left, validation accuracy of every target on the right."""
    # The object interface: no window system, no state shared with a caller's own figures.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row.epoch for row in rows]
    losses.plot(epochs, [row.loss for row in rows], label="training (augmented, smoothed)")
    losses.plot(epochs, [row.validation_loss for row in rows], label="validation")
    losses.set(xlabel="epoch", ylabel="cross-entropy", title=title)
    rates = losses.twinx()
    rates.plot(epochs, [row.learning_rate for row in rows], color="0.7", linestyle=":", label="learning rate")
    rates.set_ylabel("learning rate")
    losses.legend(loc="upper right")
    for target in rows[-1].accuracies:
        accuracies.plot(epochs, [100 * row.accuracies[target] for row in rows], label=target)
    best = max(rows, key=lambda row: row.accuracy)
    accuracies.axvline(best.epoch, color="0.8", linewidth=1)
    accuracies.set(
        xlabel="epoch", ylabel="validation accuracy, %", title=f"best {100 * best.accuracy:.2f} % in epoch {best.epoch}"
    )
    accuracies.legend(loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=90)
    write_file(path, picture.getvalue())
