"""Videos that OpenCV reads wrongly or not to their end: interlaced, damaged, with odd time stamps."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from odd_videos import pictures, write

from edge.capture import open_source
from edge.capture.interlaced import is_flat, is_interlaced, is_suspicious
from edge.capture.opencv import OpencvCapture
from edge.capture.video import MAX_WAIT_NS, is_cut_off
from edge.config.schema import CameraConfig
from edge.errors import SourceError
from edge.records import Frame

pytest.importorskip("av", reason="pip install 'av>=14,<16'")


def read(path: Path, **options: Any) -> list[Frame]:
    source = open_source(CameraConfig(source=str(path)), clock=time.monotonic_ns, paced=False)
    try:
        return list(iter(source.read, None))
    finally:
        source.close()


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("ts", "libx264"), ("mpg", "mpeg2video")])
def test_an_interlaced_video_shows_its_pictures(suffix: str, codec: str, tmp_path: Path) -> None:
    images = pictures(20)
    frames = read(write(tmp_path / f"a.{suffix}", images, codec=codec, interlaced=True))
    assert len(frames) >= 18
    for frame in frames:
        nearest = min(float(np.abs(frame.image.astype(int) - image).mean()) for image in images)
        assert nearest < 6
    assert [frame.number for frame in frames] == list(range(len(frames)))


def test_without_another_decoder_an_interlaced_video_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mp4", pictures(10), interlaced=True)
    if not is_interlaced(str(path)):
        pytest.skip("this OpenCV reads interlaced video")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"interlaced video, which OpenCV \S+ reads as black pictures"):
        read(path)


def test_a_progressive_video_and_a_dark_one_are_not_taken_for_interlaced(tmp_path: Path) -> None:
    bright = write(tmp_path / "a.mp4", pictures(10))
    dark = write(tmp_path / "b.mp4", [np.zeros((240, 320, 3), np.uint8)] * 10)
    for path, suspicious in ((bright, False), (dark, True)):
        capture = OpencvCapture.open(str(path), backend=cv2.CAP_FFMPEG)
        assert capture is not None
        assert is_suspicious(capture) is suspicious
        capture.close()
        assert not is_interlaced(str(path))
    assert [is_flat(frame.image) for frame in read(dark)] == [True] * 10


def test_one_undecodable_frame_is_left_out_and_the_rest_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for image in pictures(20):
        writer.write(image)
    writer.release()
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(rb"00dc....\xff\xd8", data, re.DOTALL)]
    rng = np.random.default_rng(1)
    for bad in (4, 9, 10):
        length = int.from_bytes(data[starts[bad] + 4 : starts[bad] + 8], "little")
        data[starts[bad] + 8 : starts[bad] + 8 + length] = rng.integers(0, 255, length, np.uint8).tobytes()
    path.write_bytes(data)
    frames = read(path)
    assert len(frames) == 17
    assert "3 frames cannot be decoded and were left out" in caplog.text


@pytest.mark.parametrize("first_ms", [0, 5000])
def test_a_whole_file_is_not_called_damaged_for_what_its_container_estimates(first_ms: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", pictures(30), times_ms=[first_ms + 40 * number for number in range(30)])
    assert len(read(path)) == 30
    assert not is_cut_off(path)


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_a_file_that_is_shorter_than_it_says_is_cut_off(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{suffix}", pictures(30), codec="mpeg4")
    assert not is_cut_off(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert is_cut_off(path)


def test_a_jump_of_the_time_stamps_is_not_waited_for(tmp_path: Path) -> None:
    times = [40 * number + (3_600_000 if number > 10 else 0) for number in range(20)]
    path = write(tmp_path / "a.mkv", pictures(20), times_ms=times)
    waited: list[float] = []
    clock = itertools.count(0, 1_000_000).__next__
    config = CameraConfig(source=str(path))
    source = open_source(config, clock=clock, paced=True, sleep=waited.append)
    slept = 0
    while (frame := source.read()) is not None:
        slept += 1
        assert frame is not None
        if sum(waited) > 1e6:
            break
    assert max(waited) * 1e9 <= MAX_WAIT_NS
    assert slept == 20
    kept = [frame.timestamp_ns for frame in read(path)]
    assert kept[11] - kept[10] > 3_500_000_000_000


def test_a_file_whose_name_is_no_utf8_is_read_and_printable(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pictures(5)).rename(tmp_path / "b\udcff.mp4")
    frames = read(path)
    assert len(frames) == 5
    assert frames[0].source.endswith("b\\xff.mp4")
