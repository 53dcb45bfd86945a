"""What is concluded from the numbers of each frame: steady emotions, then events. The second half of a step."""

from __future__ import annotations

from dataclasses import dataclass

from edge.config.schema import QualityConfig, SmoothConfig
from edge.pipeline.events import EventMaker
from edge.pipeline.smoothing import EmotionSmoother
from edge.records import EmotionEvent, FaceState, Floats, Quality, Tracks


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that was seen in one frame, in numbers.

    Attributes:
        timestamp_ns: the frame's time of capture.
        frame_wh: width and height of the frame in pixels.
        tracks: the tracker's outcome.
        scores: one entry an active track, (labels,) float32 probabilities; None where it was not classified.
        qualities: one entry an active track; None where it was not classified.
    """

    timestamp_ns: int
    frame_wh: tuple[int, int]
    tracks: Tracks
    scores: list[Floats | None]
    qualities: list[Quality | None]


class Conclusions:
    """Smoother and events of one stream; a pipeline drives it, or a trace of one.

    Args:
        smoother: one reading of the emotion for every track.
        events: what changed.
    """

    def __init__(self, smoother: EmotionSmoother, events: EventMaker) -> None:
        self._smoother = smoother
        self._events = events

    def update(self, seen: Seen) -> tuple[tuple[FaceState, ...], tuple[EmotionEvent, ...]]:
        """Return the faces of one frame and what changed."""
        states = self._smoother.update(seen.tracks, seen.scores, seen.qualities, seen.timestamp_ns)
        return states, self._events.update(states, seen.tracks.ended, seen.timestamp_ns, frame_wh=seen.frame_wh)

    def end_all(self, reason: str, timestamp_ns: int) -> tuple[EmotionEvent, ...]:
        """Let every face leave, for ``reason``; the next frame starts anew."""
        self._smoother.reset()
        return self._events.end_all(reason, timestamp_ns)

    def configure(self, *, smooth: SmoothConfig, quality: QualityConfig) -> None:
        """Apply other settings from the next frame on."""
        self._smoother.configure(smooth=smooth, quality=quality)
