"""`mien replay`: every frame of a file, the same bytes each time, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from clips import write_clip
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


def heed_interrupts() -> None:
    """A shell starts what it puts into the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def hopper(folder: Path, name: str = "a.jpg") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes((PICTURES / "hopper.jpg").read_bytes())
    return folder / name


@pytest.mark.parametrize(("option", "begins"), [("--out", b'{"frame":0'), ("--render", b"\x89PNG")])
def test_a_pipe_is_written_to_and_stays_a_pipe(option: str, begins: bytes, tmp_path: Path) -> None:
    pipe, copy = tmp_path / "p.png", tmp_path / "copy"
    os.mkfifo(pipe)
    with copy.open("wb") as file, subprocess.Popen(["cat", pipe], stdout=file):
        done = replay(hopper(tmp_path), option, pipe)
    assert done.returncode == 0, done.stderr
    assert copy.read_bytes().startswith(begins)
    assert pipe.is_fifo()


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target.jsonl").write_text("before")
    (tmp_path / "link.jsonl").symlink_to("target.jsonl")
    assert replay(hopper(tmp_path), "--out", tmp_path / "link.jsonl").returncode == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert json.loads((tmp_path / "target.jsonl").read_text())["frame"] == 0


@pytest.mark.parametrize("option", ["--out", "--render"])
def test_what_is_read_is_never_written_over(option: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", seconds=0.5)
    (tmp_path / "link.avi").symlink_to("a.avi")
    before = clip.read_bytes()
    for target in (clip, tmp_path / "link.avi", tmp_path / "." / "a.avi"):
        done = replay(clip, option, target)
        assert (done.returncode, clip.read_bytes()) == (2, before)
        assert "is what is read" in done.stderr


def test_a_folder_is_not_rendered_onto_itself_nor_a_picture_into_its_own_folder(tmp_path: Path) -> None:
    picture = hopper(tmp_path / "in", "a.png")
    before = picture.read_bytes()
    for source, target in ((tmp_path / "in", tmp_path / "in"), (picture, tmp_path / "in")):
        assert replay(source, "--render", target).returncode == 2
    assert picture.read_bytes() == before
    assert replay(picture, "--render", tmp_path / "same.png", "--out", tmp_path / "same.png").returncode == 2
    assert not (tmp_path / "same.png").exists()


def test_no_two_pictures_get_one_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.png.png", "A.jpeg"):
        hopper(tmp_path / "in", name)
    assert replay(tmp_path / "in", "--render", tmp_path / "out").returncode == 0
    assert len({path.name.lower() for path in (tmp_path / "out").iterdir()}) == 4


@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi"])
def test_a_rendered_video_has_the_rate_length_and_size_of_its_source(suffix: str, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "a.avi", seconds=1, fps=10), tmp_path / f"out.{suffix}"
    done = replay(clip, "--render", out)
    assert done.returncode == 0, done.stderr
    rendered = cv2.VideoCapture(str(out))
    size = [rendered.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)]
    assert size == [640, 480, pytest.approx(10, abs=0.01)]
    frames = 0
    while rendered.read()[0]:
        frames += 1
    assert frames == 10
    if suffix == "mp4":
        codec = int(rendered.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").lower()
        assert codec in (b"avc1", b"h264", b"vp09", b"vp90")  # what browsers play


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_by_signal_leaves_what_was_done_whole(number: signal.Signals, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", seconds=60)
    out, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    command = [sys.executable, "-m", "edge", "replay", clip, "--out", out, "--render", video]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heed_interrupts) as running:
        beside = tmp_path / ".out.jsonl.part"
        while not (beside.exists() and beside.stat().st_size > 20_000):
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(number)
        assert running.wait(60) == (130 if number is signal.SIGINT else 143)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    rendered = cv2.VideoCapture(str(video))
    frames = 0
    while rendered.read()[0]:
        frames += 1
    assert abs(frames - len(lines)) <= 1
    assert 0 < frames < 900
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_is_cut_off_keeps_what_was_read(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", seconds=2)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    done = replay(clip, "--out", tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert "cut off" in done.stderr
    assert f"ended early, holds what was done so far: {tmp_path / 'out.jsonl'}" in done.stderr
    assert "written:" not in done.stderr
    assert 0 < len((tmp_path / "out.jsonl").read_text().splitlines()) < 30


def test_render_alone_draws_under_a_name_like_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hopper(tmp_path / "in")
    command = [sys.executable, "-m", "edge", "replay", "in/a.jpg", "--render"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "written: a_seen.png" in done.stderr
    assert cv2.imread(str(tmp_path / "a_seen.png")) is not None


def test_replay_says_what_it_saw(tmp_path: Path) -> None:
    said = replay(hopper(tmp_path)).stderr
    assert re.search(r"a\.jpg +\S.* +\d+%", said)
    assert "1 picture, 1 face (1.00 a picture)" in said
    said = replay(write_clip(tmp_path / "a.avi", seconds=1)).stderr
    assert "2 faces followed" in said
    assert "of the faces: " in said


def test_closed_streams_and_encodings_without_the_characters_end_in_no_traceback(tmp_path: Path) -> None:
    picture = hopper(tmp_path, "a\udcff.jpg")
    command = f"{sys.executable} -m edge replay {tmp_path}/a*.jpg --out out.jsonl"
    for redirection in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["bash", "-c", f"{command} {redirection}"], capture_output=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads((ROOT / "out.jsonl").read_bytes())["source"] == f"{tmp_path}/a\\xff.jpg"
        (ROOT / "out.jsonl").unlink()
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "edge", "replay", str(picture)],
        capture_output=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
