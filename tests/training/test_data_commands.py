"""``mien-train data``, ``prepare`` and ``evaluate`` as a person calls them: in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faces import write_faces

ROOT = Path(__file__).parents[2]


def mien_train(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        capture_output=True, text=True, timeout=150, cwd=folder,
        env={**os.environ, "COLUMNS": "160", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")},
    )  # fmt: skip


def test_data_prints_the_counts_and_writes_page_and_json(tmp_path: Path) -> None:
    write_faces(tmp_path)
    done = mien_train(tmp_path, "data", "faces.npz", "--out", "page.html", "--json", "report.json")
    assert done.returncode == 0, done.stderr
    assert "public_test" in done.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pictures"] == 84
    assert report["vote_agreement"] == 1.0


def test_prepare_prints_the_path_of_data_that_every_other_command_takes(tmp_path: Path) -> None:
    write_faces(tmp_path, count=140)
    first = mien_train(tmp_path, "prepare", "faces.npz", "--validation", "0.2")
    again = mien_train(tmp_path, "prepare", "faces.npz", "--validation", "0.2")
    assert first.returncode == again.returncode == 0, first.stderr
    assert first.stdout == again.stdout
    assert "prepared now" in first.stderr
    assert "found in the cache" in again.stderr
    prepared = Path(first.stdout.strip())
    assert prepared.parent == tmp_path / "cache" / "mien"
    audited = mien_train(tmp_path, "data", prepared, "--json", "report.json")
    assert audited.returncode == 0, audited.stderr
    leaks = json.loads((tmp_path / "report.json").read_text())["leaks"]
    assert len(leaks) == 6
    assert all(leak["near"] == 0 for leak in leaks)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("data", "nothing.csv"), 78, "mien-train: error: nothing.csv: no such file or folder"),
        (("data", "faces.npz@split=third"), 2, "split=third: not one of train, validation"),
        (("prepare", "faces.npz", "--validation", "0.9"), 2, "leave half of the pictures to train on"),
        (("evaluate", "no-such-bundle", "-d", "faces.npz"), 78, "no such bundle"),
        (("evaluate", "no-such-bundle"), 2, "evaluate: no data"),
        (("data", "faces.npz", "--out", "faces.npz/page.html"), 78, "page.html: cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_the_documented_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    write_faces(tmp_path)
    done = mien_train(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
