"""`mien replay`: every frame of a file, the same bytes each time, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
from tools import ROOT

PICTURES = ROOT / "edge" / "capture" / "portraits"


def replay(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_each_picture_of_a_folder_is_one_line_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("first.jsonl", "second.jsonl"):
        assert replay(PICTURES, "--out", tmp_path / name).returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "first.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(list(PICTURES.glob("*.jpg")))))
    assert all(len(line["faces"]) == 1 for line in lines)
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()


def test_a_dash_is_standard_output_and_no_file(tmp_path: Path) -> None:
    told = replay(PICTURES / "hopper.jpg", "--out", "-")
    assert replay(PICTURES / "hopper.jpg", "--out", tmp_path / "out.jsonl").returncode == 0
    assert told.stdout == (tmp_path / "out.jsonl").read_text()
    assert not (ROOT / "-").exists()


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = replay(PICTURES / "hopper.jpg", "--out", tmp_path / "missing" / "out.jsonl")
    assert done.returncode == 2
    assert (
        done.stderr.strip().splitlines()[-1] == f"mien: error: {tmp_path}/missing/out.jsonl: No such file or directory"
    )
    assert not list(tmp_path.iterdir())


def test_what_is_no_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    done = replay(tmp_path / "broken.jpg", "--out", tmp_path / "out.jsonl")
    assert done.returncode != 0
    assert "broken.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_pictures_of_every_kind_are_rendered_under_their_own_names(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    picture = cv2.imread(str(PICTURES / "hopper.jpg"))
    for name in ("a.tif", "b.png", "c.ppm", "d.jpe"):
        assert cv2.imwrite(str(folder / name), picture)
    done = replay(folder, "--render", out)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


def test_of_two_pictures_with_one_stem_neither_is_overwritten(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    picture = cv2.imread(str(PICTURES / "hopper.jpg"))
    for name in ("a.jpg", "a.png"):
        assert cv2.imwrite(str(folder / name), picture)
    assert replay(folder, "--render", out).returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "a.png.png"]
