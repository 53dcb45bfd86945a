"""Followed faces in frames that the detector left out: found again to a fraction of a pixel, or told as lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.capture.portraits import load_portraits, read_portrait
from edge.pipeline.registration import Registration
from edge.records import Frame, Image, Track, Tracks

WH = (640, 480)
BOX = (270.0, 180.0, 90.0, 112.0)


def scene(dx: float = 0.0, dy: float = 0.0, *, light: float = 1.0, person: int = 1) -> Frame:
    """A portrait whose face is in `BOX`, moved."""
    portrait = load_portraits()[person]
    x, y, _, h = portrait.face_xywh
    scale = BOX[3] / h
    matrix = np.array([[scale, 0, BOX[0] + dx - scale * x], [0, scale, BOX[1] + dy - scale * y]])
    image: Image = cv2.warpAffine(read_portrait(portrait), matrix, WH, borderValue=(90, 90, 90))  # type: ignore[assignment]
    noise = np.random.default_rng(5).normal(0, 3, image.shape)
    return Frame(np.clip(image * light + noise, 0, 255).astype(np.uint8), 0, 0, "scene")


def track(xywh: tuple[float, float, float, float] = BOX, *, observed: bool = True, id: str = "a") -> Track:
    landmarks = np.full((5, 2), (xywh[0] + 40, xywh[1] + 50), np.float32)
    return Track(id, xywh, landmarks, 0.9, observed, 0, 0)


def followed(frame: Frame, *, predicted: tuple[float, float, float, float] = BOX) -> Tracks:
    registration = Registration()
    registration.keep(scene(), Tracks((track(),)))
    return registration.follow(frame, Tracks((track(predicted, observed=False),)))


@pytest.mark.parametrize("light", [1.0, 0.5, 1.2])
@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.4, -0.6), (7.5, 4.0), (-21.0, 13.0)])
def test_a_face_that_moved_is_found_where_it_is_in_any_light(dx: float, dy: float, light: float) -> None:
    tracks = followed(scene(dx, dy, light=light))
    (found,) = tracks.active
    assert (found.followed, found.observed, tracks.unsettled) == (True, False, False)
    assert found.xywh == pytest.approx((BOX[0] + dx, BOX[1] + dy, BOX[2], BOX[3]), abs=1.0)
    moved = np.subtract(found.xywh[:2], BOX[:2])
    assert found.landmarks[0] == pytest.approx((BOX[0] + 40 + moved[0], BOX[1] + 50 + moved[1]), abs=0.01)


def test_the_size_that_the_tracker_foresees_is_kept() -> None:
    (found,) = followed(scene(5, 5), predicted=(272, 183, 92, 114)).active
    assert found.xywh[2:] == (92, 114)
    assert found.xywh[:2] == pytest.approx((274, 184), abs=2)


@pytest.mark.parametrize(
    "frame", [scene(person=0), scene(120, 0), Frame(np.full((480, 640, 3), 90, np.uint8), 0, 0, "wall")],
    ids=["somebody else", "too far", "nobody"],
)  # fmt: skip
def test_what_is_not_the_same_any_more_is_not_called_followed_and_the_detector_is_asked(frame: Frame) -> None:
    tracks = followed(frame)
    assert tracks.unsettled
    (lost,) = tracks.active
    assert (lost.followed, lost.xywh) == (False, BOX)


def test_a_face_that_the_detector_missed_is_not_looked_for() -> None:
    registration = Registration()
    registration.keep(scene(), Tracks((track(observed=False),)))
    tracks = registration.follow(scene(), Tracks((track(observed=False),)))
    assert (tracks.active[0].followed, tracks.unsettled) == (False, False)


def test_a_face_over_the_edge_is_followed() -> None:
    out = (-30.0, 180.0, 90.0, 112.0)
    registration = Registration()
    registration.keep(scene(-300), Tracks((track(out),)))
    (found,) = registration.follow(scene(-304), Tracks((track(out, observed=False),))).active
    assert found.followed
    assert found.xywh[0] == pytest.approx(-34, abs=2)
