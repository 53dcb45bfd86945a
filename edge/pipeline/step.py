"""From a frame to events: detect, track, crop, classify, smooth, tell. No I/O, no threads; time is an argument."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edge.config.schema import QualityConfig, SmoothConfig
from edge.contract.crop import crop_face
from edge.detect.base import FaceDetector
from edge.infer.base import Interpreter
from edge.infer.classifier import EmotionClassifier
from edge.pipeline.detection_schedule import DetectSchedule
from edge.pipeline.events import LEFT, EventMaker
from edge.pipeline.quality import measure_quality
from edge.pipeline.smoothing import EmotionSmoother
from edge.records import EmotionEvent, Floats, Frame, Quality, Step, Track
from edge.system.metrics import Metrics
from edge.track.base import FaceTracker

FIRST_CROPS = 8
"""Room for the crops of one frame at first; grows with the faces."""


class Pipeline:
    """The one path that every frame takes, in the daemon, in replay, in the demo and in the benchmark.

    Attributes:
        metrics: durations of the stages and counts; the stopwatch has no influence on the outcome.
    """

    def __init__(
        self,
        *,
        detector: FaceDetector,
        tracker: FaceTracker,
        classifier: EmotionClassifier,
        smoother: EmotionSmoother,
        events: EventMaker,
        schedule: DetectSchedule,
        metrics: Metrics,
        stopwatch: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.metrics = metrics
        self._detector = detector
        self._tracker = tracker
        self._classifier = classifier
        self._smoother = smoother
        self._events = events
        self._schedule = schedule
        self._stopwatch = stopwatch
        self._crops: npt.NDArray[np.uint8] = np.zeros((FIRST_CROPS, *classifier.input_shape), np.uint8)
        self._last_ns = 0

    def step(self, frame: Frame) -> Step:
        """Takes one frame through all stages.

        Args:
            frame: never older than the last one.

        Returns:
            The faces of the frame and what changed.
        """
        clock = self._stopwatch
        start = clock()
        ended = self.end_all(LEFT, frame.timestamp_ns) if frame.discontinuity else ()
        self._last_ns = frame.timestamp_ns
        detects = self._schedule.is_due(frame)
        faces = self._detector.detect(frame) if detects else None
        detected = clock()
        tracks = self._tracker.update(faces, frame.timestamp_ns, frame_wh=frame.size_wh)
        self._schedule.observe(tracks)
        tracked = clock()
        readable = [i for i, track in enumerate(tracks.active) if track.observed or not detects]
        crops, qualities = self._crop_faces(frame, tracks.active, readable)
        cropped = clock()
        scores: list[Floats | None] = [None] * len(tracks.active)
        for i, row in zip(readable, self._classifier.classify(crops), strict=True):
            scores[i] = row
        classified = clock()
        states = self._smoother.update(tracks, scores, qualities, frame.timestamp_ns)
        events = self._events.update(states, tracks.ended, frame.timestamp_ns, frame_wh=frame.size_wh)
        self._measure(start, detected, tracked, cropped, classified, clock(), detects=detects)
        if faces is not None and faces.bound_hit:
            self.metrics.counts["max_faces_hit"] += 1
        return Step(frame, states, (*ended, *events), detects)

    def end_all(self, reason: str, timestamp_ns: int | None = None) -> tuple[EmotionEvent, ...]:
        """Ends every track, with an event each; the next frame starts anew.

        Args:
            reason: ``camera_lost``, ``paused``, ``stopped`` or ``left``.
            timestamp_ns: when; the last frame's time where it is not known.
        """
        self._tracker.reset()
        self._smoother.reset()
        self._schedule.reset()
        return self._events.end_all(reason, self._last_ns if timestamp_ns is None else timestamp_ns)

    def configure(self, *, smooth: SmoothConfig, quality: QualityConfig) -> None:
        """Applies other settings from the next frame on; tracks and their readings stay."""
        self._smoother.configure(smooth=smooth, quality=quality)

    def replace_interpreter(self, interpreter: Interpreter) -> None:
        """Runs the same emotion model on something else from the next frame on."""
        self._classifier.replace_interpreter(interpreter)

    def close(self) -> None:
        """Frees both models."""
        self._detector.close()
        self._classifier.close()

    def _crop_faces(
        self, frame: Frame, tracks: Sequence[Track], readable: Sequence[int]
    ) -> tuple[npt.NDArray[np.uint8], list[Quality | None]]:
        """The model's inputs (n, height, width, channels) uint8, and per track how well it can be read."""
        if len(readable) > len(self._crops):
            self._crops = np.zeros((2 * len(readable), *self._classifier.input_shape), np.uint8)
        crop, grey = self._classifier.crop, self._classifier.is_grey
        qualities: list[Quality | None] = [None] * len(tracks)
        for i, target in zip(readable, self._crops, strict=False):
            track, out = tracks[i], target[:, :, 0] if grey else target
            crop_face(frame.image, track.xywh, margin=crop.margin, size_px=crop.size_px, out=out, grey=grey)
            qualities[i] = measure_quality(track, out)
        return self._crops[: len(readable)], qualities

    def _measure(
        self, start: int, detected: int, tracked: int, cropped: int, classified: int, done: int, *, detects: bool
    ) -> None:
        record, counts = self.metrics.record, self.metrics.counts
        if detects:
            record("detect", detected - start)
            counts["detected"] += 1
        record("track", tracked - detected)
        record("crop", cropped - tracked)
        record("classify", classified - cropped)
        record("events", done - classified)
        record("step", done - start)
        counts["frames"] += 1
