"""Records and messages for the tests of publishing and of the service."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from edge.contract.labels import LABELS
from edge.publish.base import Message, make_message
from edge.publish.encode import Moment, Origin, Vitals, make_event, make_state
from edge.publish.payloads import BootMark, CameraPart, DelegatePart, InfoPayload, ModelPart, ParityPart
from edge.publish.topics import VERSIONS
from edge.records import EmotionEvent, EventType, FaceState, Frame, Quality, Reason, Step, Track
from edge.system.metrics import Percentiles

S = 1_000_000_000
UTC_OFFSET_NS = 1_795_227_600 * S
ORIGIN = Origin(boot_id="b00t", camera="front", labels=LABELS, model="emotion-ferplus@1.0.0", delegate="xnnpack")


def moment(now_s: float = 100.0, *, synced: bool = True) -> Moment:
    return Moment(now_ns=round(now_s * S), utc_offset_ns=UTC_OFFSET_NS, clock_synced=synced)


def present() -> Moment:
    return Moment(now_ns=time.monotonic_ns(), utc_offset_ns=UTC_OFFSET_NS, clock_synced=True)


def a_face(
    track: str = "k3v9",
    emotion: str = "happy",
    confidence: float = 0.9123456,
    *,
    reason: Reason | None = None,
    scores: bool = True,
    at_s: float = 100.0,
) -> FaceState:
    smoothed = np.full(len(LABELS), (1 - confidence) / (len(LABELS) - 1), np.float32)
    smoothed[LABELS.index(emotion) if emotion in LABELS else 0] = confidence
    at_ns = round(at_s * S)
    return FaceState(
        track=Track(track, (411.6, -3.2, 96.4, 118.0), np.zeros((5, 2), np.float32), 0.93, True, at_ns - S, at_ns),
        scores=smoothed if scores else None,
        smoothed=smoothed,
        emotion=emotion,
        confidence=confidence,
        reason=reason,
        since_ns=at_ns - S // 2,
        evidence_frames=9,
        quality=Quality(face_px=96.4, blur=0.1234, yaw=-0.0812, brightness=0.4711),
    )


def an_event(
    seq: int = 17, *, at_s: float = 100.0, kind: EventType = EventType.EMOTION_CHANGED, face: FaceState | None = None
) -> EmotionEvent:
    return EmotionEvent(
        type=kind,
        seq=seq,
        timestamp_ns=round(at_s * S),
        face=face or a_face(at_s=at_s),
        previous="neutral",
        dwell_ms=639.7,
        reason=None,
        frame_size_wh=(640, 480),
    )


def a_step(*faces: FaceState, events: Iterable[EmotionEvent] = (), at_s: float = 100.0, number: int = 0) -> Step:
    frame = Frame(np.zeros((480, 640, 3), np.uint8), round(at_s * S), number, "camera")
    return Step(frame, faces, tuple(events), True)


def an_info(at: Moment | None = None, *, previous: BootMark | None = None) -> InfoPayload:
    at = at or moment()
    return InfoPayload(
        boot_id="b00t",
        previous=previous,
        ts=at.utc(at.now_ns),
        clock_synced=True,
        version="1.0.0",
        schemas=dict(VERSIONS),
        camera=CameraPart(name="front", source="0", width=640, height=480, fps=15),
        model=ModelPart(name="emotion-ferplus", version="1.0.0", sha256="0" * 64, source="shipped", reason=None),
        labels=list(LABELS),
        detector=ModelPart(name="yunet-640x480", version="1.0.0", sha256="1" * 64, source="shipped", reason=None),
        delegate=DelegatePart(
            name="xnnpack", requested="edgetpu", reason="no device", delegated_nodes=1, total_nodes=1
        ),
        parity=ParityPart(samples=16, worst_steps=1, max_steps=1, class_flips=0),
    )


def some_vitals(**changes: object) -> Vitals:
    latency = Percentiles(3.14159, 4.0, 5.0, 900)
    values: dict[str, object] = {
        "uptime_s": 12.3456,
        "fps": 14.98765,
        "frame_age": latency,
        "stages": {"detect": latency, "classify": latency},
        "drops": 3,
        "reconnects": 1,
        "counts": {"faces_bound_hit": 2},
        "sinks": {"mqtt": ("connected (MQTT 5)", {"queued": 4, "sent": 17}), "jsonl": ("writing", {"queued": 0})},
        "temperature_c": 51.234,
        "rss_bytes": 88_000_000,
    }
    return Vitals(**(values | changes))  # type: ignore[arg-type]


def event_message(seq: int, *, live_s: float = 5.0, boot_id: str = "b00t") -> Message:
    """An event made now that is live for so many seconds from now."""
    now = present()
    origin = Origin(boot_id=boot_id, camera="front", labels=LABELS, model="m@1", delegate="xnnpack")
    payload = make_event(an_event(seq, at_s=now.now_ns / S), origin=origin, moment=now)
    return make_message("event", payload, live_until_ns=now.now_ns + round(live_s * S))


def state_message(last_seq: int = 0) -> Message:
    now = present()
    return make_message(
        "state", make_state((a_face(),), timestamp_ns=now.now_ns, last_seq=last_seq, origin=ORIGIN, moment=now)
    )


def initial_messages() -> list[Message]:
    plain = [make_message("camera", "live"), make_message("count", "1"), make_message("emotion", "happy")]
    return [make_message("info", an_info()), *plain, state_message()]
