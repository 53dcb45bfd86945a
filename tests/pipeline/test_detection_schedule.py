from __future__ import annotations

import numpy as np
import pytest

from edge.config.schema import DetectConfig
from edge.pipeline.detection_schedule import DetectionSchedule, make_thumbnail
from edge.records import Frame, Image, Track, Tracks

MS = 1_000_000
FACE = Track("abcd", (300, 200, 60, 80), np.zeros((5, 2), np.float32), 0.9, True, 0, 0)
STEADY = Tracks((FACE,))


def room(seed: int = 0, noise: float = 3.0) -> Image:
    coarse = np.random.default_rng(1).integers(60, 190, (12, 16, 3), np.uint8)
    picture = np.kron(coarse, np.ones((40, 40, 1), np.uint8)).astype(np.float32)
    return np.clip(picture + np.random.default_rng(seed).normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def at(ms: float, image: Image | None = None, *, discontinuity: bool = False) -> Frame:
    return Frame(room(round(ms)) if image is None else image, round(ms * MS), 0, "room", discontinuity)


def adaptive(max_rest_ms: float) -> DetectionSchedule:
    return DetectionSchedule(DetectConfig(schedule="adaptive", max_rest_ms=max_rest_ms))


def ran(schedule: DetectionSchedule, times_ms: list[float], tracks: Tracks = STEADY) -> list[float]:
    """The times at which the detector ran."""
    out = []
    for ms in times_ms:
        if schedule.is_due(at(ms)):
            out.append(ms)
        schedule.observe(tracks)
    return out


def with_patch(x: int, y: int, side: int = 80) -> Image:
    image = room(7)
    image[y : y + side, x : x + side] = 250 - image[y : y + side, x : x + side] // 2
    return image


def test_where_it_is_asked_for_every_frame_is_looked_at() -> None:
    assert ran(DetectionSchedule(DetectConfig(schedule="every_frame")), [0, 66, 133]) == [0, 66, 133]


def test_in_a_still_room_with_steady_faces_it_rests_but_never_longer_than_allowed() -> None:
    times = ran(adaptive(200), [n * 1000 / 30 for n in range(120)])
    assert max(np.diff(times)) < 200.1
    assert len(times) < 30


def test_with_slow_frames_the_bound_holds_because_the_next_frame_is_foreseen() -> None:
    assert np.diff(ran(adaptive(200), [n * 150 for n in range(20)])).tolist() == [150] * 19


@pytest.mark.parametrize("tracks", [Tracks((FACE,), (), True), Tracks((), (), True)])
def test_while_a_face_is_new_or_missed_every_frame_is_looked_at(tracks: Tracks) -> None:
    assert len(ran(adaptive(1000), [n * 66 for n in range(10)], tracks)) == 10


def test_another_light_or_view_wakes_it_at_once_and_something_small_waits_for_the_next_look() -> None:
    schedule = adaptive(1000)
    assert ran(schedule, [0, 66, 133]) == [0]
    assert not schedule.is_due(at(200, with_patch(40, 40)))
    assert schedule.is_due(at(266, room(7) // 2))


@pytest.mark.parametrize(("x", "y"), [(0, 200), (540, 60), (100, 0)])
def test_whoever_comes_in_at_an_edge_wakes_it_at_once(x: int, y: int) -> None:
    schedule = adaptive(1000)
    ran(schedule, [0, 66, 133])
    image = room(7)
    image[y : y + 100, x : x + 100] = 0
    assert schedule.is_due(at(200, image))


def test_motion_of_a_known_face_does_not_wake_it() -> None:
    schedule = adaptive(1000)
    ran(schedule, [0, 66, 133])
    assert not schedule.is_due(at(200, with_patch(240, 160, side=240)))  # from hair to feet


def test_a_face_at_the_edge_or_outside_hides_nothing_else() -> None:
    outside = Track("abcd", (-400, -300, 60, 80), FACE.landmarks, 0.9, False, 0, 0)
    schedule = adaptive(1000)
    ran(schedule, [0, 66, 133], Tracks((outside,)))
    assert schedule.is_due(at(200, with_patch(380, 180, side=260)))


def test_a_cut_and_a_reset_wake_it() -> None:
    schedule = adaptive(1000)
    ran(schedule, [0, 66])
    assert schedule.is_due(at(133, discontinuity=True))
    schedule.observe(STEADY)
    schedule.reset()
    assert schedule.is_due(at(200))


def test_the_thumbnail_is_small_and_takes_the_low_resolution_picture_where_there_is_one() -> None:
    image, lores = np.zeros((480, 640, 3), np.uint8), np.full((240, 320, 3), 200, np.uint8)
    assert make_thumbnail(Frame(image, 0, 0, "room")).shape == (24, 32)
    assert make_thumbnail(Frame(image, 0, 0, "room", lores=lores)).mean() == 200
