"""What `mien replay` saw: a table of the faces of pictures, a summary of a video."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from edge.records import FaceState, Step

LISTED: Final = 40
"""Rows of the table; more are counted."""


class StillsTable:
    """The faces of pictures, each picture by itself."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, ...]] = []
        self._pictures = self._faces = self._more = 0

    def add(self, step: Step) -> None:
        """Take a picture's faces."""
        self._pictures += 1
        self._faces += len(step.faces)
        name = Path(step.frame.source).name
        for face in step.faces or (None,):
            if len(self._rows) < LISTED:
                self._rows.append((name, *_cells(face)))
                name = ""
            else:
                self._more += 1

    def show(self, console: Console) -> None:
        """Print the table, and how many pictures and faces there were."""
        table = Table("picture", "emotion", "confidence", "place", box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.columns[2].justify = "right"
        for row in self._rows:
            table.add_row(*row)
        if self._rows:
            console.print(table)
        more = f", {self._more} rows not shown" if self._more else ""
        per_picture = self._faces / max(self._pictures, 1)
        console.print(
            f"{_count(self._pictures, 'picture')}, {_count(self._faces, 'face')} ({per_picture:.2f} a picture){more}",
            highlight=False,
        )


class StreamSummary:
    """The frames, followed faces and emotions of a video."""

    def __init__(self) -> None:
        self._frames = self._faces = self._events = 0
        self._tracks: set[str] = set()
        self._emotions = Counter[str]()

    def add(self, step: Step) -> None:
        """Take a frame."""
        self._frames += 1
        self._faces += len(step.faces)
        self._events += len(step.events)
        self._tracks.update(face.track.id for face in step.faces)
        self._emotions.update(face.emotion for face in step.faces)

    def add_events(self, step: Step) -> None:
        """Take events that no frame made."""
        self._events += len(step.events)

    def show(self, console: Console) -> None:
        """Print the summary."""
        per_frame = self._faces / max(self._frames, 1)
        followed = f"{_count(len(self._tracks), 'face')} followed, {_count(self._events, 'event')}"
        console.print(f"{_count(self._frames, 'frame')}, {per_frame:.2f} faces a frame, {followed}", highlight=False)
        shares = [f"{emotion} {count / self._faces:.0%}" for emotion, count in self._emotions.most_common()]
        if shares:
            console.print(f"of the faces: {', '.join(shares)}", highlight=False)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _cells(face: FaceState | None) -> tuple[str, str, str]:
    if face is None:
        return "no face", "", ""
    left, top, width, height = (round(value) for value in face.track.xywh)
    emotion = f"{face.emotion} ({face.reason.value})" if face.reason else face.emotion
    return emotion, f"{face.confidence:.0%}", f"{width}×{height} at {left},{top}"
