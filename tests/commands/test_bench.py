"""`mien bench` with what people give it: figures, or the reason why there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.commands.bench import MAX_BYTES, WARM_UP_FRAMES, _measure_start_up, _read_frames
from edge.config.loader import make_config


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", "bench", "--json", "--loops", "1", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((120, 160, 3), 127, np.uint8))
    return tmp_path / "picture.png"


@pytest.mark.parametrize("source", ["synthetic", "picture.png"])
def test_start_up_and_memory_are_measured_whatever_the_source(source: str, picture: Path) -> None:
    done = bench(picture.parent, "--source", source)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["frames"] > WARM_UP_FRAMES
    assert report["start_up"]["first_frame_s"] > 0
    assert report["start_up"]["daemon_rss_mb"] > 20
    assert report["start_up"]["reason"] is None


def test_a_daemon_that_ends_is_no_figure_of_0() -> None:
    found = _measure_start_up(make_config({"camera": {"source": "/nowhere.mp4"}}))
    assert found["first_frame_s"] is None
    assert found["daemon_rss_mb"] is None
    assert "nowhere.mp4" in str(found["reason"])


def test_a_source_without_a_frame_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = bench(tmp_path, "--source", "empty")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_frames_in_memory_are_bounded() -> None:
    config = make_config({"camera": {"source": "synthetic", "width": 3840, "height": 2160}})
    frames = _read_frames(config)
    assert 1 < len(frames) <= MAX_BYTES // frames[0].image.nbytes
