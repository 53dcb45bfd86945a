"""The messages that came back from the broker, gathered; the terminal shows nothing else."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime

from edge.commands.demo.listener import Received
from edge.publish.payloads import EventPayload, FacesPayload, HealthPayload, InfoPayload, StatePayload

KEPT_EVENTS = 200
LATEST = frozenset({"faces", "state", "health", "info", "camera", "availability"})
"""Levels of which the newest message is kept, under the same name."""


class Story:
    """State of the demo, built from received messages.

    Attributes:
        faces: the newest telemetry.
        state: the newest state.
        health: the newest health report.
        info: what runs.
        camera: ``opening``, ``live``, ``stale`` or ``lost``; empty before the first word.
        availability: ``online`` or ``offline``; empty before the first word.
        events: the newest events, oldest first.
        emotions: how often a face was told to show an emotion.
    """

    def __init__(self) -> None:
        self.faces: FacesPayload | None = None
        self.state: StatePayload | None = None
        self.health: HealthPayload | None = None
        self.info: InfoPayload | None = None
        self.camera = ""
        self.availability = ""
        self.events: deque[EventPayload] = deque(maxlen=KEPT_EVENTS)
        self.emotions: Counter[str] = Counter()
        self._scores: dict[str, Mapping[str, float]] = {}
        self._tracks: set[str] = set()
        self._seqs: set[int] = set()

    @property
    def never_saw(self) -> bool:
        """Whether the camera is lost and no frame came before that."""
        return self.camera == "lost" and self.faces is None

    def take(self, level: str, received: Received) -> None:
        """Add one message.

        Args:
            level: last level of its topic.
            received: its payload.
        """
        if isinstance(received, EventPayload):
            self._take_event(received)
        elif level in LATEST:
            setattr(self, level, received)
        if isinstance(received, FacesPayload):
            self._scores = {face.track: face.scores or self.scores(face.track) for face in received.faces}

    def _take_event(self, event: EventPayload) -> None:
        self.events.append(event)
        self._seqs.add(event.seq)
        self._tracks.add(event.track)
        if event.type != "face_left" and event.emotion != event.previous:
            self.emotions[event.emotion] += 1

    @property
    def face_count(self) -> int:
        """Different faces that were announced."""
        return len(self._tracks)

    @property
    def event_count(self) -> int:
        """Different events that arrived."""
        return len(self._seqs)

    @property
    def missing_count(self) -> int:
        """Events that were numbered but did not arrive."""
        return max(self._seqs, default=0) - len(self._seqs)

    def scores(self, track: str) -> Mapping[str, float]:
        """Return the newest scores of a face in view, by label; a face is not classified in every frame."""
        return self._scores.get(track, {})

    def held_s(self, track: str) -> float | None:
        """For how long a face has shown its emotion, by the daemon's own clock; None where that is not known."""
        if self.state is None or self.faces is None:
            return None
        since = next((face.since for face in self.state.faces or [] if face.track == track), None)
        if since is None:
            return None
        return max(0.0, (_parse(self.faces.ts) - _parse(since)).total_seconds())


def _parse(utc: str) -> datetime:
    return datetime.strptime(utc, "%Y-%m-%dT%H:%M:%S.%fZ")
