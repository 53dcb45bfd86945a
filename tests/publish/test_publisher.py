from __future__ import annotations

import json
from itertools import pairwise

import pytest
from publish_samples import ORIGIN, S, a_face, a_step, an_event, an_info, moment, some_vitals

from edge.config.schema import PublishConfig
from edge.publish.base import Message
from edge.publish.publisher import Publisher, RateLimit
from edge.records import EventType


def make(**config: object) -> Publisher:
    return Publisher(PublishConfig(**config), origin=ORIGIN, max_frame_age_ms=1000)  # type: ignore[arg-type]


def live(**config: object) -> Publisher:
    """Started long ago, camera live, nothing seen yet."""
    publisher = make(**config)
    publisher.start(an_info(), moment=moment(90))
    publisher.camera("live", moment=moment(95))
    return publisher


def kinds(messages: list[Message]) -> list[str]:
    return [message.kind for message in messages]


def test_the_initial_state_is_complete_and_knows_no_faces() -> None:
    messages = make().start(an_info(), moment=moment())
    assert kinds(messages) == ["info", "camera", "state", "count", "emotion", "counts"]
    assert [message.data for message in messages[1:2] + messages[3:]] == [b"opening", b"unknown", b"unknown", b"null"]
    state = json.loads(messages[2].data)
    assert (state["faces"], state["reason"]) == (None, "opening")


def test_events_come_before_the_state_that_counts_them() -> None:
    messages = live().step(a_step(a_face(), events=[an_event(1), an_event(2)]), moment=moment(100))
    assert kinds(messages) == ["event", "event", "state", "count", "emotion", "counts"]
    state = json.loads(messages[2].data)
    assert state["last_seq"] == 2
    assert [face["track"] for face in state["faces"]] == ["k3v9"]
    assert [message.data for message in messages[3:5]] == [b"1", b"happy"]
    assert json.loads(messages[5].data) == {**dict.fromkeys((*ORIGIN.labels, "uncertain"), 0), "happy": 1}
    assert state["reason"] is None


def test_an_unchanged_state_is_not_published_again() -> None:
    publisher = live()
    publisher.step(a_step(a_face()), moment=moment(100))
    assert publisher.step(a_step(a_face(), at_s=200), moment=moment(200)) == []


def test_a_confidence_that_hardly_moves_is_no_change() -> None:
    publisher = live()
    publisher.step(a_step(a_face(confidence=0.80)), moment=moment(100))
    assert publisher.step(a_step(a_face(confidence=0.84)), moment=moment(110)) == []
    assert kinds(publisher.step(a_step(a_face(confidence=0.86)), moment=moment(120))) == ["state"]


def test_the_state_is_published_at_most_state_hz_times_a_second() -> None:
    publisher = live(state_hz=2)
    times: list[float] = []
    for i in range(100):
        at_s = 100 + i * 0.05
        faces = [a_face(str(k)) for k in range(i % 3)]
        if "state" in kinds(publisher.step(a_step(*faces, at_s=at_s), moment=moment(at_s))):
            times.append(at_s)
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.499
    assert len(times) >= 9


def test_a_change_that_came_too_early_is_published_when_it_is_due() -> None:
    publisher = live(state_hz=2)
    assert "state" in kinds(publisher.step(a_step(a_face("a"), at_s=110), moment=moment(110)))
    assert publisher.step(a_step(a_face("b"), at_s=110.1), moment=moment(110.1)) == []
    assert publisher.tick(moment=moment(110.49)) == []
    late = publisher.tick(moment=moment(110.5))
    assert kinds(late) == ["state"]
    assert json.loads(late[0].data)["faces"][0]["track"] == "b"


def test_while_the_camera_is_away_faces_are_null_and_every_track_has_ended() -> None:
    publisher = live()
    publisher.step(a_step(a_face(), events=[an_event(1)]), moment=moment(100))
    left = an_event(2, at_s=97, kind=EventType.FACE_LEFT)
    messages = publisher.camera("lost", moment=moment(102), events=[left])
    assert kinds(messages) == ["event", "camera", "state", "count", "emotion", "counts"]
    state = json.loads(messages[2].data)
    assert (state["faces"], state["reason"], state["last_seq"]) == (None, "lost", 2)
    assert [message.data for message in messages[3:]] == [b"unknown", b"unknown", b"null"]


def test_nobody_is_told_as_nobody_only_while_the_camera_is_live() -> None:
    publisher = live()
    messages = publisher.step(a_step(), moment=moment(100))
    assert {message.kind: message.data for message in messages if message.kind in ("count", "emotion")} == {
        "count": b"0",
        "emotion": b"none",
    }
    for at_s, state in ((200, "stale"), (300, "lost"), (400, "paused")):
        publisher.camera("live", moment=moment(at_s - 50))
        publisher.step(a_step(at_s=at_s - 40), moment=moment(at_s - 40))
        told = {message.kind: message.data for message in publisher.camera(state, moment=moment(at_s))}
        assert (told["count"], told["emotion"], told["counts"]) == (b"unknown", b"unknown", b"null")
        assert json.loads(told["state"])["reason"] == state


def test_active_says_whether_the_camera_is_watched_where_that_can_be_changed() -> None:
    assert "active" not in kinds(make().start(an_info(), moment=moment()))
    publisher = Publisher(PublishConfig(), origin=ORIGIN, max_frame_age_ms=1000, can_pause=True)
    told = [publisher.start(an_info(), moment=moment())]
    told += [publisher.camera(state, moment=moment(100)) for state in ("live", "lost", "paused", "opening", "live")]
    assert [message.data for messages in told for message in messages if message.kind == "active"] == [
        b"ON",
        b"OFF",
        b"ON",
    ]


def test_a_stale_camera_shows_no_faces_although_the_tracks_go_on() -> None:
    publisher = live()
    publisher.step(a_step(a_face()), moment=moment(100))
    messages = publisher.camera("stale", moment=moment(102))
    assert json.loads(messages[1].data)["faces"] is None
    publisher.camera("live", moment=moment(104))
    again = publisher.step(a_step(a_face(), at_s=104), moment=moment(104))
    assert len(json.loads(again[0].data)["faces"]) == 1


def test_a_camera_state_that_did_not_change_is_not_told_again() -> None:
    publisher = live()
    assert "camera" not in kinds(publisher.camera("live", moment=moment(96)))


def test_an_event_is_live_as_long_as_its_frame_may_be_shown() -> None:
    (event, *_) = live().step(a_step(a_face(), events=[an_event(1, at_s=99.5)]), moment=moment(100))
    assert event.live_until_ns == 100.5 * S


def test_an_event_that_no_frame_made_is_live_from_now_on() -> None:
    (event, *_) = live().camera("lost", moment=moment(102), events=[an_event(1, at_s=97)])
    assert event.live_until_ns == 103 * S


def test_the_last_words_hold_the_last_seq_whatever_the_rate() -> None:
    publisher = live()
    publisher.step(a_step(a_face(), events=[an_event(1)]), moment=moment(100))
    messages = publisher.stop(moment=moment(100.001), events=[an_event(2, kind=EventType.FACE_LEFT)])
    assert kinds(messages) == ["event", "state", "count", "emotion", "counts"]
    state = json.loads(messages[1].data)
    assert (state["last_seq"], state["reason"]) == (2, "stopped")
    assert [message.data for message in messages[2:]] == [b"unknown", b"unknown", b"null"]


@pytest.mark.parametrize(("faces_hz", "fps", "expected"), [(0, 15, 0), (5, 15, 50), (15, 15, 150), (30, 15, 150)])
def test_telemetry_is_bounded_in_rate(faces_hz: float, fps: float, expected: int) -> None:
    publisher = live(faces_hz=faces_hz)
    jitter = [0.0, 0.011, -0.009, 0.004]
    count = 0
    for i in range(10 * int(fps)):
        at_s = 100 + i / fps + jitter[i % 4]
        count += "faces" in kinds(publisher.step(a_step(a_face(), at_s=at_s), moment=moment(at_s)))
    assert abs(count - expected) <= 1


def test_health_is_due_at_once_and_then_every_health_s() -> None:
    publisher = live(health_s=30)
    assert publisher.is_health_due(moment=moment(100))
    (report,) = publisher.health(some_vitals(), moment=moment(100))
    assert report.kind == "health"
    assert not publisher.is_health_due(moment=moment(129.9))
    assert publisher.is_health_due(moment=moment(130))


def test_a_rate_limit_does_not_save_up() -> None:
    rate = RateLimit(1)
    rate.note(0)
    assert rate.allows(100 * S)
    rate.note(100 * S)
    assert not rate.allows(100 * S + S - 1)
