from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publish_samples import ORIGIN, a_face, a_step, an_event, an_info, moment, some_vitals

from edge.contract.labels import LABELS, NONE, UNCERTAIN
from edge.errors import UsageError
from edge.publish.encode import as_history, dominant_emotion, encode, make_event, make_faces, make_health, make_state
from edge.publish.payloads import BootMark, GapPayload, HistoryEventPayload
from edge.publish.topics import PAYLOADS, VERSIONS, schema_of
from edge.records import EventType, Reason


def check(name: str, data: bytes) -> dict[str, Any]:
    """Validates published bytes against the published schema, by somebody else's validator."""
    schema = schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    payload: dict[str, Any] = json.loads(data)
    jsonschema.Draft202012Validator(schema).validate(payload)
    return payload


@pytest.mark.parametrize("kind", list(EventType))
@pytest.mark.parametrize("face", [a_face(), a_face(emotion=UNCERTAIN, reason=Reason.BLURRED)])
def test_an_event_is_valid_against_its_schema(kind: EventType, face: Any) -> None:
    payload = check("event", encode(make_event(an_event(kind=kind, face=face), origin=ORIGIN, moment=moment())))
    assert payload["type"] == kind.value
    assert payload["schema"] == VERSIONS["event"]


def test_an_event_says_when_it_was_captured_and_how_old_it_is() -> None:
    payload = make_event(an_event(at_s=99.9618), origin=ORIGIN, moment=moment(100.0))
    assert (payload.ts, payload.frame_age_ms, payload.mono_ms) == ("2026-11-21T02:21:39.961Z", 38.2, 99961)
    assert payload.clock_synced


def test_an_event_is_rounded_to_what_its_numbers_are_worth() -> None:
    payload = json.loads(encode(make_event(an_event(), origin=ORIGIN, moment=moment())))
    assert payload["box"] == {"x": 412, "y": -3, "w": 96, "h": 118}
    assert payload["confidence"] == payload["scores"]["happy"] == 0.912
    assert payload["dwell_ms"] == 640
    assert payload["quality"] == {"face_px": 96, "blur": 0.12, "yaw": -0.08, "brightness": 0.47, "cut": 0.0}
    assert list(payload["scores"]) == list(LABELS)
    assert len(json.dumps(payload)) < 800


FIELDS_OF_THE_DESIGN = """
    schema boot_id seq ts frame_age_ms camera type mono_ms clock_synced track emotion previous confidence scores
    dwell_ms evidence_frames reason box frame quality model delegate
"""


def test_an_event_has_the_fields_of_the_design_in_their_order() -> None:
    published = json.loads(encode(make_event(an_event(), origin=ORIGIN, moment=moment())))
    assert list(published) == FIELDS_OF_THE_DESIGN.split()


def test_a_historical_event_is_the_same_event_with_a_mark() -> None:
    event = make_event(an_event(), origin=ORIGIN, moment=moment())
    data = as_history(encode(event))
    payload = check("history", data)
    assert payload.pop("historical") is True
    assert payload == json.loads(encode(event))
    assert encode(HistoryEventPayload(**msgspec.structs.asdict(event), historical=True)) == data


def test_a_gap_is_valid_history() -> None:
    gap = GapPayload(type="gap", boot_id="b00t", from_seq=3, to_seq=9, reason="queue_full")
    assert check("history", encode(gap))["to_seq"] == 9


def test_a_live_event_is_no_history() -> None:
    with pytest.raises(jsonschema.ValidationError):
        check("history", encode(make_event(an_event(), origin=ORIGIN, moment=moment())))


def test_the_state_lists_the_faces_and_is_null_while_the_camera_is_away() -> None:
    faces = (a_face("a"), a_face("b", UNCERTAIN, 0.3, reason=Reason.TURNED))
    state = make_state(faces, timestamp_ns=100 * 10**9, last_seq=17, origin=ORIGIN, moment=moment())
    payload = check("state", encode(state))
    assert [(face["track"], face["emotion"], face["reason"]) for face in payload["faces"]] == [
        ("a", "happy", None),
        ("b", UNCERTAIN, "turned"),
    ]
    assert payload["faces"][0]["since"] == "2026-11-21T02:21:39.500Z"
    away = make_state(None, timestamp_ns=0, last_seq=0, origin=ORIGIN, moment=moment())
    assert check("state", encode(away))["faces"] is None


def test_info_health_and_telemetry_are_valid_against_their_schemas() -> None:
    check("info", encode(an_info()))
    check("info", encode(an_info(previous=BootMark(boot_id="old", last_seq=0))))
    check("faces", encode(make_faces(a_step(), origin=ORIGIN, moment=moment())))
    faces = make_faces(a_step(a_face(), a_face("x", scores=False)), origin=ORIGIN, moment=moment())
    assert [face["scores"] is None for face in check("faces", encode(faces))["faces"]] == [False, True]
    for vitals in (some_vitals(), some_vitals(frame_age=None, temperature_c=None, rss_bytes=None, stages={}, sinks={})):
        check("health", encode(make_health(vitals, last_seq=0, origin=ORIGIN, moment=moment())))


def test_health_tells_how_many_events_wait() -> None:
    health = make_health(some_vitals(), last_seq=5, origin=ORIGIN, moment=moment())
    assert (health.queue_depth, health.fps, health.stages_ms["detect"].p50) == (4, 14.99, 3.14)


@pytest.mark.parametrize("name", list(PAYLOADS))
def test_every_payload_and_every_plain_field_is_described(name: str) -> None:
    for definition in schema_of(name)["$defs"].values():
        assert definition["description"]
        for field, schema in definition["properties"].items():
            assert field == "schema" or "description" in schema or "$ref" in json.dumps(schema), field


def test_an_unknown_schema_is_refused_with_the_valid_names() -> None:
    with pytest.raises(
        UsageError, match=r"'evnt' is unknown; there are info, state, problem, event, history, response"
    ):
        schema_of("evnt")


def test_a_field_that_is_missing_fails_the_schema() -> None:
    payload = json.loads(encode(make_event(an_event(), origin=ORIGIN, moment=moment())))
    for field in payload:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({key: value for key, value in payload.items() if key != field}, schema_of("event"))


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0, 1),
    st.floats(-1e5, 1e5),
    st.floats(0, 1e12),
    st.text(max_size=20),
    st.integers(0, 10**18),
    st.lists(st.floats(0, 1), min_size=7, max_size=7),
)
def test_whatever_a_record_holds_its_payload_is_valid(
    confidence: float, x: float, dwell_ms: float, track: str, at_ns: int, scores: list[float]
) -> None:
    base = a_face()
    face = type(base)(
        track=type(base.track)(track, (x, x, abs(x), abs(x)), base.track.landmarks, confidence, True, 0, 0),
        scores=None,
        smoothed=np.array(scores, np.float32),
        emotion="sad",
        confidence=confidence,
        reason=None,
        since_ns=at_ns,
        evidence_frames=0,
        quality=base.quality,
    )
    event = type(an_event())(EventType.FACE_LEFT, 1, at_ns, face, None, dwell_ms, "left", (640, 480))
    check("event", encode(make_event(event, origin=ORIGIN, moment=moment(at_ns / 1e9 + 1))))


@given(st.integers(-(10**17), 10**18))
def test_wall_time_is_cut_to_milliseconds_never_rounded_into_the_future(at_ns: int) -> None:
    text = moment().utc(at_ns)
    seconds, millis = divmod((at_ns + moment().utc_offset_ns) // 10**6, 1000)
    assert np.datetime64(text.rstrip("Z"), "ms").astype(int) == seconds * 1000 + millis


@pytest.mark.parametrize(
    ("faces", "before", "dominant"),
    [
        ([], "happy", NONE),
        ([(UNCERTAIN, 0.9)], "happy", UNCERTAIN),
        ([("sad", 0.4), (UNCERTAIN, 0.9), (UNCERTAIN, 0.9)], NONE, "sad"),
        ([("sad", 0.4), ("sad", 0.4), ("happy", 0.99)], NONE, "sad"),
        ([("sad", 0.4), ("happy", 0.99)], NONE, "happy"),
        ([("sad", 0.4), ("happy", 0.99)], "sad", "sad"),
        ([("sad", 0.4), ("happy", 0.99)], "angry", "happy"),
        ([("sad", 0.5), ("happy", 0.5)], NONE, "happy"),
    ],
)
def test_the_dominant_emotion_is_the_one_that_most_faces_show(
    faces: list[tuple[str, float]], before: str, dominant: str
) -> None:
    assert dominant_emotion(faces, before=before) == dominant


def test_no_number_in_a_payload_is_not_a_number() -> None:
    data = encode(make_event(an_event(), origin=ORIGIN, moment=moment()))

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [n for v in value.values() for n in numbers(v)]
        return [value] if isinstance(value, float) else []

    assert all(math.isfinite(number) for number in numbers(json.loads(data)))
