"""From the states of faces to events: who came, whose emotion changed, who left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge.contract.labels import UNCERTAIN
from edge.records import EmotionEvent, EventType, FaceState

LEFT = "left"
"""Reason of ``face_left`` when the face itself went away."""


class EventMaker:
    """Compares each frame's faces with the last published state. Every face that leaves had appeared before.

    Args:
        next_seq: counts events; the first call gives 1.
        uncertain: whether ``emotion_changed`` tells of a face that becomes ``uncertain``, or is not any more. Where
            not, a change is from the last emotion that was told to another one, whatever lay between.
    """

    def __init__(self, next_seq: Callable[[], int], *, uncertain: bool = True) -> None:
        self._next_seq = next_seq
        self._tells_uncertain = uncertain
        self._present: dict[str, FaceState] = {}
        self._seen: dict[str, FaceState] = {}
        self._frame_wh = (0, 0)

    def update(
        self,
        faces: Sequence[FaceState],
        ended: Sequence[str],
        timestamp_ns: int,
        *,
        frame_wh: tuple[int, int],
    ) -> tuple[EmotionEvent, ...]:
        """Return the events of one frame: first who left, then who came or changed, in order of first appearance.

        Args:
            faces: one state a face.
            ended: ids of tracks that ended with this frame.
            timestamp_ns: the frame's time of capture.
            frame_wh: width and height of the frame in pixels.
        """
        self._frame_wh = frame_wh
        events = [self._left(id, LEFT, timestamp_ns) for id in ended if id in self._present]
        for face in faces:
            id = face.track.id
            before = self._present.get(id)
            if face.track.observed or before is None:
                self._seen[id] = face
            if before is not None and face.emotion == UNCERTAIN and not self._tells_uncertain:
                continue  # what was told last stays what the next emotion is compared with
            self._present[id] = face
            if before is None:
                events.append(self._event(EventType.FACE_APPEARED, face, timestamp_ns))
            elif before.emotion != face.emotion:
                dwell_ms, previous = (face.since_ns - before.since_ns) / 1e6, self._as_told(before.emotion)
                kind = EventType.EMOTION_CHANGED
                events.append(self._event(kind, face, timestamp_ns, previous=previous, dwell_ms=dwell_ms))
        return tuple(events)

    def end_all(self, reason: str, timestamp_ns: int) -> tuple[EmotionEvent, ...]:
        """Let every face leave: ``camera_lost``, ``paused``, ``stopped``, or ``left`` at a discontinuity."""
        return tuple(self._left(id, reason, timestamp_ns) for id in list(self._present))

    def _as_told(self, emotion: str) -> str | None:
        return emotion if self._tells_uncertain or emotion != UNCERTAIN else None

    def _left(self, id: str, reason: str, timestamp_ns: int) -> EmotionEvent:
        del self._present[id]
        face = self._seen.pop(id)
        dwell_ms = (face.track.last_seen_ns - face.track.first_ns) / 1e6
        return self._event(EventType.FACE_LEFT, face, timestamp_ns, dwell_ms=dwell_ms, reason=reason)

    def _event(
        self,
        type: EventType,
        face: FaceState,
        timestamp_ns: int,
        *,
        previous: str | None = None,
        dwell_ms: float = 0.0,
        reason: str | None = None,
    ) -> EmotionEvent:
        if reason is None and face.reason is not None:
            reason = face.reason.value
        return EmotionEvent(
            type=type,
            seq=self._next_seq(),
            timestamp_ns=timestamp_ns,
            face=face,
            previous=previous,
            dwell_ms=dwell_ms,
            reason=reason,
            frame_size_wh=self._frame_wh,
        )
