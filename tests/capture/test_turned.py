"""A camera that hangs: the picture is turned before anybody sees it, whatever kind the source is."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import free_faces, write_clip

from edge import read_faces
from edge.capture import check_source, open_source
from edge.config.loader import make_config
from edge.config.schema import CameraConfig
from edge.errors import ConfigError


def first(config: CameraConfig) -> np.ndarray:
    source = open_source(config, clock=time.monotonic_ns, paced=False)
    frame = source.read()
    source.close()
    assert frame is not None
    return frame.image


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_pictures_and_videos_are_turned_clockwise_and_then_mirrored(rotate: int, flip: bool, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", seconds=0.2)
    picture = free_faces()[0]
    for path in (clip, picture):
        plain = first(CameraConfig(source=str(path)))
        turned = first(CameraConfig(source=str(path), rotate=rotate, flip=flip))  # type: ignore[arg-type]
        expected = np.rot90(plain, -rotate // 90)
        np.testing.assert_array_equal(turned, expected[:, ::-1] if flip else expected)


def test_a_face_that_hangs_upside_down_is_read_as_it_is(tmp_path: Path) -> None:
    picture = cv2.imread(str(free_faces()[0]))
    cv2.imwrite(str(tmp_path / "hangs.png"), cv2.rotate(picture, cv2.ROTATE_180))
    turned = first(CameraConfig(source=str(tmp_path / "hangs.png"), rotate=180))
    np.testing.assert_array_equal(turned, picture)
    assert read_faces(turned)[0].emotion == read_faces(picture)[0].emotion


def test_the_shape_that_is_asked_for_turns_with_it() -> None:
    assert CameraConfig(width=640, height=480, rotate=90).frame_wh == (480, 640)
    assert CameraConfig(width=640, height=480, rotate=180).frame_wh == (640, 480)


def test_two_ways_of_turning_are_refused() -> None:
    for turn in ({"rotate": 180}, {"flip": True}):
        config = make_config({"camera": {"source": "picamera2:0", "options": {"vflip": True}, **turn}}).camera
        with pytest.raises(ConfigError, match=r"camera\.(rotate|flip): is set, and camera\.options\.vflip as well"):
            check_source(config)
    check_source(make_config({"camera": {"source": "picamera2:0", "options": {"vflip": True}}}).camera)
    with pytest.raises(ConfigError, match=r"camera\.rotate"):
        make_config({"camera": {"rotate": 45}})
