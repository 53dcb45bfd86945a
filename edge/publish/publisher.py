"""What is said when: turns steps, camera states and measurements into messages. No clock, no thread, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge.config.schema import PublishConfig
from edge.contract.labels import NONE, UNKNOWN
from edge.publish.base import Message, make_message
from edge.publish.encode import (
    Moment,
    Origin,
    Vitals,
    count_emotions,
    dominant_emotion,
    make_event,
    make_faces,
    make_health,
    make_state,
)
from edge.publish.payloads import CameraState, InfoPayload, ProblemPayload
from edge.records import EmotionEvent, FaceState, Reason, Step

CONFIDENCE_STEP: Final = 0.05
"""A confidence that moved by less is no change of the state."""


PROBLEM_HZ: Final = 1.0
"""How often problems are told at most."""


class RateLimit:
    """Lets at most ``hz`` things a second pass; on average for ever, at once only within the tolerance.

    Source: the generic cell rate algorithm, ITU-T I.371.

    Args:
        hz: things a second, > 0.
        tolerance: how early a thing may come, as a share of the period; 0: the period is a minimum.
    """

    def __init__(self, hz: float, *, tolerance: float = 0.0) -> None:
        self._period_ns = round(1e9 / hz)
        self._tolerance_ns = round(tolerance * self._period_ns)
        self._due_ns: int | None = None

    def allows(self, now_ns: int) -> bool:
        """Whether a thing may pass now."""
        return self._due_ns is None or now_ns >= self._due_ns - self._tolerance_ns

    def note(self, now_ns: int) -> None:
        """A thing passes now."""
        self._due_ns = max(now_ns, self._due_ns or now_ns) + self._period_ns


@dataclass(frozen=True, slots=True)
class _StateKey:
    """What makes one state differ from another."""

    last_seq: int
    faces: tuple[tuple[str, str, Reason | None], ...] | None
    confidences: tuple[float, ...]

    def differs(self, other: _StateKey) -> bool:
        if (self.last_seq, self.faces) != (other.last_seq, other.faces):
            return True
        return any(abs(a - b) >= CONFIDENCE_STEP for a, b in zip(self.confidences, other.confidences, strict=True))


class Publisher:
    """Decides what is published, with which bytes, and how often. The daemon calls it and hands the messages to a sink.

    The state is published when it changed: a face came or went, an emotion or a reason changed, the camera went away,
    an event was made, or a confidence moved by `CONFIDENCE_STEP`; at most ``state_hz`` times a second, so `tick` is
    to be called now and then. ``count``, ``emotion`` and ``counts`` go with it.

    Args:
        config: the rates.
        origin: who speaks; may be replaced while running (`origin`).
        max_frame_age_ms: after so long an event is history.
        can_pause: whether requests may pause the camera: then ``active`` says whether they did.

    Attributes:
        origin: see above.
        last_seq: of the newest event.
        camera_state: as last told.
    """

    def __init__(
        self, config: PublishConfig, *, origin: Origin, max_frame_age_ms: float, can_pause: bool = False
    ) -> None:
        self.origin = origin
        self._can_pause = can_pause
        self._is_stopped = False
        self.last_seq = 0
        self.camera_state: CameraState = "opening"
        self._live_ns = round(max_frame_age_ms * 1e6)
        self._faces: tuple[FaceState, ...] | None = None
        self._seen_ns = 0
        self._told: _StateKey | None = None
        self._told_plain: dict[str, str] = {}
        self._told_problems: tuple[str, ...] | None = None
        self._problem_rate = RateLimit(PROBLEM_HZ)
        self.configure(config)

    def configure(self, config: PublishConfig) -> None:
        """Applies other rates from now on."""
        self._state_rate = RateLimit(config.state_hz)
        self._faces_rate = RateLimit(config.faces_hz, tolerance=0.5) if config.faces_hz else None
        self._health_rate = RateLimit(1 / config.health_s)

    def start(self, info: InfoPayload, *, moment: Moment) -> list[Message]:
        """The initial state: info, camera ``opening``, no faces known."""
        messages = [make_message("info", info), make_message("camera", self.camera_state), *self._active()]
        return messages + self._state(moment)

    def step(self, step: Step, *, moment: Moment) -> list[Message]:
        """What one frame gives to say: its events, the state if it changed, telemetry if it is wanted and due."""
        messages = self._events(step.events, since_ns=None, moment=moment)
        self._faces, self._seen_ns = step.faces, step.frame.timestamp_ns
        messages += self.tick(moment=moment)
        if self._faces_rate and self._faces_rate.allows(moment.now_ns):
            self._faces_rate.note(moment.now_ns)
            messages.append(make_message("faces", make_faces(step, origin=self.origin, moment=moment)))
        return messages

    def camera(self, state: CameraState, *, moment: Moment, events: Sequence[EmotionEvent] = ()) -> list[Message]:
        """The camera changed its state.

        Args:
            state: the new one.
            moment: the present.
            events: what ended with it: ``face_left`` of every track when the camera is lost or paused.
        """
        messages = self._events(events, since_ns=moment.now_ns, moment=moment)
        if state != "live":
            self._faces = None
        if state != self.camera_state:
            self.camera_state = state
            messages += [make_message("camera", state), *self._active()]
        return messages + self.tick(moment=moment)

    def tick(self, *, moment: Moment) -> list[Message]:
        """The state, when it changed and enough time has passed since the last one."""
        if self._told is not None:
            changed = self._state_key().differs(self._told)
            if not changed or not self._state_rate.allows(moment.now_ns):
                return []
        return self._state(moment)

    def problems(self, problems: Sequence[str], *, moment: Moment) -> list[Message]:
        """What is not as it should be, when that changed and enough time has passed since it was told last."""
        if tuple(problems) == self._told_problems or not self._problem_rate.allows(moment.now_ns):
            return []
        self._problem_rate.note(moment.now_ns)
        self._told_problems = tuple(problems)
        payload = ProblemPayload(
            boot_id=self.origin.boot_id,
            ts=moment.utc(moment.now_ns),
            clock_synced=moment.clock_synced,
            camera=self.origin.camera,
            problems=list(problems),
        )
        return [make_message("problem", payload)]

    def health(self, vitals: Vitals, *, moment: Moment) -> list[Message]:
        """A health report; see `is_health_due`."""
        self._health_rate.note(moment.now_ns)
        report = make_health(vitals, last_seq=self.last_seq, origin=self.origin, moment=moment)
        return [make_message("health", report)]

    def is_health_due(self, *, moment: Moment) -> bool:
        """Whether the next health report is due; the first one is at once."""
        return self._health_rate.allows(moment.now_ns)

    def stop(self, *, moment: Moment, events: Sequence[EmotionEvent] = ()) -> list[Message]:
        """The last words: the events that end every track, and a state without faces that holds the last ``seq``."""
        messages = self._events(events, since_ns=moment.now_ns, moment=moment)
        self._faces, self._is_stopped = None, True
        return messages + self._state(moment)

    def _active(self) -> list[Message]:
        """Whether the camera is watched, where requests can change that and it is not told already."""
        return self._changed("active", "OFF" if self.camera_state == "paused" else "ON") if self._can_pause else []

    def _events(self, events: Sequence[EmotionEvent], *, since_ns: int | None, moment: Moment) -> list[Message]:
        """Events live as long as their frame; those that no frame made as long from now."""
        messages = []
        for event in events:
            self.last_seq = event.seq
            until_ns = (event.timestamp_ns if since_ns is None else since_ns) + self._live_ns
            payload = make_event(event, origin=self.origin, moment=moment)
            messages.append(make_message("event", payload, live_until_ns=until_ns))
        return messages

    def _state(self, moment: Moment) -> list[Message]:
        self._state_rate.note(moment.now_ns)
        self._told = self._state_key()
        at_ns = moment.now_ns if self._faces is None else self._seen_ns
        state = make_state(
            self._faces,
            timestamp_ns=at_ns,
            last_seq=self.last_seq,
            origin=self.origin,
            moment=moment,
            reason="stopped" if self._is_stopped else self.camera_state if self.camera_state != "live" else "opening",
        )
        return [make_message("state", state), *self._plain()]

    def _state_key(self) -> _StateKey:
        faces = self._faces or ()
        return _StateKey(
            last_seq=self.last_seq,
            faces=None if self._faces is None else tuple((f.track.id, f.emotion, f.reason) for f in faces),
            confidences=tuple(face.confidence for face in faces),
        )

    def _plain(self) -> list[Message]:
        """``count``, ``emotion`` and ``counts``, those that changed; ``unknown`` is not ``nobody``."""
        faces = self._faces
        emotion, before = UNKNOWN, self._told_plain.get("emotion", NONE)
        if faces is not None:
            emotion = dominant_emotion([(face.emotion, face.confidence) for face in faces], before=before)
        emotions = None if faces is None else [face.emotion for face in faces]
        return [
            *self._changed("count", UNKNOWN if faces is None else str(len(faces))),
            *self._changed("emotion", emotion),
            *self._changed("counts", count_emotions(emotions, self.origin.labels)),
        ]

    def _changed(self, kind: str, text: str) -> list[Message]:
        """A message of plain text, where it is another than the last one."""
        if self._told_plain.get(kind) == text:
            return []
        self._told_plain[kind] = text
        return [make_message(kind, text)]
