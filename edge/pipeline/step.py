"""From a frame to events: detect, track, crop, classify, smooth, compare. No I/O, no threads; time is an argument."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.config.schema import QualityConfig, SmoothConfig
from edge.contract.crop import crop_face
from edge.detect.base import FaceDetector
from edge.infer.base import Interpreter
from edge.infer.classifier import EmotionClassifier
from edge.pipeline.conclusions import Conclusions, Seen
from edge.pipeline.detection_schedule import DetectionSchedule
from edge.pipeline.events import LEFT
from edge.pipeline.mirror import ViewSchedule, average_views, view_crops
from edge.pipeline.quality import measure_quality
from edge.pipeline.registration import Registration
from edge.pipeline.trace import TraceWriter
from edge.records import EmotionEvent, Floats, Frame, Quality, Step, Track
from edge.system.metrics import Metrics
from edge.track.base import FaceTracker

FIRST_CROPS: Final = 8
"""Initial capacity for the crops of one frame; grows with the faces."""
STAGES: Final = ("detect", "track", "crop", "classify", "events")


class Pipeline:
    """The one path that every frame takes, in the daemon, in replay, in the demo and in the benchmark.

    Attributes:
        metrics: durations of the stages and counts; the stopwatch has no influence on the outcome.
        trace: takes down in numbers what is seen; None: nobody does.
    """

    def __init__(
        self,
        *,
        detector: FaceDetector,
        tracker: FaceTracker,
        classifier: EmotionClassifier,
        conclusions: Conclusions,
        schedule: DetectionSchedule,
        registration: Registration | None,
        views: ViewSchedule,
        metrics: Metrics,
        stopwatch: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.metrics = metrics
        self.trace: TraceWriter | None = None
        self._detector = detector
        self._tracker = tracker
        self._classifier = classifier
        self._conclusions = conclusions
        self._schedule = schedule
        self._registration = registration
        self._views = views
        self._stopwatch = stopwatch
        self._crops: npt.NDArray[np.uint8] = np.zeros((FIRST_CROPS, *classifier.input_shape), np.uint8)
        self._last_ns = 0

    def step(self, frame: Frame) -> Step:
        """Take one frame through all stages.

        Args:
            frame: never older than the last one.

        Returns:
            The faces of the frame and what changed.
        """
        clock = self._stopwatch
        times = [clock()]
        ended = self._end_all(LEFT, frame.timestamp_ns) if frame.discontinuity else ()
        self._last_ns = frame.timestamp_ns
        detects = self._schedule.is_due(frame)
        faces = self._detector.detect(frame) if detects else None
        times.append(clock())
        tracks = self._tracker.update(faces, frame.timestamp_ns, frame_wh=frame.size_wh)
        if self._registration:
            tracks = self._registration.keep(frame, tracks) if detects else self._registration.follow(frame, tracks)
            self._tracker.follow(tracks)
        self._schedule.observe(tracks)
        times.append(clock())
        readable = [i for i, track in enumerate(tracks.active) if track.observed or track.followed]
        crops, qualities = self._crop_faces(frame, tracks.active, readable)
        times.append(clock())
        scores = self._classify(crops, tracks.active, readable, frame.timestamp_ns)
        times.append(clock())
        seen = Seen(frame.timestamp_ns, frame.size_wh, tracks, scores, qualities)
        states, events = self._conclusions.update(seen)
        times.append(clock())
        self._measure(times, detects=detects)
        if self.trace:
            self.trace.frame(frame, seen, detected=detects)
        if faces is not None and faces.bound_hit:
            self.metrics.counts["max_faces_hit"] += 1
        return Step(frame, states, (*ended, *events), detects)

    def end_all(self, reason: str, timestamp_ns: int | None = None) -> tuple[EmotionEvent, ...]:
        """End every track, with an event each; the next frame starts anew.

        Args:
            reason: ``camera_lost``, ``paused``, ``stopped`` or ``left``.
            timestamp_ns: when; the last frame's time where it is not known.
        """
        at_ns = self._last_ns if timestamp_ns is None else timestamp_ns
        if self.trace:
            self.trace.end(reason, at_ns)
        return self._end_all(reason, at_ns)

    def configure(self, *, smooth: SmoothConfig, quality: QualityConfig) -> None:
        """Apply other settings from the next frame on; tracks and their readings stay."""
        self._conclusions.configure(smooth=smooth, quality=quality)
        self._views.configure(time_constant_ms=smooth.time_constant_ms)
        if self.trace:
            self.trace.settings(smooth, quality)

    def rest_at_least(self, rest_ms: float) -> None:
        """Let the detector rest up to so long, also where it looks at every frame; 0: as configured."""
        self._schedule.rest_at_least(rest_ms)
        self._registration = self._registration or (Registration() if rest_ms else None)

    def replace_detector(self, detector: FaceDetector) -> None:
        """Look with another detector from the next frame on; the present one is freed."""
        self._detector.close()
        self._detector = detector

    def replace_interpreter(self, interpreter: Interpreter) -> None:
        """Run the same emotion model on something else from the next frame on."""
        self._classifier.replace_interpreter(interpreter)

    def close(self) -> None:
        """Free both models."""
        self._detector.close()
        self._classifier.close()

    def _end_all(self, reason: str, timestamp_ns: int) -> tuple[EmotionEvent, ...]:
        self._tracker.reset()
        self._schedule.reset()
        return self._conclusions.end_all(reason, timestamp_ns)

    def _crop_faces(
        self, frame: Frame, tracks: Sequence[Track], readable: Sequence[int]
    ) -> tuple[npt.NDArray[np.uint8], list[Quality | None]]:
        """Return the model's inputs (n, height, width, channels) uint8, and the quality of each track's crop."""
        if len(readable) > len(self._crops):
            self._crops = np.zeros((2 * len(readable), *self._classifier.input_shape), np.uint8)
        crop, grey = self._classifier.crop, self._classifier.is_grey
        qualities: list[Quality | None] = [None] * len(tracks)
        for i, target in zip(readable, self._crops, strict=False):
            track, out = tracks[i], target[:, :, 0] if grey else target
            crop_face(frame.image, track.xywh, margin=crop.margin, size_px=crop.size_px, out=out, grey=grey)
            qualities[i] = measure_quality(track, out, frame_wh=frame.size_wh)
        return self._crops[: len(readable)], qualities

    def _classify(
        self, crops: npt.NDArray[np.uint8], tracks: Sequence[Track], readable: Sequence[int], timestamp_ns: int
    ) -> list[Floats | None]:
        """Return the scores (labels,) of each track that can be read, None for the others."""
        views = self._views.choose([tracks[i].id for i in readable], timestamp_ns)
        self._views.keep([track.id for track in tracks])
        rows = self._classifier.classify(list(view_crops(crops, views)))
        scores: list[Floats | None] = [None] * len(tracks)
        for i, row in zip(readable, average_views(rows, views), strict=True):
            scores[i] = row
        return scores

    def _measure(self, times_ns: Sequence[int], *, detects: bool) -> None:
        """Record the durations between the stopwatch's readings before and after each stage."""
        record, counts = self.metrics.record, self.metrics.counts
        for stage, (begin_ns, end_ns) in zip(STAGES, pairwise(times_ns), strict=True):
            if detects or stage != "detect":
                record(stage, end_ns - begin_ns)
        record("step", times_ns[-1] - times_ns[0])
        counts["frames"] += 1
        counts["detected"] += detects
