"""Photographs that move over a background, found by the shipped detector and followed: identities are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from track_scenes import FRAME_WH, Look, Outcome, Person, follow, height_px, make_tracker, steady, walk

from edge.bundles.locate import find_bundle
from edge.config.schema import DetectConfig
from edge.contract.bundle import load_detect_bundle
from edge.detect import open_detector
from edge.detect.base import FaceDetector
from edge.infer import load_model
from edge.records import Faces, Frame, Image

PICTURES = Path(__file__).resolve().parents[2] / "convert" / "pictures"
CROP_OVER_FACE = 1.16
"""Height of the pictures in heights of the face in them."""


@pytest.fixture(scope="module")
def detector() -> Iterator[FaceDetector]:
    bundle = load_detect_bundle(find_bundle("yunet-640x480"))
    opened = open_detector(DetectConfig(), score=0.4, manifest=bundle.manifest, network=load_model(bundle).interpreter)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def portraits() -> list[Image]:
    """Two persons, and the same two in a mirror under another light: four that differ."""
    two = [cv2.imread(str(PICTURES / f"{name}_face.png")) for name in ("collins", "hopper")]
    return [*two, *(cv2.convertScaleAbs(picture[:, ::-1], alpha=0.8, beta=10) for picture in two)]


def backdrop() -> Image:
    rng = np.random.default_rng(2)
    coarse = rng.integers(60, 190, (5, 8, 3), np.uint8)
    return cv2.resize(coarse, FRAME_WH, interpolation=cv2.INTER_CUBIC)


def paste(image: Image, portrait: Image, centre: tuple[float, float], side: int) -> None:
    """Pastes a picture with a soft oval edge, clipped at the frame's."""
    x, y = round(centre[0] - side / 2), round(centre[1] - side / 2)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, FRAME_WH[0]), min(y + side, FRAME_WH[1])
    if x0 >= x1 or y0 >= y1:
        return
    mask = np.zeros((side, side), np.float32)
    cv2.ellipse(mask, (side // 2, side // 2), (round(side * 0.45), round(side * 0.49)), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), side * 0.02)[y0 - y : y1 - y, x0 - x : x1 - x, None]
    crop = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_LINEAR)[y0 - y : y1 - y, x0 - x : x1 - x]
    image[y0:y1, x0:x1] = crop * mask + image[y0:y1, x0:x1] * (1 - mask)


def looking(
    detector: FaceDetector, portraits: list[Image], people: Sequence[Person], *, pillar: slice | None = None
) -> Look:
    """Draws the scene at a time, the farthest first, with sensor noise, and runs the detector on it."""
    empty, rng = backdrop(), np.random.default_rng(9)

    def look(t: float) -> tuple[Faces, list[int]]:
        image = empty.copy()
        there = {}
        for index in sorted(range(len(people)), key=lambda i: -people[i].depth):
            place = people[index].place(t)
            if place is not None:
                there[index] = place
                side = round(height_px(people[index].size_px(t)) * CROP_OVER_FACE)
                paste(image, portraits[index], place, side)
        if pillar is not None:
            image[:, pillar] = empty[:, pillar]
        noise = rng.integers(0, 8, image.shape, np.uint8)
        faces = detector.detect(Frame(cv2.add(image, noise), round(t * 1e9), 0, "composed"))
        return faces, [whose(box, there, people) for box in faces.xywh.tolist()]

    return look


def whose(box: list[float], there: dict[int, tuple[float, float]], people: Sequence[Person]) -> int:
    """The nearest person; of those at nearly the same place the one in front."""
    x, y, w, h = box
    away = {i: max(np.hypot(x + w / 2 - cx, y + h / 2 - cy) / np.sqrt(w * h), 0.25) for i, (cx, cy) in there.items()}
    return min(away, key=lambda i: (away[i], people[i].depth))


def assert_kept_apart(outcome: Outcome, people: int) -> None:
    assert all(len(row) > 10 for row in outcome.ids)
    assert outcome.switches == 0
    assert len({row[0][1] for row in outcome.ids}) == len(outcome.shown) == people


def test_two_people_who_cross_keep_their_ids(detector: FaceDetector, portraits: list[Image]) -> None:
    people = [
        Person(walk((0, 140, 230), (3, 500, 230)), steady(100), depth=0),
        Person(walk((0, 500, 240), (3, 140, 240)), steady(85), depth=1),
    ]
    assert_kept_apart(follow(people, seconds=3, look=looking(detector, portraits, people)), 2)


def test_somebody_who_passes_behind_a_sitting_person_takes_no_id(
    detector: FaceDetector, portraits: list[Image]
) -> None:
    people = [
        Person(walk((0, 320, 240), (4, 320, 240)), steady(110), depth=0),
        Person(walk((0, 80, 225), (4, 560, 225)), steady(80), depth=1),
    ]
    assert_kept_apart(follow(people, seconds=4, look=looking(detector, portraits, people)), 2)


def test_two_people_who_swap_places_in_less_than_a_second_keep_their_ids(
    detector: FaceDetector, portraits: list[Image]
) -> None:
    people = [
        Person(walk((0, 230, 240), (1, 230, 240), (1.7, 410, 240), (2.7, 410, 240)), steady(90), depth=0),
        Person(walk((0, 410, 250), (1, 410, 250), (1.7, 230, 250), (2.7, 230, 250)), steady(85), depth=1),
    ]
    assert_kept_apart(follow(people, seconds=2.7, look=looking(detector, portraits, people)), 2)


def test_a_face_behind_a_pillar_for_a_second_comes_back_with_its_id(
    detector: FaceDetector, portraits: list[Image]
) -> None:
    people = [
        Person(walk((0, 120, 200), (4, 540, 200)), steady(80)),
        Person(walk((0, 100, 390), (4, 100, 390)), steady(80)),
    ]
    look = looking(detector, portraits, people, pillar=slice(260, 380))
    outcome = follow(people, seconds=4, look=look)
    times = [t for t, _ in outcome.ids[0]]
    assert max(np.diff(times)) > 0.8
    assert_kept_apart(outcome, 2)


def test_who_walks_out_ends_soon_and_is_somebody_new_when_coming_back(
    detector: FaceDetector, portraits: list[Image]
) -> None:
    def place(t: float) -> tuple[float, float] | None:
        return (500 + 150 * t, 240) if t < 1.4 else (710 - 150 * (t - 3), 240) if t > 3 else None

    people = [Person(place, steady(90)), Person(walk((0, 200, 240), (5, 200, 240)), steady(90))]
    outcome = follow(people, seconds=4.5, look=looking(detector, portraits, people))
    first, _ = outcome.ids_of(0)
    (ended,) = [t for t, id in outcome.ended if id == first]
    last_seen = max(t for t, id in outcome.ids[0] if id == first)
    assert ended - last_seen < 0.5
    assert len(outcome.ids_of(1)) == 1


def test_a_face_that_comes_near_and_three_that_stay_are_four(detector: FaceDetector, portraits: list[Image]) -> None:
    people = [
        Person(walk((0, 320, 200), (3, 330, 240)), lambda t: 25 * 8 ** (t / 3)),
        Person(walk((0, 90, 100), (3, 90, 100)), steady(60)),
        Person(walk((0, 90, 380), (3, 110, 380)), steady(60)),
        Person(walk((0, 560, 380), (3, 560, 380)), steady(60)),
    ]
    assert_kept_apart(follow(people, seconds=3, fps=10, look=looking(detector, portraits, people)), 4)


@pytest.mark.data
@pytest.mark.parametrize(
    ("clip", "people"),
    [("four_people.mp4", 4), ("two_people.mp4", 2), ("two_walking.mp4", 2), ("one_person_640x480.mkv", 1)],
)
def test_on_real_clips_everybody_keeps_one_id(
    detector: FaceDetector, shared_data: Path, clip: str, people: int
) -> None:
    capture = cv2.VideoCapture(str(shared_data / "video" / clip))
    interval_ns = round(1e9 / capture.get(cv2.CAP_PROP_FPS))
    outcome, frames = {}, 0
    tracker = make_tracker()
    while True:
        found, image = capture.read()
        if not found:
            break
        faces = detector.detect(Frame(image, frames * interval_ns, frames, clip))
        tracks = tracker.update(faces, frames * interval_ns, frame_wh=(image.shape[1], image.shape[0]))
        for track in tracks.active:
            outcome[track.id] = outcome.get(track.id, 0) + 1
        frames += 1
    assert len(outcome) == people
    assert all(count > 0.9 * frames for count in outcome.values())
