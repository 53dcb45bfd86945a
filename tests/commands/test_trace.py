"""Traces: numbers alone, from which the same events come out; and what can be wrong with one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clips import PICTURES, write_blinking_clip, write_clip
from tools import ROOT

QUICK = ["--set", "track.confirm_ms=0", "--set", "track.keep_ms=0", "--set", "track.leave_ms=0"]


def replay(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_folders(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"source": Path(row["source"]).name} for row in rows]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outcome of a replay, ``out.jsonl``, and its ``trace``."""
    folder = tmp_path_factory.mktemp("traced")
    clip = write_blinking_clip(folder / "clip.avi")
    done = replay(clip, "--out", folder / "out.jsonl", "--trace", folder / "trace", *QUICK)
    assert done.returncode == 0, done.stderr
    assert f"written: {folder / 'trace'}" in done.stderr
    return folder


def test_a_trace_tells_the_same_events_bit_for_bit(traced: Path, tmp_path: Path) -> None:
    done = replay(traced / "trace", "--out", tmp_path / "again.jsonl")
    assert done.returncode == 0, done.stderr
    told, again = lines(traced / "out.jsonl"), lines(tmp_path / "again.jsonl")
    assert sum(len(row["events"]) for row in told) == 10
    assert without_folders(told) == again
    assert "30 frames" in done.stderr


def test_a_trace_of_resting_frames_and_one_of_pictures_tell_the_same(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi")
    for source, settings in ((clip, ["--set", "detect.schedule=adaptive"]), (PICTURES, [])):
        out, trace, again = tmp_path / "out.jsonl", tmp_path / "trace", tmp_path / "again.jsonl"
        assert replay(source, "--out", out, "--trace", trace, *settings).returncode == 0
        assert replay(trace, "--out", again).returncode == 0
        assert without_folders(lines(out)) == lines(again)


def test_a_trace_holds_numbers_and_no_folder(traced: Path) -> None:
    text = (traced / "trace").read_text()
    assert str(traced.parent) not in text
    assert len(text) < 30 * 1500
    header, *rows = lines(traced / "trace")
    assert header["schema"] == "mien.trace/1"
    assert {row["kind"] for row in rows} == {"frame"}


def test_settings_tried_on_a_trace_give_what_they_give_on_the_video(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi")
    assert replay(clip, "--trace", tmp_path / "trace").returncode == 0
    tried = ["--set", "smooth.min_margin=0.99", "--set", "quality.min_face_px=400"]
    for source, out in ((clip, "video.jsonl"), (tmp_path / "trace", "trace.jsonl")):
        assert replay(source, "--out", tmp_path / out, *tried).returncode == 0
    told = lines(tmp_path / "trace.jsonl")
    assert {face["reason"] for row in told for face in row["faces"]} == {"too_small"}
    assert without_folders(lines(tmp_path / "video.jsonl")) == told


def test_of_another_time_constant_it_is_said_that_views_are_those_of_the_trace(traced: Path) -> None:
    assert (
        "read at the time constant of the trace"
        in replay(traced / "trace", "--set", "smooth.time_constant_ms=0").stderr
    )


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--set", "track.keep_ms=1"], 78, "--set: track.keep_ms: a trace is of what was seen with it"),
        (["--set", "smooth.enter=2"], 78, "--set: smooth.enter: 2 is not in 0..1"),
        (["--config", "edge/README.md"], 2, "--config: a trace holds no pixels, and its own settings"),
        (["--render", "out.mp4"], 2, "--render: a trace holds no pixels, and its own settings"),
        (["--trace", "again"], 2, "--trace: a trace holds no pixels, and its own settings"),
    ],
)
def test_what_a_trace_cannot_do_is_said(arguments: list[str], code: int, line: str, traced: Path) -> None:
    done = replay(traced / "trace", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert line in done.stderr


def test_a_trace_is_never_written_over(traced: Path, tmp_path: Path) -> None:
    before = (traced / "trace").read_bytes()
    assert replay(traced / "trace", "--out", traced / "trace").returncode == 2
    clip = traced / "clip.avi"
    assert replay(clip, "--trace", clip).returncode == 2
    assert replay(clip, "--trace", tmp_path / "x", "--out", tmp_path / "x").returncode == 2
    assert (traced / "trace").read_bytes() == before


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda text: text[:-40], "line 31 is cut off"),
        (lambda text: text.replace("mien.trace/1", "mien.trace/2", 1), "is a trace of version 2; this Mien reads 1"),
        (lambda text: text.replace('"kind":"frame"', '"kind":"film"', 1), "line 2: Invalid value 'film'"),
        (lambda text: text.replace('"labels":["angry",', '"labels":[', 1), "a face has 5 landmarks and 6 scores"),
        (lambda text: text.split("\n")[0][:-9] + "\n", "line 1: "),
    ],
    ids=["cut", "version", "kind", "scores", "header"],
)
def test_a_damaged_trace_is_one_line_and_keeps_what_came_before(
    edit: Any, line: str, traced: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text(edit((traced / "trace").read_text()))
    done = replay(damaged, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert f"mien: error: {damaged}: " in done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    if "cut off" in line:
        assert len(lines(tmp_path / "out.jsonl")) == 29
