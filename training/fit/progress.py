"""How a training run shows itself: bars on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.fit.run_folder import EpochRow


class ConsoleReporter:
    """Reports to a console; a context manager."""

    def __init__(self, console: Console, *, epochs: int) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._epochs = self._bars.add_task("epochs", total=epochs, note="")
        self._steps = self._bars.add_task("steps", total=None, note="")

    def __enter__(self) -> ConsoleReporter:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bars."""
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def step(self, *, epoch: int, step: int, steps: int, loss: float) -> None:
        """Moves the bar of the steps."""
        self._bars.update(self._steps, completed=step, total=steps, note=f"loss {loss:.4f}")
        self._bars.update(self._epochs, completed=epoch - 1 + step / steps)

    def epoch(self, row: EpochRow, *, epochs: int) -> None:
        """Prints the epoch's line."""
        others = "".join(f"  {target} {100 * value:.2f} %" for target, value in row.accuracies.items())
        self._console.print(
            f"epoch {row.epoch}/{epochs}  loss {row.loss:.4f}  validation {row.validation_loss:.4f}{others}  "
            f"rate {row.learning_rate:.2g}  {row.seconds:.0f} s{'  best so far' if row.best else ''}",
            soft_wrap=True,
        )
        self._bars.update(self._epochs, completed=row.epoch, total=epochs)
