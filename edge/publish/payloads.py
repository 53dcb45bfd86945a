"""Payloads: one struct each. `edge.publish.topics` says which topic carries which, `edge.publish.encode` makes them.

The structs are the documentation: JSON Schema comes out of them. A later version of Mien may add fields to a payload; a
field that changes its meaning or goes away changes the number in ``schema``. Subscribers ignore what they do not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge.contract.labels import LABELS, UNCERTAIN

CameraState = Literal["opening", "live", "stale", "lost", "paused"]
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
    cut: Annotated[float, Meta(description="share of the face beyond the picture's edge, 0..1")] = 0.0


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
            "turned, dark, cut_off or low_margin; else null"
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
    """Events that had to be dropped, or are not kept for who asks again: ``…/history``."""

    type: Annotated[Literal["gap"], Meta(description="tells a gap from an event")]
    boot_id: BootId
    from_seq: Seq
    to_seq: Annotated[Seq, Meta(description="the last one that was dropped")]
    reason: Annotated[
        str,
        Meta(description="queue_full, refused, too_large, too_old or write_failed; not_kept: by request/history"),
    ]


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
    faces: Annotated[list[StateFace] | None, Meta(description="in order of appearance; null while nothing is known")]
    reason: Annotated[
        str | None, Meta(description="why nothing is known: opening, stale, lost, paused or stopped; null otherwise")
    ] = None


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
    degraded: Annotated[
        Literal["thermal", "load"] | None,
        Meta(description="why less is done than configured, see `…/problem`; null: nothing is left out"),
    ] = None


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


class PrivacyPart(Payload, frozen=True, kw_only=True):
    """What expressions are read for, as configured."""

    use_context: Annotated[str | None, Meta(description="privacy.use_context; null where nobody said")]
    exemption: Annotated[str | None, Meta(description="the reason given for a workplace or a place of education")]


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
    privacy: PrivacyPart = PrivacyPart(use_context=None, exemption=None)


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
        bool, Meta(description="false: the detector did not see it in this frame, or rested; see `followed`")
    ]
    followed: Annotated[
        bool,
        Meta(description="the detector rested and the face was found by its looks; neither: its place is predicted"),
    ] = False
    emotion: Emotion
    confidence: Confidence
    scores: Annotated[
        dict[str, Share] | None, Meta(description="calibrated scores of this frame alone; null when not classified")
    ]
    reason: Annotated[str | None, Meta(description="why the face is uncertain, else null")]
    quality: QualityPart
    landmarks: Annotated[
        list[tuple[int, int]],
        Meta(description="right eye, left eye, nose, right and left corner of the mouth: x, y in pixels"),
    ]


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
