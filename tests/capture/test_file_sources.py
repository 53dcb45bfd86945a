"""Files, folders and synthetic pictures as sources."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.capture import open_source
from edge.capture.base import Source
from edge.config.loader import make_config
from edge.errors import ConfigError, SourceError, SourceNotFoundError, SourcePermissionError
from edge.records import Frame

FPS = 10.0


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.slept_s: list[float] = []

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * 1e9)


def write_video(path: Path, *, frames: int = 10, fourcc: str = "MJPG", size_wh: tuple[int, int] = (96, 64)) -> Path:
    """Frame n is grey of value 20 * n."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), FPS, size_wh)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((size_wh[1], size_wh[0], 3), 20 * number % 256, np.uint8))
    writer.release()
    return path


def open_(source: Any, *, clock: Callable[[], int] = lambda: 0, paced: bool = False, **keys: Any) -> Source:
    camera = {"source": str(source), **{key: keys.pop(key) for key in ("fps", "width", "height") if key in keys}}
    config = make_config({"camera": {**camera, "options": keys.pop("options", {})}}).camera
    return open_source(config, clock=clock, paced=paced, **keys)


def read_all(source: Source, limit: int = 1000) -> list[Frame]:
    frames = []
    while len(frames) < limit and (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def test_a_video_is_read_frame_by_frame_with_media_time(tmp_path: Path) -> None:
    frames = read_all(open_(write_video(tmp_path / "a.avi")))

    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.timestamp_ns for frame in frames] == pytest.approx([n * 100_000_000 for n in range(10)], abs=1000)
    assert [round(float(frame.image.mean()) / 20) for frame in frames] == list(range(10))
    assert {frame.size_wh for frame in frames} == {(96, 64)}
    assert not any(frame.discontinuity for frame in frames)


def test_a_video_read_twice_gives_the_same_frames(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", fourcc="mp4v")
    once, again = read_all(open_(video)), read_all(open_(video))

    assert [frame.timestamp_ns for frame in once] == [frame.timestamp_ns for frame in again]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(once, again, strict=True))


def test_a_video_that_is_read_as_fast_as_possible_never_drops_and_is_not_live(tmp_path: Path) -> None:
    assert not open_(write_video(tmp_path / "a.avi")).live


@pytest.mark.parametrize("how", [{"loop": True}, {"options": {"loop": True}}])
def test_a_looped_video_marks_the_cut_and_its_time_goes_on(tmp_path: Path, how: dict[str, Any]) -> None:
    frames = read_all(open_(write_video(tmp_path / "a.avi", frames=4), **how), limit=10)

    assert [frame.number for frame in frames if frame.discontinuity] == [4, 8]
    assert [frame.timestamp_ns for frame in frames] == pytest.approx([n * 100_000_000 for n in range(10)], abs=1000)


def test_a_paced_video_waits_for_each_frame_and_stamps_it_with_the_clock(tmp_path: Path) -> None:
    clock = FakeClock()
    source = open_(write_video(tmp_path / "a.avi", frames=3), clock=clock, paced=True, sleep=clock.sleep)
    frames = read_all(source)

    assert source.live
    assert [frame.timestamp_ns - 1_000_000_000 for frame in frames] == [0, 100_000_000, 200_000_000]
    assert clock.slept_s == pytest.approx([0.1, 0.1])


def test_a_paced_video_read_too_slowly_plays_slower_and_never_stamps_a_frame_older_than_it_is(tmp_path: Path) -> None:
    clock = FakeClock()
    source = open_(write_video(tmp_path / "a.avi", frames=6), clock=clock, paced=True, sleep=clock.sleep)
    ages_ms = []
    while (frame := source.read()) is not None:
        ages_ms.append((clock() - frame.timestamp_ns) / 1e6)
        clock.now_ns += 350_000_000

    assert max(ages_ms) <= 100


def test_closing_from_another_thread_ends_the_wait_for_a_frame_that_is_far_away() -> None:
    source = open_("synthetic", clock=lambda: 0, paced=True, fps=1)
    assert source.read() is not None
    reader = threading.Thread(target=source.read, daemon=True)
    reader.start()
    source.close()
    reader.join(5)

    assert not reader.is_alive()
    assert source.read() is None


def test_frames_of_varying_distance_keep_their_times(shared_data: Path) -> None:
    stamps = [frame.timestamp_ns for frame in read_all(open_(shared_data / "video/one_person_640x480.mkv"))]
    steps_ms = {round((b - a) / 1e6) for a, b in itertools.pairwise(stamps)}

    assert len(stamps) == 65
    assert steps_ms == {33, 34}


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_a_file_that_is_no_video_is_one_clear_line(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(b"not a video at all " * 100)

    with pytest.raises(SourceError, match="not a video") as caught:
        open_(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_empty_video_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(SourceError, match="empty"):
        open_(tmp_path / "a.mp4")


def test_a_video_without_its_index_says_that_it_may_be_cut_off(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "a.mp4", fourcc="mp4v", frames=30)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])

    with pytest.raises(SourceError, match="cut off"):
        open_(video)
    assert capfd.readouterr() == ("", "")


def test_a_video_that_ends_long_before_it_says_is_damaged_after_its_last_frame(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", frames=50)
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    source = open_(video)
    frames = []

    with pytest.raises(SourceError, match="damaged"):
        frames.extend(iter(source.read, None))
    assert 0 < len(frames) < 50


def test_a_missing_video_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="there is no such file"):
        open_(tmp_path / "a.mp4")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "a.avi")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, whom CI runs as, may read everything
    with pytest.raises(SourcePermissionError, match="may not read"):
        open_(video)


def test_an_unknown_option_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"camera\.options\.lop: unknown key; there are loop"):
        open_(write_video(tmp_path / "a.avi"), options={"lop": True})


def test_a_folder_is_read_in_the_order_of_names_each_picture_a_cut(tmp_path: Path) -> None:
    for name, value in (("b.png", 20), ("a.jpg", 10), ("c.bmp", 30)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), value, np.uint8))
    (tmp_path / ".hidden").write_text("not looked at")
    frames = read_all(open_(tmp_path, fps=5))

    assert [Path(frame.source).name for frame in frames] == ["a.jpg", "b.png", "c.bmp"]
    assert [frame.timestamp_ns for frame in frames] == [0, 200_000_000, 400_000_000]
    assert all(frame.discontinuity for frame in frames)
    assert [round(float(frame.image.mean())) for frame in frames] == [10, 20, 30]


def test_a_file_among_pictures_that_is_none_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "b.jpg").write_text("hello")
    source = open_(tmp_path)
    assert source.read() is not None

    with pytest.raises(SourceError, match=r"b\.jpg: not a picture"):
        source.read()


def test_labels_and_notes_beside_the_pictures_are_passed_over(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "scenes.json").write_text("[]")
    (tmp_path / "README.md").write_text("notes")
    source = open_(tmp_path)
    assert source.read() is not None
    assert source.read() is None


def test_a_picture_cut_off_in_its_header_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(SourceError, match=r"a\.png: not a picture"):
        open_(path).read()


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no picture in this folder"):
        open_(tmp_path)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((6, 9), 100, np.uint8),
        np.full((6, 9, 4), 100, np.uint8),
        np.full((6, 9), 100 * 257, np.uint16),
    ],
    ids=["grey", "alpha", "16 bits"],
)
def test_grey_alpha_and_deep_pictures_become_blue_green_red(tmp_path: Path, pixels: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    frame = open_(tmp_path / "a.png").read()

    assert frame is not None
    assert (frame.image.shape, frame.image.dtype) == ((6, 9, 3), np.uint8)
    assert np.all(frame.image == 100)


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="writing EXIF needs pillow")
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = 255  # left half white
    exif = pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    pillow.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    frame = open_(tmp_path / "a.jpg").read()

    assert frame is not None
    assert frame.size_wh == (40, 80)
    assert frame.image[:30].mean() > 250
    assert frame.image[50:].mean() < 5


def test_synthetic_frames_move_and_are_the_same_for_the_same_seed() -> None:
    def frames(seed: int) -> list[Frame]:
        return read_all(open_("synthetic", options={"seed": seed, "frames": 5}, width=160, height=120, fps=10))

    first, again, other = frames(1), frames(1), frames(2)
    assert len(first) == 5
    assert first[0].size_wh == (160, 120)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].image, other[0].image)
    assert not np.array_equal(first[0].image, first[4].image)
    assert [frame.timestamp_ns for frame in first] == [n * 100_000_000 for n in range(5)]
