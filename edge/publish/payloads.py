"""What is published: one struct a payload, and pure functions that make them from records.

The structs are the documentation: `schema_of` turns them into JSON Schema. A later version of Mien may add fields to a
payload; a field that changes its meaning or goes away changes the number in ``schema``. Subscribers ignore what they do
not know.

Numbers are rounded to what they are worth: scores to 0.001, pixels and milliseconds of dwell to 1, ages to 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from edge.contract.labels import LABELS, NONE, UNCERTAIN
from edge.errors import UsageError
from edge.records import EmotionEvent, FaceState, Floats, Step
from edge.system.metrics import Percentiles

CameraState = Literal["opening", "live", "stale", "lost"]
"""``opening`` for the first time, ``live``, ``stale`` (no frame for a while), ``lost`` (being reopened)."""

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
BootId = Annotated[str, Meta(description="random for each start of the daemon")]
Seq = Annotated[int, Meta(ge=1, description="counts the events of this start from 1; the same in every sink")]
LastSeq = Annotated[int, Meta(ge=0, description="`seq` of the newest event of this start; 0: none yet")]
Utc = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="UTC with milliseconds, by the clock's setting when the payload was made",
        examples=["2026-11-21T02:20:00.123Z"],
    ),
]
CaptureTs = Annotated[Utc, Meta(description="time of capture, UTC; fixed when the payload is made")]
CaptureMono = Annotated[int, Meta(description="time of capture by this machine's monotonic clock, milliseconds")]
ClockSynced = Annotated[bool, Meta(description="whether the system clock was synchronized when `ts` was made")]
CameraName = Annotated[str, Meta(description="the camera's name, last level of the base topic")]
TrackId = Annotated[str, Meta(description="one followed face; random, ends when the face leaves")]
Emotion = Annotated[str, Meta(description=f"{', '.join(LABELS)}, or {UNCERTAIN}")]
Confidence = Annotated[Share, Meta(description="smoothed score of the emotion; of the strongest when uncertain")]


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all payloads and their parts."""


class Box(Payload, frozen=True, kw_only=True):
    """A face's box in pixels of the full frame; may reach over its edge."""

    x: Annotated[int, Meta(description="left edge")]
    y: Annotated[int, Meta(description="top edge")]
    w: Annotated[Count, Meta(description="width")]
    h: Annotated[Count, Meta(description="height")]


class Extent(Payload, frozen=True, kw_only=True):
    """Size of the frame that boxes refer to, pixels."""

    w: Annotated[Count, Meta(description="width")]
    h: Annotated[Count, Meta(description="height")]


class QualityPart(Payload, frozen=True, kw_only=True):
    """How well the face could be read."""

    face_px: Annotated[int, Meta(description="shorter side of the face's box, pixels")]
    blur: Annotated[float, Meta(description="0 sharp .. 1 nothing left of the edges")]
    yaw: Annotated[float, Meta(description="-1..1, 0 frontal, positive: the nose points to the picture's right")]
    brightness: Annotated[float, Meta(description="mean grey of the crop, 0..1")]


class EventPayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.event/1"):
    """Something changed about a face: ``…/event``, QoS 1, not retained."""

    boot_id: BootId
    seq: Seq
    ts: CaptureTs
    frame_age_ms: Annotated[float, Meta(description="from capture to the making of this payload")]
    camera: CameraName
    type: Annotated[Literal["face_appeared", "emotion_changed", "face_left"], Meta(description="what happened")]
    mono_ms: CaptureMono
    clock_synced: ClockSynced
    track: TrackId
    emotion: Emotion
    previous: Annotated[str | None, Meta(description="the emotion before; null where there was none")]
    confidence: Confidence
    scores: Annotated[dict[str, Share], Meta(description="smoothed score of every label")]
    dwell_ms: Annotated[
        Count, Meta(description="how long the previous emotion held; for face_left how long the face was there")
    ]
    evidence_frames: Annotated[Count, Meta(description="classified frames that support the emotion")]
    reason: Annotated[
        str | None,
        Meta(
            description="for face_left: left, camera_lost, paused or stopped; for uncertain: too_small, blurred, "
            "turned, dark or low_margin; else null"
        ),
    ]
    box: Box
    frame: Extent
    quality: QualityPart
    model: Annotated[str, Meta(description="name@version of the emotion model")]
    delegate: Annotated[str, Meta(description="what ran it: xnnpack, edgetpu, external or none")]


class HistoryEventPayload(EventPayload, frozen=True, kw_only=True):
    """An event that could not be sent in time: ``…/history``. It may have been sent before: ``boot_id, seq`` tell."""

    historical: Annotated[bool, Meta(description="always true", extra_json_schema={"const": True})]


class GapPayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.gap/1"):
    """Events that had to be dropped: ``…/history``."""

    type: Annotated[Literal["gap"], Meta(description="tells a gap from an event")]
    boot_id: BootId
    from_seq: Seq
    to_seq: Annotated[Seq, Meta(description="the last one that was dropped")]
    reason: Annotated[str, Meta(description="queue_full, refused, too_large, too_old or write_failed")]


class StateFace(Payload, frozen=True, kw_only=True):
    """One face as of now."""

    track: TrackId
    emotion: Emotion
    confidence: Confidence
    since: Annotated[Utc, Meta(description="since when the emotion holds")]
    reason: Annotated[str | None, Meta(description="why the face is uncertain, else null")]


class StatePayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.state/1"):
    """The faces as of now: ``…/state``, retained; on change, at a bounded rate."""

    boot_id: BootId
    last_seq: LastSeq
    ts: CaptureTs
    mono_ms: CaptureMono
    clock_synced: ClockSynced
    camera: CameraName
    faces: Annotated[list[StateFace] | None, Meta(description="in order of appearance; null while the camera is away")]


class Latency(Payload, frozen=True, kw_only=True):
    """A distribution in milliseconds over the newest samples."""

    p50: Annotated[float, Meta(description="median")]
    p95: Annotated[float, Meta(description="95th percentile")]
    p99: Annotated[float, Meta(description="99th percentile")]


class SinkPart(Payload, frozen=True, kw_only=True):
    """One way out."""

    status: Annotated[str, Meta(description="one or two words: connected, refused: …")]
    counts: Annotated[dict[str, int], Meta(description="queued now; sent, dropped and others since the start")]


class HealthPayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.health/1"):
    """How the daemon does: ``…/health``, every ``publish.health_s`` seconds."""

    boot_id: BootId
    last_seq: LastSeq
    ts: Utc
    mono_ms: Annotated[int, Meta(description="when this was made, monotonic clock, milliseconds")]
    clock_synced: ClockSynced
    camera: CameraName
    uptime_s: Annotated[float, Meta(description="since the start of the daemon")]
    fps: Annotated[float, Meta(description="frames inferred a second since the last report")]
    frame_age_ms: Annotated[Latency | None, Meta(description="from capture to published; null without a frame")]
    stages_ms: Annotated[dict[str, Latency], Meta(description="latency of every stage")]
    drops: Annotated[Count, Meta(description="frames that a newer one replaced before inference")]
    reconnects: Annotated[Count, Meta(description="times the camera was opened again")]
    queue_depth: Annotated[Count, Meta(description="events that the broker has not acknowledged yet")]
    counts: Annotated[dict[str, int], Meta(description="everything else that is counted since the start")]
    sinks: Annotated[dict[str, SinkPart], Meta(description="every sink by its name")]
    temperature_c: Annotated[float | None, Meta(description="of the processor; null where it cannot be read")]
    rss_bytes: Annotated[int | None, Meta(description="resident memory; null where it cannot be read")]


class ModelPart(Payload, frozen=True, kw_only=True):
    """A model in use."""

    name: Annotated[str, Meta(description="of the bundle or file")]
    version: Annotated[str | None, Meta(description="null for a file without a bundle")]
    sha256: Annotated[str | None, Meta(description="of the model file")]
    source: Annotated[str | None, Meta(description="shipped, or the bundle's folder; null for a file without a bundle")]
    reason: Annotated[str | None, Meta(description="why it is not the one that was asked for, else null")]


class DelegatePart(Payload, frozen=True, kw_only=True):
    """What runs the emotion model."""

    name: Annotated[str, Meta(description="xnnpack, edgetpu, external or none")]
    requested: Annotated[str, Meta(description="as configured")]
    reason: Annotated[str | None, Meta(description="why it is not the one that was asked for, else null")]
    delegated_nodes: Annotated[Count, Meta(description="nodes of the graph that the delegate took over")]
    total_nodes: Annotated[Count, Meta(description="nodes of the graph")]


class ParityPart(Payload, frozen=True, kw_only=True):
    """The golden samples on this machine: how far the model is from what it was when it was made."""

    samples: Annotated[Count, Meta(description="golden samples replayed")]
    worst_steps: Annotated[float, Meta(description="largest difference in quantization steps")]
    max_steps: Annotated[float, Meta(description="what is allowed on this kind of kernel")]
    class_flips: Annotated[Count, Meta(description="samples with another top class")]


class CameraPart(Payload, frozen=True, kw_only=True):
    """The camera as configured; the source without its secrets."""

    name: CameraName
    source: Annotated[str, Meta(description="where frames come from")]
    width: Annotated[int, Meta(description="asked of the camera, pixels")]
    height: Annotated[int, Meta(description="asked of the camera, pixels")]
    fps: Annotated[float, Meta(description="asked of the camera")]


class BootMark(Payload, frozen=True, kw_only=True):
    """Where an earlier start of the daemon ended."""

    boot_id: BootId
    last_seq: LastSeq


class InfoPayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.info/1"):
    """What runs here: ``…/info``, retained."""

    boot_id: BootId
    previous: Annotated[BootMark | None, Meta(description="the start before this one, where it is known")]
    ts: Annotated[Utc, Meta(description="when this was made")]
    clock_synced: ClockSynced
    version: Annotated[str, Meta(description="of Mien")]
    schemas: Annotated[dict[str, str], Meta(description="schema of each payload, by topic")]
    camera: CameraPart
    model: ModelPart
    labels: Annotated[list[str], Meta(description="what the emotion model tells apart, in its order")]
    detector: ModelPart
    delegate: DelegatePart
    parity: ParityPart | None


class ProblemPayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.problem/1"):
    """What is not as it should be: ``…/problem``, retained; on change, at a bounded rate."""

    boot_id: BootId
    ts: Annotated[Utc, Meta(description="when this was made")]
    clock_synced: ClockSynced
    camera: CameraName
    problems: Annotated[
        list[str], Meta(description="one line each, what and why; empty when all is well", examples=[["camera: lost"]])
    ]


class TelemetryFace(Payload, frozen=True, kw_only=True):
    """One face of one frame."""

    track: TrackId
    box: Box
    score: Annotated[Share, Meta(description="the detector's, when it last saw the face")]
    observed: Annotated[
        bool, Meta(description="false: the detector did not see it in this frame, its place is predicted")
    ]
    emotion: Emotion
    confidence: Confidence
    scores: Annotated[
        dict[str, Share] | None, Meta(description="calibrated scores of this frame alone; null when not classified")
    ]
    reason: Annotated[str | None, Meta(description="why the face is uncertain, else null")]
    quality: QualityPart


class FacesPayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.faces/1"):
    """Every face of a frame: ``…/faces``, QoS 0, at most ``publish.faces_hz`` times a second."""

    boot_id: BootId
    ts: CaptureTs
    mono_ms: CaptureMono
    clock_synced: ClockSynced
    frame_age_ms: Annotated[float, Meta(description="from capture to the making of this payload")]
    camera: CameraName
    number: Annotated[Count, Meta(description="the frame's number, dropped ones counted")]
    detected: Annotated[bool, Meta(description="whether the detector ran on this frame")]
    frame: Extent
    faces: Annotated[list[TelemetryFace], Meta(description="in order of first appearance")]


class ResponsePayload(Payload, frozen=True, kw_only=True, tag_field="schema", tag="mien.response/1"):
    """The answer to a request: ``…/response/‹verb›``, QoS 1, not retained."""

    boot_id: BootId
    verb: Annotated[str, Meta(description="what was asked for")]
    transaction: Annotated[str | int | None, Meta(description="as in the request; null where it had none")]
    status: Annotated[Literal["ok", "error"], Meta(description="whether it was carried out")]
    reason: Annotated[str | None, Meta(description="why not; null where it was")]
    result: Annotated[dict[str, Any] | None, Meta(description="what there is to say; differs by verb")]


SCHEMAS: Final[Mapping[str, Any]] = {
    "event": EventPayload,
    "state": StatePayload,
    "health": HealthPayload,
    "faces": FacesPayload,
    "info": InfoPayload,
    "problem": ProblemPayload,
    "history": HistoryEventPayload | GapPayload,
    "response": ResponsePayload,
}
"""Topic to the type of its payload."""

VERSIONS: Final[Mapping[str, str]] = {
    "event": "mien.event/1",
    "state": "mien.state/1",
    "health": "mien.health/1",
    "faces": "mien.faces/1",
    "info": "mien.info/1",
    "problem": "mien.problem/1",
    "gap": "mien.gap/1",
    "response": "mien.response/1",
}
"""The schemas that this version speaks, as told in ``…/info``."""


def schema_of(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of a payload.

    Args:
        name: one of `SCHEMAS`.

    Raises:
        UsageError: an unknown name; the message lists the valid ones.
    """
    if name not in SCHEMAS:
        raise UsageError(f"schema: {name!r} is unknown; there are {', '.join(SCHEMAS)}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(SCHEMAS[name])


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
    faces: Sequence[FaceState] | None, *, timestamp_ns: int, last_seq: int, origin: Origin, moment: Moment
) -> StatePayload:
    """The payload of the present state.

    Args:
        faces: all faces; None while the camera is away.
        timestamp_ns: capture of the frame that showed them; now while the camera is away.
        last_seq: of the newest event, 0 when there was none.
        origin: who speaks.
        moment: the present.
    """
    return StatePayload(
        boot_id=origin.boot_id,
        last_seq=last_seq,
        ts=moment.utc(timestamp_ns),
        mono_ms=timestamp_ns // 1_000_000,
        clock_synced=moment.clock_synced,
        camera=origin.camera,
        faces=None if faces is None else [_state_face(face, moment) for face in faces],
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
        emotion=face.emotion,
        confidence=_share(face.confidence),
        scores=None if face.scores is None else _scores(face.scores, labels),
        reason=None if face.reason is None else face.reason.value,
        quality=_quality(face),
    )


def _latency(percentiles: Percentiles) -> Latency:
    return Latency(p50=round(percentiles.p50_ms, 2), p95=round(percentiles.p95_ms, 2), p99=round(percentiles.p99_ms, 2))
