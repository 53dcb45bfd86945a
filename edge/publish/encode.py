"""From records to payloads and their bytes: pure functions.

Numbers are rounded to what they are worth: scores to 0.001, pixels and milliseconds of dwell to 1, ages to 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

import msgspec

from edge.contract.labels import NONE, UNCERTAIN
from edge.publish.payloads import (
    Box,
    EventPayload,
    Extent,
    FacesPayload,
    HealthPayload,
    Latency,
    Payload,
    QualityPart,
    SinkPart,
    StateFace,
    StatePayload,
    TelemetryFace,
)
from edge.records import EmotionEvent, FaceState, Floats, Step
from edge.system.metrics import Percentiles

_encoder = msgspec.json.Encoder()
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def encode(payload: Payload) -> bytes:
    """A payload as compact JSON in UTF-8, the fields in the struct's order."""
    return _encoder.encode(payload)


def as_history(event: bytes) -> bytes:
    """The bytes of an event with ``"historical": true`` at the end; all else stays as it was published or stored."""
    return event[:-1] + b',"historical":true}'


@dataclass(frozen=True, slots=True)
class Moment:
    """The present as the daemon reads it once and hands it down; see `edge.publish.time_context`.

    Attributes:
        now_ns: monotonic clock.
        utc_offset_ns: what to add to the monotonic clock for nanoseconds since 1970, UTC.
        clock_synced: whether the system clock is synchronized.
    """

    now_ns: int
    utc_offset_ns: int
    clock_synced: bool

    def utc(self, timestamp_ns: int) -> str:
        """A monotonic timestamp as UTC text with milliseconds, ``2026-11-21T02:20:00.123Z``."""
        at = _EPOCH + timedelta(milliseconds=(timestamp_ns + self.utc_offset_ns) // 1_000_000)
        return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"

    def age_ms(self, timestamp_ns: int) -> float:
        """How long ago a monotonic timestamp is, milliseconds rounded to 0.1."""
        return round((self.now_ns - timestamp_ns) / 1e6, 1)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who speaks.

    Attributes:
        boot_id: random for each start.
        camera: the camera's name.
        labels: of the emotion model, in its order.
        model: its ``name@version``.
        delegate: what runs it.
    """

    boot_id: str
    camera: str
    labels: tuple[str, ...]
    model: str
    delegate: str


def make_event(event: EmotionEvent, *, origin: Origin, moment: Moment) -> EventPayload:
    """The payload of an event."""
    face = event.face
    width, height = event.frame_size_wh
    return EventPayload(
        boot_id=origin.boot_id,
        seq=event.seq,
        ts=moment.utc(event.timestamp_ns),
        frame_age_ms=moment.age_ms(event.timestamp_ns),
        camera=origin.camera,
        type=event.type.value,
        mono_ms=event.timestamp_ns // 1_000_000,
        clock_synced=moment.clock_synced,
        track=face.track.id,
        emotion=face.emotion,
        previous=event.previous,
        confidence=_share(face.confidence),
        scores=_scores(face.smoothed, origin.labels),
        dwell_ms=max(0, round(event.dwell_ms)),
        evidence_frames=face.evidence_frames,
        reason=event.reason,
        box=_box(face),
        frame=Extent(w=width, h=height),
        quality=_quality(face),
        model=origin.model,
        delegate=origin.delegate,
    )


def make_state(
    faces: Sequence[FaceState] | None,
    *,
    timestamp_ns: int,
    last_seq: int,
    origin: Origin,
    moment: Moment,
    reason: str | None = None,
) -> StatePayload:
    """The payload of the present state.

    Args:
        faces: all faces; None while the camera is away.
        timestamp_ns: capture of the frame that showed them; now while the camera is away.
        last_seq: of the newest event, 0 when there was none.
        origin: who speaks.
        moment: the present.
        reason: why no faces are known.
    """
    return StatePayload(
        boot_id=origin.boot_id,
        last_seq=last_seq,
        ts=moment.utc(timestamp_ns),
        mono_ms=timestamp_ns // 1_000_000,
        clock_synced=moment.clock_synced,
        camera=origin.camera,
        faces=None if faces is None else [_state_face(face, moment) for face in faces],
        reason=None if faces is not None else reason,
    )


def make_faces(step: Step, *, origin: Origin, moment: Moment) -> FacesPayload:
    """The payload of one frame's telemetry."""
    frame = step.frame
    width, height = frame.size_wh
    return FacesPayload(
        boot_id=origin.boot_id,
        ts=moment.utc(frame.timestamp_ns),
        mono_ms=frame.timestamp_ns // 1_000_000,
        clock_synced=moment.clock_synced,
        frame_age_ms=moment.age_ms(frame.timestamp_ns),
        camera=origin.camera,
        number=frame.number,
        detected=step.detected,
        frame=Extent(w=width, h=height),
        faces=[_telemetry_face(face, origin.labels) for face in step.faces],
    )


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the daemon measured for a health report; the fields are those of `HealthPayload`."""

    uptime_s: float
    fps: float
    frame_age: Percentiles | None
    stages: Mapping[str, Percentiles]
    drops: int
    reconnects: int
    counts: Mapping[str, int]
    sinks: Mapping[str, tuple[str, Mapping[str, int]]]
    temperature_c: float | None
    rss_bytes: int | None
    degraded: Literal["thermal", "load"] | None = None


def make_health(vitals: Vitals, *, last_seq: int, origin: Origin, moment: Moment) -> HealthPayload:
    """The payload of a health report."""
    return HealthPayload(
        boot_id=origin.boot_id,
        last_seq=last_seq,
        ts=moment.utc(moment.now_ns),
        mono_ms=moment.now_ns // 1_000_000,
        clock_synced=moment.clock_synced,
        camera=origin.camera,
        uptime_s=round(vitals.uptime_s, 1),
        fps=round(vitals.fps, 2),
        frame_age_ms=None if vitals.frame_age is None else _latency(vitals.frame_age),
        stages_ms={stage: _latency(percentiles) for stage, percentiles in vitals.stages.items()},
        drops=vitals.drops,
        reconnects=vitals.reconnects,
        queue_depth=sum(counts.get("queued", 0) for _, counts in vitals.sinks.values()),
        counts=dict(vitals.counts),
        sinks={name: SinkPart(status=status, counts=dict(counts)) for name, (status, counts) in vitals.sinks.items()},
        temperature_c=None if vitals.temperature_c is None else round(vitals.temperature_c, 1),
        rss_bytes=vitals.rss_bytes,
        degraded=vitals.degraded,
    )


def dominant_emotion(faces: Sequence[tuple[str, float]], *, before: str = NONE) -> str:
    """The one emotion told to simple subscribers when there may be several faces.

    The emotion that most faces show. At a tie the one told before stays if it is among them, else the one with the
    larger sum of confidence, else the alphabetically first. A face that is ``uncertain`` has no vote unless all are.

    Args:
        faces: emotion and confidence of every face.
        before: what was told last.

    Returns:
        A label, ``uncertain`` when no face can be read, ``none`` without a face.
    """
    votes: dict[str, tuple[int, float]] = {}
    for emotion, confidence in faces:
        if emotion != UNCERTAIN:
            count, total = votes.get(emotion, (0, 0.0))
            votes[emotion] = count + 1, total + confidence
    if not votes:
        return UNCERTAIN if faces else NONE
    most = max(count for count, _ in votes.values())
    tied = {emotion: total for emotion, (count, total) in votes.items() if count == most}
    return before if before in tied else min(tied, key=lambda emotion: (-tied[emotion], emotion))


def count_emotions(emotions: Sequence[str] | None, labels: Sequence[str]) -> str:
    """Return how many faces show each emotion as JSON, ``uncertain`` at the end; ``null`` where nothing is known."""
    if emotions is None:
        return "null"
    counts = {label: emotions.count(label) for label in (*labels, UNCERTAIN)}
    return msgspec.json.encode(counts).decode()


def _share(value: float) -> float:
    return round(float(value), 3)


def _scores(scores: Floats, labels: tuple[str, ...]) -> dict[str, float]:
    return {label: _share(score) for label, score in zip(labels, scores, strict=True)}


def _box(face: FaceState) -> Box:
    x, y, w, h = (round(float(value)) for value in face.track.xywh)
    return Box(x=x, y=y, w=w, h=h)


def _quality(face: FaceState) -> QualityPart:
    quality = face.quality
    return QualityPart(
        face_px=round(quality.face_px),
        blur=round(float(quality.blur), 2),
        yaw=round(float(quality.yaw), 2),
        brightness=round(float(quality.brightness), 2),
        cut=round(float(quality.cut), 2),
    )


def _state_face(face: FaceState, moment: Moment) -> StateFace:
    return StateFace(
        track=face.track.id,
        emotion=face.emotion,
        confidence=_share(face.confidence),
        since=moment.utc(face.since_ns),
        reason=None if face.reason is None else face.reason.value,
    )


def _telemetry_face(face: FaceState, labels: tuple[str, ...]) -> TelemetryFace:
    return TelemetryFace(
        track=face.track.id,
        box=_box(face),
        score=_share(face.track.score),
        observed=face.track.observed,
        followed=face.track.followed,
        emotion=face.emotion,
        confidence=_share(face.confidence),
        scores=None if face.scores is None else _scores(face.scores, labels),
        reason=None if face.reason is None else face.reason.value,
        quality=_quality(face),
        landmarks=[(round(float(x)), round(float(y))) for x, y in face.track.landmarks],
    )


def _latency(percentiles: Percentiles) -> Latency:
    return Latency(p50=round(percentiles.p50_ms, 2), p95=round(percentiles.p95_ms, 2), p99=round(percentiles.p99_ms, 2))
