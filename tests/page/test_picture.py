"""The camera's picture on the page: fresh or none, at a bounded rate, and only where it is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `page` is not installed")

from page_samples import Page

from edge.page.picture import RATE_HZ, WIDTH_MAX_PX, Picture
from edge.records import Frame

S = 1_000_000_000


def a_frame(at_s: float, *, size_wh: tuple[int, int] = (640, 480), grey: int = 80) -> Frame:
    return Frame(np.full((size_wh[1], size_wh[0], 3), grey, np.uint8), round(at_s * S), 0, "camera")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> int:
        return round(self.now_s * S)


def decode(data: bytes | None) -> Any:
    assert data is not None
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_the_newest_frame_is_shown_and_an_old_one_never() -> None:
    clock = Clock()
    picture = Picture(clock)
    assert picture.read() is None
    picture.put(a_frame(100))
    assert decode(picture.read()).shape == (480, 640, 3)
    clock.now_s = 101.4
    assert picture.read() is not None
    clock.now_s = 101.5
    assert picture.read() is None, "a camera that hangs or is away"


def test_what_was_made_just_before_its_frame_grew_old_is_not_shown_either() -> None:
    clock = Clock()
    picture = Picture(clock)
    picture.put(a_frame(98.6))
    assert picture.read() is not None
    clock.now_s = 100.11
    assert picture.read() is None


def test_pictures_are_made_at_a_bounded_rate_however_many_ask() -> None:
    clock = Clock()
    picture = Picture(clock)
    made = set()
    for _ in range(500):
        clock.now_s += 0.002
        picture.put(a_frame(clock.now_s, grey=round(clock.now_s * 1000) % 256))
        made.add(id(picture.read()))
    assert len(made) <= RATE_HZ + 1


def test_a_large_frame_is_shown_smaller() -> None:
    clock = Clock()
    picture = Picture(clock)
    picture.put(a_frame(100, size_wh=(1920, 1080)))
    assert decode(picture.read()).shape == (540, WIDTH_MAX_PX, 3)


def test_no_picture_leaves_the_machine_unless_it_is_allowed(serve: Callable[..., Page]) -> None:
    status, _, body = serve().ask("/picture.jpg")
    assert (status, json.loads(body)) == (404, {"error": "page.picture is false: no picture leaves this machine"})
    status, headers, body = serve(picture=lambda: b"jpeg").ask("/picture.jpg")
    assert (status, headers["content-type"], headers["cache-control"], body) == (200, "image/jpeg", "no-store", b"jpeg")
    assert serve(picture=lambda: None).ask("/picture.jpg")[0] == 404
