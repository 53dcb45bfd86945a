"""The files that the tests of conversion work on, and what a command said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LABELS = "angry,disgust,fear,happy,sad,surprise,neutral"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Workshop:
    """Files on disk: data, and the small network in several forms."""

    folder: Path
    calibrate: Path
    evaluate: Path
    keras: Path

    def arguments(self, out: Path, *, model: Path | None = None) -> list[str]:
        return [
            "quantize", str(model or self.keras), "--calibrate", str(self.calibrate), "--evaluate", str(self.evaluate),
            "--out", str(out), "--labels", LABELS, "--crop", "square", "--version", "1.0.0", "--licence", "Apache-2.0",
            "--calibration-count", "140",
        ]  # fmt: skip
