"""From the scores of single frames to a steady emotion of each face, or the reason why there is none.

1. A frame whose quality passes feeds a low-pass filter with a time constant: ``alpha = 1 - exp(-dt / tau)``, whatever
   the intervals are. The first frame sets it. A frame of poor quality does not feed it.
2. The filtered scores propose an emotion. The present one is kept until another leads it by ``enter - exit`` and
   reaches ``enter``, or it fell below ``exit``. Where the two best scores are nearer than ``min_margin`` and the
   present emotion does not hold, the proposal is `uncertain` (``low_margin``). When no frame of the last time constant
   was good enough, it is `uncertain` with the quality's reason.
3. A proposal is taken over when the present emotion held for ``min_dwell_ms``.

While a face is only predicted its emotion holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Final

import numpy as np

from edge.config.schema import QualityConfig, SmoothConfig
from edge.contract.labels import UNCERTAIN
from edge.records import FaceState, Floats, Quality, Reason, Track, Tracks

RECOVERY: Final = 0.9
"""An unreadable face must beat the limit of its quality by this factor to be read again."""


class _Reading:
    """One track's emotion so far."""

    def __init__(self, quality: Quality, scores: Floats, now_ns: int) -> None:
        self.quality = quality
        self.values: list[float] = scores.tolist()
        self.smoothed = scores
        self.since_ns = now_ns
        self.good_ns: int | None = None
        self.emotion = self.candidate = ""
        self.reason: Reason | None = None
        self.evidence_frames = self.candidate_frames = 0


class EmotionSmoother:
    """Keeps one reading of the emotion for every track.

    Args:
        labels: the model's, in the order of its scores.
        smooth: filter, hysteresis and dwell.
        quality: limits of what can be read.
        min_margin: of the two best smoothed scores; used where the configuration leaves it unset (the model's own).
    """

    def __init__(
        self, labels: Sequence[str], *, smooth: SmoothConfig, quality: QualityConfig, min_margin: float
    ) -> None:
        self._labels = tuple(labels)
        self._model_margin = min_margin
        self._readings: dict[str, _Reading] = {}
        self.configure(smooth=smooth, quality=quality)

    def configure(self, *, smooth: SmoothConfig, quality: QualityConfig) -> None:
        """Apply other settings from the next frame on; the readings of the faces stay."""
        self._tau_ns = smooth.time_constant_ms * 1e6
        self._dwell_ns = smooth.min_dwell_ms * 1e6
        self._enter = smooth.enter
        self._exit = min(smooth.exit, smooth.enter)
        self._margin = self._model_margin if smooth.min_margin is None else smooth.min_margin
        self._limits = quality

    def update(
        self,
        tracks: Tracks,
        scores: Sequence[Floats | None],
        qualities: Sequence[Quality | None],
        timestamp_ns: int,
    ) -> tuple[FaceState, ...]:
        """Take in one frame's scores.

        Args:
            tracks: the tracker's outcome; readings of tracks that are not active any more are forgotten.
            scores: one entry an active track, (labels,) float32 probabilities; None where it was not classified.
            qualities: one entry an active track; None where it was not classified.
            timestamp_ns: the frame's time of capture.

        Returns:
            One state for every active track that was classified at least once, in the tracks' order.
        """
        readings: dict[str, _Reading] = {}
        states = []
        for track, probabilities, quality in zip(tracks.active, scores, qualities, strict=True):
            reading = self._readings.get(track.id)
            if probabilities is not None and quality is not None:
                if reading is None:
                    reading = _Reading(quality, probabilities, timestamp_ns)
                self._take_in(reading, probabilities, quality, timestamp_ns)
            if reading is not None:
                readings[track.id] = reading
                states.append(self._state(track, reading, probabilities))
        self._readings = readings
        return tuple(states)

    def reset(self) -> None:
        """Forget all readings."""
        self._readings = {}

    def _take_in(self, reading: _Reading, scores: Floats, quality: Quality, now_ns: int) -> None:
        reading.quality = quality
        poor = self._poor(quality, was_poor=reading.emotion == UNCERTAIN and reading.reason is not Reason.LOW_MARGIN)
        if poor is None:
            self._filter(reading, scores, now_ns)
            proposal, reason = self._propose(reading)
        elif reading.good_ns is None or now_ns - reading.good_ns >= self._tau_ns:
            proposal, reason = UNCERTAIN, poor
        else:
            proposal, reason = reading.emotion, reading.reason
        self._apply_dwell(reading, proposal, reason, now_ns)

    def _poor(self, quality: Quality, *, was_poor: bool) -> Reason | None:
        """Return the first limit that a face breaks; None for one that can be read."""
        limits, ease = self._limits, RECOVERY if was_poor else 1.0
        checks = {
            Reason.TOO_SMALL: quality.face_px * ease < limits.min_face_px,
            Reason.CUT_OFF: quality.cut > limits.max_cut * ease,
            Reason.DARK: quality.brightness * ease < limits.min_brightness,
            Reason.TURNED: abs(quality.yaw) > limits.max_yaw * ease,
            Reason.BLURRED: quality.blur > limits.max_blur * ease,
        }
        return next((reason for reason, is_broken in checks.items() if is_broken), None)

    def _filter(self, reading: _Reading, scores: Floats, now_ns: int) -> None:
        if reading.good_ns is None or self._tau_ns == 0:
            reading.values, reading.smoothed = scores.tolist(), scores
        else:
            old = exp(-max(0, now_ns - reading.good_ns) / self._tau_ns)
            pairs = zip(reading.values, scores.tolist(), strict=True)
            reading.values = [old * before + (1.0 - old) * now for before, now in pairs]
            reading.smoothed = np.array(reading.values, np.float32)
        reading.good_ns = now_ns

    def _propose(self, reading: _Reading) -> tuple[str, Reason | None]:
        """Return the emotion that the filtered scores propose, before dwell."""
        values, present = reading.values, reading.emotion
        second, best = sorted([0.0, *values])[-2:]
        label = self._labels[values.index(best)]
        is_clear = best - second >= self._margin
        if present in ("", UNCERTAIN):
            enters = is_clear and (present == "" or reading.reason is not Reason.LOW_MARGIN or best >= self._enter)
            return (label, None) if enters else (UNCERTAIN, Reason.LOW_MARGIN)
        held = values[self._labels.index(present)]
        if label != present and is_clear and best >= self._enter and best - held >= self._enter - self._exit:
            return label, None
        holds = held >= self._exit or (label == present and is_clear)
        return (present, None) if holds else (UNCERTAIN, Reason.LOW_MARGIN)

    def _apply_dwell(self, reading: _Reading, proposal: str, reason: Reason | None, now_ns: int) -> None:
        """Take the proposal over when the present emotion held long enough."""
        reading.candidate_frames = reading.candidate_frames + 1 if proposal == reading.candidate else 1
        reading.candidate = proposal
        if proposal == reading.emotion:
            reading.reason = reason
            reading.evidence_frames += 1
        elif reading.emotion == "" or now_ns - reading.since_ns >= self._dwell_ns:
            reading.emotion, reading.reason, reading.since_ns = proposal, reason, now_ns
            reading.evidence_frames = reading.candidate_frames

    def _state(self, track: Track, reading: _Reading, scores: Floats | None) -> FaceState:
        values, emotion = reading.values, reading.emotion
        return FaceState(
            track=track,
            scores=scores,
            smoothed=reading.smoothed,
            emotion=emotion,
            confidence=max(values) if emotion == UNCERTAIN else values[self._labels.index(emotion)],
            reason=reading.reason,
            since_ns=reading.since_ns,
            evidence_frames=reading.evidence_frames,
            quality=reading.quality,
        )
