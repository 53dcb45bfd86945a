from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.contract.labels import UNCERTAIN
from edge.pipeline.events import EventMaker
from edge.records import EmotionEvent, EventType, FaceState, Quality, Reason, Track

MS = 1_000_000
WH = (640, 480)
SCORES = np.full(7, 1 / 7, np.float32)


def state(
    id: str = "a",
    emotion: str = "happy",
    *,
    since_ms: int = 0,
    seen_ms: int = 0,
    observed: bool = True,
    x: float = 10,
    reason: Reason | None = None,
) -> FaceState:
    track = Track(id, (x, 20, 60, 80), np.zeros((5, 2), np.float32), 0.9, observed, 0, seen_ms * MS)
    return FaceState(track, SCORES, SCORES, emotion, 0.8, reason, since_ms * MS, 4, Quality(60, 0.1, 0, 0.5))


def maker() -> EventMaker:
    return EventMaker(count(1).__next__)


def told(events: tuple[EmotionEvent, ...]) -> list[tuple[int, str, str]]:
    return [(event.seq, event.type.value, event.face.track.id) for event in events]


def test_a_new_face_appears_with_its_first_emotion() -> None:
    (event,) = maker().update([state()], (), 5 * MS, frame_wh=WH)
    assert (event.type, event.seq, event.face.emotion, event.previous) == (EventType.FACE_APPEARED, 1, "happy", None)
    assert (event.timestamp_ns, event.frame_size_wh, event.reason) == (5 * MS, WH, None)


def test_nothing_is_told_while_nothing_changes() -> None:
    to = maker()
    to.update([state()], (), 0, frame_wh=WH)
    assert to.update([state(x=50)], (), 66 * MS, frame_wh=WH) == ()


def test_a_change_tells_what_was_before_and_for_how_long() -> None:
    to = maker()
    to.update([state(emotion="neutral", since_ms=100)], (), 100 * MS, frame_wh=WH)
    (event,) = to.update([state(emotion="happy", since_ms=740)], (), 740 * MS, frame_wh=WH)
    assert (event.type, event.previous, event.dwell_ms) == (EventType.EMOTION_CHANGED, "neutral", 640)
    assert event.face.evidence_frames == 4


def test_becoming_uncertain_is_a_change_with_its_reason() -> None:
    to = maker()
    to.update([state()], (), 0, frame_wh=WH)
    (event,) = to.update([state(emotion=UNCERTAIN, reason=Reason.TURNED)], (), 66 * MS, frame_wh=WH)
    assert (event.face.emotion, event.reason) == (UNCERTAIN, "turned")


@pytest.mark.parametrize(("after", "told_as"), [("happy", []), ("sad", [("happy", "sad", 900)])])
def test_without_uncertain_a_change_is_from_what_was_told_to_another_emotion(
    after: str, told_as: list[tuple[str, str, float]]
) -> None:
    to = EventMaker(count(1).__next__, uncertain=False)
    to.update([state(since_ms=0)], (), 0, frame_wh=WH)
    assert to.update([state(emotion=UNCERTAIN, since_ms=300, reason=Reason.TURNED)], (), 300 * MS, frame_wh=WH) == ()
    events = to.update([state(emotion=after, since_ms=900)], (), 900 * MS, frame_wh=WH)
    assert [(event.previous, event.face.emotion, event.dwell_ms) for event in events] == told_as
    assert [event.seq for event in events] == [2][: len(told_as)]


def test_without_uncertain_the_first_emotion_of_a_face_that_could_not_be_read_is_told() -> None:
    to = EventMaker(count(1).__next__, uncertain=False)
    to.update([state(emotion=UNCERTAIN, reason=Reason.TURNED)], (), 0, frame_wh=WH)
    (event,) = to.update([state(since_ms=900)], (), 900 * MS, frame_wh=WH)
    assert (event.type, event.previous, event.face.emotion) == (EventType.EMOTION_CHANGED, None, "happy")


def test_who_left_is_told_as_last_seen() -> None:
    to = maker()
    to.update([state(x=10)], (), 0, frame_wh=WH)
    to.update([state(x=30, seen_ms=66)], (), 66 * MS, frame_wh=WH)
    to.update([state(x=400, seen_ms=66, observed=False)], (), 133 * MS, frame_wh=WH)
    (event,) = to.update([], ("a",), 2000 * MS, frame_wh=WH)
    assert (event.type, event.reason, event.dwell_ms) == (EventType.FACE_LEFT, "left", 66)
    assert event.face.track.xywh[0] == 30
    assert event.timestamp_ns == 2000 * MS


def test_who_never_appeared_cannot_leave() -> None:
    assert maker().update([], ("never",), 0, frame_wh=WH) == ()


def test_when_the_camera_is_lost_every_face_leaves_for_that_reason() -> None:
    to = maker()
    to.update([state("a"), state("b")], (), 0, frame_wh=WH)
    events = to.end_all("camera_lost", 66 * MS)
    assert told(events) == [(3, "face_left", "a"), (4, "face_left", "b")]
    assert {event.reason for event in events} == {"camera_lost"}
    assert to.end_all("stopped", 70 * MS) == ()


def test_in_one_frame_leaving_goes_before_coming() -> None:
    to = maker()
    to.update([state("a")], (), 0, frame_wh=WH)
    assert told(to.update([state("b"), state("c")], ("a",), MS, frame_wh=WH)) == [
        (2, "face_left", "a"),
        (3, "face_appeared", "b"),
        (4, "face_appeared", "c"),
    ]


frames = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["happy", "sad", UNCERTAIN]), max_size=4), max_size=20
)


@given(frames)
def test_the_events_alone_tell_who_is_there_with_which_emotion(history: list[dict[str, str]]) -> None:
    to, retired, known = maker(), 0, dict[str, str]()
    names: dict[str, str] = {}
    expected_seq = 1
    for number, present in enumerate(history):
        gone = tuple(names.pop(key) for key in list(names) if key not in present)
        for key in present:
            if key not in names:
                names[key] = f"{key}{retired}"
                retired += 1
        faces = [
            replace(state(names[key], emotion), reason=Reason.LOW_MARGIN if emotion == UNCERTAIN else None)
            for key, emotion in present.items()
        ]
        for event in to.update(faces, gone, number, frame_wh=WH):
            assert event.seq == expected_seq
            expected_seq += 1
            id = event.face.track.id
            if event.type is EventType.FACE_LEFT:
                del known[id]
            elif event.type is EventType.FACE_APPEARED:
                assert id not in known
                known[id] = event.face.emotion
            else:
                assert known[id] == event.previous != event.face.emotion
                known[id] = event.face.emotion
        assert known == {names[key]: emotion for key, emotion in present.items()}
