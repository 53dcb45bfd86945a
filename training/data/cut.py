"""``mien-train cut``: whole photographs become a folder of cut faces, with a page that shows what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from convert.datasets.face_cut import FoundFace, count_states, cut_faces
from convert.datasets.pictures import find_pictures, read_picture, unread_pictures
from convert.datasets.samples import printable
from edge.contract.crop import MEASURED_MARGIN
from edge.errors import DataError, UsageError
from training import page
from training.files import write_file

PAGE: Final = "cut.html"
_SHOWN: Final = 300
"""Faces shown a section; counts are always of all."""


@dataclass(frozen=True, slots=True)
class CutReport:
    """What became of the photographs.

    Attributes:
        faces: name of the picture, and what became of one of its faces.
        unreadable: one line each.
        unread: reason to how many pictures were not opened.
        page: the contact sheet.
    """

    faces: list[tuple[str, FoundFace]]
    unreadable: list[str]
    unread: dict[str, int]
    page: Path

    def counts(self) -> dict[str, int]:
        """Return how many faces were cut, taken whole and left out for each reason."""
        counts = count_states([face for _, face in self.faces]) | self.unread
        return counts | ({"unreadable": len(self.unreadable)} if self.unreadable else {})


def cut_photographs(photographs: Sequence[Path], *, out: Path, every: bool, min_px: int) -> CutReport:
    """Cut the faces of photographs into ``out``, in folders like theirs, and write the contact sheet.

    Args:
        photographs: files, or folders with folders.
        out: folder to write; it must be new or empty, and in none of the folders.
        every: all faces of a picture, not the largest alone.
        min_px: least height of a face's box.

    Raises:
        UsageError: ``out`` holds something, or lies in a folder that is read.
        DataError: no such file, no picture, or no face at all.
    """
    _refuse_folder(photographs, out)
    faces: list[tuple[str, FoundFace]] = []
    unreadable: list[str] = []
    for picture, place in _list_pictures(photographs):
        try:
            image = read_picture(picture)
        except DataError as error:
            unreadable.append(printable(str(error)))
            continue
        found = cut_faces(image, every=every, min_px=min_px)
        for face in found:
            if face.state != "left out":
                _write_face(out / place, face)
        faces += [(printable(place.as_posix()), face) for face in found]
    unread: dict[str, int] = {}
    for folder in filter(Path.is_dir, photographs):
        for reason, count in unread_pictures(folder).items():
            unread[reason] = unread.get(reason, 0) + count
    report = CutReport(faces, unreadable, unread, out / PAGE)
    if not faces and not unreadable:
        raise DataError(photographs[0], "no picture")
    write_file(report.page, render_sheet(report).encode())
    if all(face.state == "left out" for _, face in faces):
        raise DataError(photographs[0], f"no face was cut; {report.page} shows why")
    return report


def render_sheet(report: CutReport) -> str:
    """Return the contact sheet as self-contained HTML."""
    counts = report.counts()
    kinds = {"cut": "good", "whole": ""}
    parts = [page.cards((f"{count:,}", what, kinds.get(what, "warn")) for what, count in counts.items())]
    for state, title in (("left out", "Left out"), ("whole", "Taken whole"), ("cut", "Cut")):
        groups: dict[str, list[tuple[str, FoundFace]]] = {}
        for name, face in report.faces:
            if face.state == state:
                groups.setdefault(face.reason or (name.rpartition("/")[0] or "."), []).append((name, face))
        for reason, rows in groups.items():
            shown = [page.picture(face.image, title=name) for name, face in rows[:_SHOWN]]
            note = f"{len(rows):,} faces or pictures" + (f", {_SHOWN} shown." if len(rows) > _SHOWN else ".")
            heading = title if reason == "." else f"{title}: {reason}"
            parts.append(page.section(heading, note, page.figure(shown, "" if reason == "." else reason)))
    if report.unreadable:
        lines = "".join(f"<li>{escape(line)}</li>" for line in report.unreadable)
        parts.append(page.section("Unreadable", f"{len(report.unreadable):,} files.", f"<ul>{lines}</ul>"))
    return page.page(
        "Cut faces",
        "What was cut, and what was left out and why. Look through it: a label that was right for the photograph may "
        "not be for the face.",
        parts,
        footer=f"squares of {MEASURED_MARGIN} x the box's height, as the device cuts them. Shows your "
        "photographs: keep it private.",
    )


def _refuse_folder(photographs: Sequence[Path], out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: not empty; use another folder")
    for path in photographs:
        if not path.exists():
            raise DataError(path, "no such file or folder")
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"--out {out}: lies in {path}, which is read; use another folder")


def _list_pictures(photographs: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each picture with its place below the folder that is written."""
    for path in photographs:
        if path.is_dir():
            yield from ((picture, picture.relative_to(path)) for picture in find_pictures(path))
        else:
            yield path, Path(path.name)


def _write_face(place: Path, face: FoundFace) -> None:
    """Write a face without loss, under a name that nothing has yet."""
    file, number = place.with_name(f"{place.name}.png"), 1
    while file.exists():
        number += 1
        file = place.with_name(f"{place.name}_{number}.png")
    encoded: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = cv2.imencode(".png", face.image)[1]
    write_file(file, encoded.tobytes())
