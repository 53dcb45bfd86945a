"""FER2013 as one table: ``emotion,pixels,Usage``, with FER+'s ``fer2013new.csv`` beside it where people have it.

The columns are found by their names, so that ``icml_face_data.csv`` and ``train.csv`` (no Usage) of the Kaggle
challenge are read, too. Pictures are 48 x 48 grey, pixels separated by blanks.
Source: Goodfellow et al., Challenges in Representation Learning, 2013.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.datasets.ferplus import COLUMNS, NO_VOTES, Votes
from convert.datasets.samples import Samples, same_text, texts
from convert.datasets.split_names import UNSPLIT, split_named
from edge.contract.labels import LABELS
from edge.errors import DataError

FILE: Final = "fer2013.csv"
VOTES_FILE: Final = "fer2013new.csv"
SIDE_PX: Final = 48
_VOTES_PER_ROW: Final = 10
_ROWS_AT_ONCE: Final = 2000


class Fer2013Csv:
    """Reader of ``fer2013.csv``; the path is the file or the folder that holds it."""

    def recognises(self, path: Path) -> bool:
        """True for a folder with ``fer2013.csv``, or a file that starts with a header naming emotion and pixels."""
        if path.is_dir():
            return (path / FILE).is_file()
        if path.suffix.lower() != ".csv":
            return False
        with path.open("rb") as file:
            return {"emotion", "pixels"} <= set(_header(file.readline(500)))

    def files(self, path: Path) -> list[Path]:
        """The table, and the votes where they lie beside it."""
        table = path / FILE if path.is_dir() else path
        votes = table.with_name(VOTES_FILE)
        return [table, votes] if votes.is_file() else [table]

    def read(self, path: Path) -> Samples:
        """Reads all rows and, where there are any, their votes; see `Reader.read`."""
        table, *votes_files = self.files(path)
        try:
            lines = table.read_bytes().splitlines()
        except OSError as error:
            raise DataError(table, f"cannot be read: {error.strerror or error}") from error
        emotions, pixels, usages = _columns(table, lines)
        splits = texts([_split(table, line, usage) for line, usage in enumerate(usages, start=2)])
        return Samples(
            images=_images(table, pixels),
            classes=texts([_class_name(table, line, emotion) for line, emotion in enumerate(emotions, start=2)]),
            splits=splits,
            subjects=same_text("", len(splits)),
            sequences=same_text("", len(splits)),
            ids=texts([f"{table.name}:{line}" for line in range(2, len(splits) + 2)]),
            votes=_read_votes(votes_files[0], splits) if votes_files else None,
        )


def _header(line: bytes) -> list[str]:
    return [name.strip().strip('"') for name in line.decode("utf-8-sig", "replace").split(",")]


def _columns(table: Path, lines: Sequence[bytes]) -> tuple[list[str], list[bytes], list[str]]:
    header = _header(lines[0]) if lines else []
    for name in ("emotion", "pixels"):
        if name not in header:
            raise DataError(table, f"line 1: no column {name!r}; wanted: emotion,pixels,Usage")
    at_emotion, at_pixels = header.index("emotion"), header.index("pixels")
    at_usage = header.index("Usage") if "Usage" in header else None
    while len(lines) > 1 and not lines[-1].strip():
        lines = lines[:-1]
    if len(lines) < 2:
        raise DataError(table, "no rows below the header")
    emotions, pixels, usages = [], [], []
    for number, line in enumerate(lines[1:], start=2):
        fields = [field.strip(b' "') for field in line.split(b",")]
        if len(fields) != len(header):
            raise DataError(table, f"line {number}: {len(fields)} fields; the header has {len(header)}")
        emotions.append(fields[at_emotion].decode("ascii", "replace"))
        pixels.append(fields[at_pixels])
        usages.append("" if at_usage is None else fields[at_usage].decode("ascii", "replace"))
    return emotions, pixels, usages


def _class_name(table: Path, line: int, emotion: str) -> str:
    if emotion not in {str(index) for index in range(len(LABELS))}:
        raise DataError(table, f"line {line}: emotion: {emotion!r} is not in 0..{len(LABELS) - 1}")
    return LABELS[int(emotion)]


def _split(table: Path, line: int, usage: str) -> str:
    split = split_named(usage) if usage else UNSPLIT
    if split is None:
        raise DataError(table, f"line {line}: Usage: {usage!r} is not Training, PublicTest or PrivateTest")
    return split


def _images(table: Path, pixels: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    images = np.empty((len(pixels), SIDE_PX, SIDE_PX), np.uint8)
    for start in range(0, len(pixels), _ROWS_AT_ONCE):
        chunk = pixels[start : start + _ROWS_AT_ONCE]
        values = _parse_fast(chunk)
        if values is None:
            raise _pixel_error(table, chunk, first_line=start + 2)
        images[start : start + len(chunk)] = values.reshape(-1, SIDE_PX, SIDE_PX)
    return images


def _parse_fast(rows: Sequence[bytes]) -> npt.NDArray[np.int64] | None:
    """All pixels of many rows at once, or None where anything is wrong (five times as fast as one number at a time)."""
    if any(row.count(b" ") != SIDE_PX * SIDE_PX - 1 for row in rows):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # what numpy says about text that is no number
            values = np.fromstring(b" ".join(rows).decode("ascii"), dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        return None
    wanted = len(rows) * SIDE_PX * SIDE_PX
    return values if len(values) == wanted and values.min() >= 0 and values.max() <= 255 else None


def _pixel_error(table: Path, rows: Sequence[bytes], *, first_line: int) -> DataError:
    for line, row in enumerate(rows, start=first_line):
        values = row.split(b" ")
        if len(values) != SIDE_PX * SIDE_PX:
            return DataError(table, f"line {line}: pixels: {len(values)} values; wanted {SIDE_PX * SIDE_PX}")
        for at, value in enumerate(values):
            if not value.isdigit() or int(value) > 255:
                shown = value.decode("ascii", "replace")
                return DataError(table, f"line {line}: pixels: value {at + 1} is {shown!r}, not in 0..255")
    return DataError(table, f"line {first_line}: pixels: cannot be read")


def _read_votes(path: Path, splits: npt.NDArray[np.str_]) -> Votes:
    """FER+ votes row for row beside the pictures; a row without any vote comes back as `NO_VOTES`."""
    votes = np.full((len(splits), len(COLUMNS)), NO_VOTES, np.uint8)
    count = 0
    for line, row in _vote_rows(path):
        if count == len(splits):
            raise DataError(path, f"line {line}: more rows than {FILE} ({len(splits)}); they must stand row for row")
        if split_named(row["Usage"]) != splits[count] and splits[count] != UNSPLIT:
            raise DataError(path, f"line {line}: Usage: {row['Usage']!r}, but {FILE} has {splits[count]} in that row")
        values = [_vote(path, line, name, row[name]) for name in COLUMNS]
        if sum(values) > 0:
            votes[count] = values
        count += 1
    if count != len(splits):
        raise DataError(path, f"{count} rows; {FILE} has {len(splits)}; they must stand row for row")
    return votes


def _vote_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))
    missing = {"Usage", *COLUMNS} - set(reader.fieldnames or ())
    if missing:
        raise DataError(path, f"line 1: no column {', '.join(sorted(missing))}; wanted: Usage,{','.join(COLUMNS)}")
    yield from enumerate(reader, start=2)


def _vote(path: Path, line: int, name: str, value: str | None) -> int:
    if value is None or not value.isdigit() or int(value) > _VOTES_PER_ROW:
        raise DataError(path, f"line {line}: {name}: {value!r} is not in 0..{_VOTES_PER_ROW}")
    return int(value)
