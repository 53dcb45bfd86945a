"""`mien doctor` looks at what a camera shows, and has the fix that fits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.capture.portraits import load_portraits, read_portrait
from edge.commands.doctor.camera_fixes import FIXES, OTHERWISE, fix_of
from edge.commands.doctor.content import doubt_pictures

SIZE = (480, 640, 3)


def noise(mean: float, spread: float, seed: int = 0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(mean, spread, SIZE), 0, 255).astype(np.uint8)


def look(folder: Path, *pictures: np.ndarray) -> tuple[str, str, str]:
    """Return the camera's row of a real run: status, found, fix."""
    (folder / "shown").mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / "shown" / f"{number}.png"), picture)
    (folder / "mien.toml").write_text(f'[camera]\nsource = "{folder}/shown"\n[publish]\nsinks = ["jsonl"]\n')
    command = [sys.executable, "-m", "edge", "doctor", "--json", "--config", str(folder / "mien.toml")]
    report = json.loads(subprocess.run(command, capture_output=True, timeout=120, check=False).stdout)
    (row,) = [row for row in report["findings"] if row["check"] == "camera"]
    return row["status"], row["found"], row["fix"]


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (np.zeros(SIZE, np.uint8), "the picture is black"),
        (noise(16, 0.8), "the picture is one flat colour"),
        (noise(4, 4), "the picture is almost black"),
        (np.full(SIZE, (30, 200, 30), np.uint8), "the picture is one flat colour"),
    ],
)
def test_a_picture_that_shows_nothing_is_wrong(picture: np.ndarray, told: str, tmp_path: Path) -> None:
    status, found, fix = look(tmp_path, picture, picture)
    assert (status, told in found) == ("wrong", True), found
    assert fix


def test_a_camera_upside_down_is_noticed_and_the_key_is_named(tmp_path: Path) -> None:
    portrait = next(read_portrait(one) for one in load_portraits() if one.file == "hopper.jpg")
    scene = noise(120, 10)
    scene[40:419, 100:461] = portrait
    assert look(tmp_path, scene)[0] == "ok"
    (tmp_path / "turned").mkdir()
    status, found, fix = look(tmp_path / "turned", np.rot90(scene, 2).copy())
    assert (status, "camera.rotate = 180" in found) == ("note", True), found
    assert "set that key" in fix


def test_a_live_picture_that_never_changes_is_doubted_and_a_file_s_is_not() -> None:
    same = [noise(120, 20)] * 5
    assert "the same to the last bit" in str(doubt_pictures(same, is_live=True, find=lambda _: []))
    assert doubt_pictures(same, is_live=False, find=lambda _: []) is None
    moving = [noise(120, 20, seed) for seed in range(5)]
    assert doubt_pictures(moving, is_live=True, find=lambda _: []) is None


@pytest.mark.parametrize(
    ("problem", "fix"),
    [
        ("0: there is no camera /dev/video0; there are: none at all", "plugged in"),
        ("/dev/video0: this user may not open it", "usermod"),
        ("/dev/video1 delivers no pictures; another node of the same camera may", "v4l2-ctl"),
        ("/dev/null is not a camera", "folder of pictures"),
        ("rtsp://…@10.0.0.7/live: 401 Unauthorized", "password_file"),
        ("rtsp://10.0.0.7/live: 404 Not Found", "path"),
        ("the host answers, but sends no video: wrong path, password or codec", "path"),
        ("camera.lan: Name or service not known", "numbers"),
        ("10.0.0.7:554: Connection refused", "port"),
        ("10.0.0.7: No route to host", "network"),
        ("10.0.0.7:554 does not answer", "firewall"),
        ("the pipeline ended: no element 'x'", "gst-launch"),
        ("libcamera cannot open the camera", "rpicam-hello"),
        ("/srv/x.mp4: No such file or directory", "ffprobe"),
        ("something that nobody has seen yet", OTHERWISE),
    ],
)
def test_every_fault_has_the_fix_that_fits(problem: str, fix: str) -> None:
    assert fix in fix_of(problem)


def test_no_fix_hides_another() -> None:
    assert len({fix for _, fix in FIXES}) == len(FIXES)
    assert all(re.compile(pattern) for pattern, _ in FIXES)
