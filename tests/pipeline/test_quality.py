from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.pipeline.quality import measure_quality, outside_share, yaw_of
from edge.records import Image, Track

FRONTAL = np.array([(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)], np.float32)


def track(xywh: tuple[float, float, float, float] = (0, 0, 100, 120)) -> Track:
    return Track("abcd", xywh, FRONTAL, 0.9, True, 0, 0)


def textured(side_px: int = 192) -> Image:
    """A picture with a face's spectrum: power falls with the square of the frequency."""
    rng = np.random.default_rng(4)
    spectrum = np.fft.rfft2(rng.normal(size=(side_px, side_px)))
    fy, fx = np.fft.fftfreq(side_px)[:, None], np.fft.rfftfreq(side_px)[None]
    spectrum /= np.maximum(np.hypot(fx, fy), 1 / side_px) ** 1.2
    picture = np.fft.irfft2(spectrum)
    return np.clip(128 + 45 * picture / picture.std(), 0, 255).astype(np.uint8)


def blur_of(picture: Image) -> float:
    return measure_quality(track(), picture, frame_wh=(640, 480)).blur


def test_blur_grows_with_the_width_of_the_blur() -> None:
    sharp = textured()
    blurs = [blur_of(sharp)] + [blur_of(cv2.GaussianBlur(sharp, (0, 0), sigma)) for sigma in (4, 8, 16, 32)]
    assert blurs == sorted(blurs)
    assert blurs[0] < 0.3
    assert blurs[-1] > 0.9


def test_blur_depends_neither_on_resolution_nor_on_contrast_nor_on_brightness() -> None:
    picture = cv2.GaussianBlur(textured(), (0, 0), 4)
    small = cv2.resize(picture, (48, 48), interpolation=cv2.INTER_AREA)
    pale = (picture * 0.4 + 100).astype(np.uint8)
    assert blur_of(small) == pytest.approx(blur_of(picture), abs=0.08)
    assert blur_of(pale) == pytest.approx(blur_of(picture), abs=0.05)


def test_nothing_to_see_is_wholly_blurred() -> None:
    assert blur_of(np.full((64, 64), 90, np.uint8)) == 1.0


def test_brightness_is_the_mean_grey() -> None:
    assert measure_quality(track(), np.full((64, 64), 51, np.uint8), frame_wh=(640, 480)).brightness == pytest.approx(
        0.2
    )
    assert measure_quality(
        track(), np.full((64, 64, 3), 255, np.uint8), frame_wh=(640, 480)
    ).brightness == pytest.approx(1.0)


def test_the_size_is_the_shorter_side() -> None:
    assert measure_quality(track((5, 5, 80, 100)), textured(), frame_wh=(640, 480)).face_px == 80


def test_yaw_is_zero_from_the_front_and_has_the_sign_of_where_the_nose_points() -> None:
    assert yaw_of(FRONTAL) == pytest.approx(0)
    right = FRONTAL.copy()
    right[2] = (60, 60)
    assert yaw_of(right) == pytest.approx(0.5)
    left = FRONTAL.copy()
    left[2] = (20, 60)
    assert yaw_of(left) == -1


@given(st.floats(-60, 60), st.floats(0.2, 20), st.floats(-0.9, 0.9))
def test_a_tilted_or_larger_head_is_not_a_turned_one(angle: float, scale: float, yaw: float) -> None:
    points = FRONTAL.copy()
    points[2, 0] += yaw * 20
    turned = np.deg2rad(angle)
    rotation = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    assert yaw_of((points @ rotation.T * scale + 300).astype(np.float32)) == pytest.approx(yaw, abs=0.02)


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-1000, 3000, width=32)))
def test_yaw_is_in_its_range_whatever_the_landmarks(landmarks: np.ndarray) -> None:
    assert -1 <= yaw_of(landmarks) <= 1


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_quality_is_in_its_range_whatever_the_picture(picture: Image) -> None:
    quality = measure_quality(track(), picture, frame_wh=(640, 480))
    assert 0 <= quality.blur <= 1
    assert 0 <= quality.brightness <= 1


@pytest.mark.parametrize(
    ("xywh", "share"),
    [
        ((100, 100, 80, 100), 0.0),
        ((600, 100, 80, 100), 0.5),
        ((-20, 100, 80, 100), 0.25),
        ((100, 440, 80, 100), 0.6),
        ((100, -25, 80, 100), 0.25),
        ((600, 430, 80, 100), 0.75),
        ((700, 100, 80, 100), 1.0),
        ((0, 0, 640, 480), 0.0),
    ],
)
def test_cut_is_the_share_of_the_box_beyond_the_edges(xywh: tuple[float, float, float, float], share: float) -> None:
    assert outside_share(xywh, (640, 480)) == pytest.approx(share)
