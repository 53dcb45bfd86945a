from __future__ import annotations

import hashlib
from importlib.resources import files

import cv2
import numpy as np
import pytest

from edge.capture import open_source
from edge.capture.demo_scene import MIN_VISIBLE_SHARE, Scene
from edge.capture.portraits import Portrait, load_portraits, read_portrait
from edge.config.schema import CameraConfig
from edge.errors import ConfigError

SIZES = [(320, 240), (640, 480), (1280, 720)]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(size_wh=(640, 480), seed=3)


def inside_share(xywh: tuple[float, float, float, float], size_wh: tuple[int, int]) -> bool:
    x, y, w, h = xywh
    return x >= 0 and y >= 0 and x + w <= size_wh[0] + 1e-6 and y + h <= size_wh[1] + 1e-6 and w > 0 and h > 0


def test_every_picture_has_an_origin_and_a_licence_and_nothing_else_lies_there() -> None:
    folder = files("edge.capture.portraits")
    pictures = {entry.name for entry in folder.iterdir() if entry.name.endswith((".jpg", ".jpeg", ".png"))}
    portraits = load_portraits()
    assert {portrait.file for portrait in portraits} == pictures
    for portrait in portraits:
        assert all(getattr(portrait, name) for name in Portrait.__struct_fields__), portrait.file
        assert portrait.licence in {"public domain", "CC0", "MIT", "CC BY 4.0", "CC BY-SA 3.0", "CC BY-SA 4.0"}


def test_pictures_are_the_ones_that_the_origins_speak_of() -> None:
    for portrait in load_portraits():
        data = files("edge.capture.portraits").joinpath(portrait.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == portrait.sha256, portrait.file
        assert len(data) <= 40 * 1024, portrait.file


def test_at_least_four_different_persons_are_shown_and_their_faces_lie_in_the_pictures() -> None:
    portraits = load_portraits()
    assert len({portrait.person for portrait in portraits}) >= 4
    for portrait in portraits:
        height, width = read_portrait(portrait).shape[:2]
        assert inside_share(portrait.face_xywh, (width, height)), portrait.file
        assert 100 <= portrait.face_xywh[3] <= 260, portrait.file


def test_the_notice_names_every_author_of_a_picture() -> None:
    from pathlib import Path

    notice = (Path(__file__).resolve().parents[2] / "NOTICE").read_text(encoding="utf-8")
    for portrait in load_portraits():
        assert portrait.person in notice
        assert portrait.author in notice
        assert portrait.licence in notice


def test_the_same_seed_makes_the_same_frames_in_any_order(scene: Scene) -> None:
    again = Scene(size_wh=(640, 480), seed=3)
    numbers = [0, 7, 150, 40, 999]
    forwards = {number: scene.draw(number) for number in numbers}
    for number in reversed(numbers):
        np.testing.assert_array_equal(again.draw(number), forwards[number])
        assert again.truth(number) == scene.truth(number)


def test_another_seed_makes_another_scene(scene: Scene) -> None:
    other = Scene(size_wh=(640, 480), seed=4)
    assert other.truth(40) != scene.truth(40)
    assert not np.array_equal(other.draw(40), scene.draw(40))


@pytest.mark.parametrize("size_wh", SIZES)
def test_frames_have_the_asked_size_and_truth_lies_inside(size_wh: tuple[int, int]) -> None:
    scene = Scene(size_wh=size_wh)
    for number in range(0, 600, 40):
        assert scene.draw(number).shape == (size_wh[1], size_wh[0], 3)
        assert all(inside_share(face.xywh, size_wh) for face in scene.truth(number))


def test_nobody_is_there_twice_and_there_is_always_somebody(scene: Scene) -> None:
    for number in range(0, 4000, 13):
        persons = [face.person for face in scene.truth(number)]
        assert persons
        assert len(set(persons)) == len(persons)


def test_everybody_appears_and_people_are_replaced(scene: Scene) -> None:
    seen = [face for number in range(0, 1200, 10) for face in scene.truth(number)]
    assert {face.person for face in seen} == {portrait.person for portrait in load_portraits()}
    assert len({face.visit for face in seen}) > 2 * len(load_portraits())


def test_people_move_smoothly(scene: Scene) -> None:
    for number in range(0, 400):
        here = {face.visit: face.xywh for face in scene.truth(number)}
        there = {face.visit: face.xywh for face in scene.truth(number + 1)}
        for visit in here.keys() & there.keys():
            (x, y, w, h), (x2, y2, w2, h2) = here[visit], there[visit]
            assert abs(x + w / 2 - x2 - w2 / 2) < 20
            assert abs(y + h / 2 - y2 - h2 / 2) < 4


def test_people_cross(scene: Scene) -> None:
    """The tracker's tests lean on this: two visits swap their order from left to right while both are seen."""
    order: dict[tuple[int, int], set[bool]] = {}
    for number in range(0, 2000, 5):
        faces = scene.truth(number)
        for one in faces:
            for other in faces:
                if one.visit < other.visit:
                    order.setdefault((one.visit, other.visit), set()).add(one.xywh[0] < other.xywh[0])
    assert any(len(sides) == 2 for sides in order.values())


def test_the_truth_is_where_the_picture_is() -> None:
    """The face cut out of the frame looks like the face cut out of the photograph."""
    scene = Scene(size_wh=(1280, 720), seed=1)
    portraits = {portrait.person: portrait for portrait in load_portraits()}
    compared = 0
    for number in range(0, 300, 20):
        image = scene.draw(number)
        for face in scene.truth(number):
            x, y, w, h = face.xywh
            px, py, pw, ph = portraits[face.person].face_xywh
            if abs(w / h - pw / ph) > 0.01:  # partly outside
                continue
            seen = cv2.resize(image[round(y) : round(y + h), round(x) : round(x + w)], (32, 40))
            photograph = read_portrait(portraits[face.person])
            known = cv2.resize(photograph[int(py) : int(py + ph), int(px) : int(px + pw)], (32, 40))
            likeness = np.corrcoef(seen.ravel().astype(float), known.ravel().astype(float))[0, 1]
            if likeness > 0.95:
                compared += 1
            else:  # up to a quarter of it may be covered by somebody nearer
                assert likeness > 1 - 2.5 * (1 - MIN_VISIBLE_SHARE), (number, face)
    assert compared > 20


def test_the_scene_is_a_source_like_any_other() -> None:
    config = CameraConfig(source="demo", width=320, height=240, fps=20, options={"frames": 3, "seed": 1})
    source = open_source(config, clock=lambda: 0, paced=False)
    frames = [source.read() for _ in range(4)]
    source.close()
    assert [frame.timestamp_ns for frame in frames[:3] if frame] == [0, 50_000_000, 100_000_000]
    assert frames[3] is None
    assert frames[0] is not None
    np.testing.assert_array_equal(frames[0].image, Scene(size_wh=(320, 240), seed=1).draw(0))


def test_a_looped_scene_marks_the_cut() -> None:
    config = CameraConfig(source="demo", width=320, height=240, options={"frames": 2})
    source = open_source(config, clock=lambda: 0, paced=False, loop=True)
    cuts = [frame.discontinuity for frame in (source.read() for _ in range(5)) if frame]
    assert cuts == [False, False, True, False, True]


def test_an_unknown_option_of_the_scene_is_named() -> None:
    config = CameraConfig(source="demo", options={"sed": 1})
    with pytest.raises(ConfigError, match=r"camera\.options\.sed"):
        open_source(config, clock=lambda: 0, paced=False)
