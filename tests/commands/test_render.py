from __future__ import annotations

import numpy as np
import pytest

from edge.commands.colors import EMOTION_RGB, rgb_of
from edge.commands.render import render
from edge.contract.labels import LABELS, UNCERTAIN
from edge.records import FaceState, Quality, Reason, Track

SIZES = [(320, 240), (640, 480), (1280, 720), (1920, 1080)]


def make_face(
    xywh: tuple[float, float, float, float],
    *,
    emotion: str = "happy",
    reason: Reason | None = None,
    observed: bool = True,
    labels: int = len(LABELS),
) -> FaceState:
    track = Track("k3v9", xywh, np.zeros((5, 2), np.float32), 0.9, observed, 0, 0)
    scores = np.full(labels, 1 / labels, np.float32)
    return FaceState(track, scores, scores, emotion, 0.91, reason, 0, 5, Quality(min(xywh[2:]), 0.1, 0.0, 0.5))


def grey(size_wh: tuple[int, int], value: int = 120) -> np.ndarray:
    return np.full((size_wh[1], size_wh[0], 3), value, np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray((before != after).any(axis=2))


@pytest.mark.parametrize("size_wh", SIZES)
@pytest.mark.parametrize(
    "place",
    [
        (0.4, 0.4, 0.2, 0.3),
        (-0.1, -0.1, 0.2, 0.3),
        (0.9, 0.9, 0.2, 0.3),
        (-0.1, 0.5, 1.2, 0.9),
        (-0.5, -0.5, 2.0, 2.0),
        (0.0, 0.0, 1.0, 1.0),
        (0.5, 0.5, 0.004, 0.004),
    ],
)
def test_a_face_anywhere_is_drawn_without_leaving_the_picture(
    size_wh: tuple[int, int], place: tuple[float, float, float, float]
) -> None:
    """Drawn into the middle of a larger array: what lies around must stay as it was."""
    width, height = size_wh
    around = grey((width + 200, height + 200))
    window = around[100 : 100 + height, 100 : 100 + width]
    xywh = (place[0] * width, place[1] * height, place[2] * width, place[3] * height)
    picture = render(window, [make_face(xywh), make_face(xywh, emotion=UNCERTAIN, reason=Reason.LOW_MARGIN)])
    assert picture.shape == window.shape
    assert picture.dtype == np.uint8
    assert (around == 120).all()
    assert changed(window, picture).any() or min(xywh[2:]) < 2


def test_faces_outside_and_boxes_that_are_none_are_left_out() -> None:
    image = grey((640, 480))
    nan = float("nan")
    for xywh in [(700, 500, 50, 60), (-90, -90, 50, 60), (10, 10, 0, 0), (10, 10, -5, -5), (nan, 0, 10, 10)]:
        np.testing.assert_array_equal(render(image, [make_face(xywh)]), image)


def test_the_frame_itself_is_not_written_to_and_may_be_read_only() -> None:
    image = grey((640, 480))
    image.flags.writeable = False
    picture = render(image, [make_face((200, 150, 100, 120))])
    assert (image == 120).all()
    assert picture.flags.writeable
    np.testing.assert_array_equal(render(image, []), image)


def test_the_face_itself_stays_visible() -> None:
    """Box, label and bars go around the face, not over it, where there is room."""
    image = grey((640, 480))
    picture = render(image, [make_face((200, 150, 120, 150))])
    middle = np.s_[160:290, 210:310]
    assert not changed(image[middle], picture[middle]).any()


def test_a_predicted_face_is_dashed() -> None:
    image = grey((640, 480))
    xywh = (200.0, 150.0, 120.0, 150.0)
    solid = changed(image, render(image, [make_face(xywh)]))
    dashed = changed(image, render(image, [make_face(xywh, observed=False)]))
    left_edge = np.s_[180:280, 200:205]
    assert solid[left_edge].any(axis=1).all()
    covered = dashed[left_edge].any(axis=1).mean()
    assert 0.3 < covered < 0.9


def test_every_emotion_has_its_own_colour_and_it_is_the_box_s() -> None:
    assert set(EMOTION_RGB) == {*LABELS, UNCERTAIN}
    assert len(set(EMOTION_RGB.values())) == len(EMOTION_RGB)
    for emotion in EMOTION_RGB:
        picture = render(grey((640, 480), 10), [make_face((200, 150, 120, 150), emotion=emotion)])
        bgr = np.array(rgb_of(emotion)[::-1])
        assert (np.abs(picture[225, 195:208].astype(int) - bgr).sum(axis=1) < 12).any(), emotion


def test_the_reason_of_an_uncertain_face_is_written() -> None:
    image = grey((640, 480))
    xywh = (200.0, 150.0, 120.0, 150.0)
    pictures = [render(image, [make_face(xywh, emotion=UNCERTAIN, reason=reason)]) for reason in (None, *Reason)]
    assert len({picture.tobytes() for picture in pictures}) == len(Reason) + 1


def test_labels_of_a_user_s_own_model_are_drawn_too() -> None:
    image = grey((640, 480))
    picture = render(image, [make_face((200, 150, 120, 150), emotion="bored", labels=3)])
    assert changed(image, picture).any()


@pytest.mark.parametrize("size_wh", SIZES)
def test_text_is_at_least_twelve_pixels_high(size_wh: tuple[int, int]) -> None:
    """The pill above a small face is legible, whatever the size of the frame."""
    width, height = size_wh
    image = grey(size_wh, 200)
    top = height // 2
    picture = render(image, [make_face((width / 2, top, 20, 24))])
    above = changed(image, picture)[: top - 1].any(axis=1)
    assert above.sum() >= 12
