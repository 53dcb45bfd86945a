"""Construction of the pipeline from a configuration: the one place that knows which classes it is made of."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from edge.bundles.locate import shipped_bundles
from edge.bundles.select import BundleRules, ChosenBundle, choose_bundle, rules_of
from edge.bundles.signing import check_keys
from edge.config.schema import Config, EmotionConfig
from edge.contract.bundle import load_detect_bundle, load_emotion_bundle
from edge.contract.manifest import DetectManifest, EmotionManifest
from edge.detect import BUNDLED, open_detector
from edge.detect.base import FaceDetector
from edge.errors import BundleError
from edge.infer.classifier import EmotionClassifier
from edge.infer.delegate_fallback import DelegateSupervisor, DelegateUpdate
from edge.infer.delegates import parse_delegate
from edge.pipeline.conclusions import Conclusions
from edge.pipeline.detection_schedule import DetectionSchedule
from edge.pipeline.events import EventMaker
from edge.pipeline.mirror import ViewSchedule
from edge.pipeline.registration import Registration
from edge.pipeline.smoothing import EmotionSmoother
from edge.pipeline.step import Pipeline
from edge.pipeline.trace import TraceWriter, make_header
from edge.system.crash_guard import CrashGuard
from edge.system.metrics import Metrics
from edge.track import open_tracker
from edge.track.ids import TrackIds

STILLS_OVERRIDES = {
    "detect.schedule": '"every_frame"',
    "track.confirm_ms": "0",
    "smooth.time_constant_ms": "0",
    "smooth.min_dwell_ms": "0",
}
"""Settings with which every picture stands for itself."""
AUTO_WIDTH, SMALL_WIDTH, SMALL_CAMERA_WIDTH = 640, 320, 352
"""``detect.bundle = "auto"`` takes 640 pixels, for cameras up to 352 pixels wide 320."""


OpenedDetector = tuple[FaceDetector, ChosenBundle[DetectManifest] | None]
"""A detector with its bundle; None where it is the user's own file."""


@dataclass(slots=True)
class BuiltPipeline:
    """A pipeline with its parts, for reports and measurements.

    Attributes:
        pipeline: ready to step.
        detector: the face detector.
        detector_bundle: its bundle; None where it is the user's own file.
        emotion: the emotion model's bundle, with the model as it runs now.
        delegate_reason: why the CPU runs the model instead of the configured delegate; None when it does not.
        delegate_supervisor: tries the delegate again; None where the CPU was asked for.
        reopen_detector: opens the configured detector again, or (True) a smaller one.
        is_small: whether the smaller one is in use.
    """

    pipeline: Pipeline
    detector: FaceDetector
    detector_bundle: ChosenBundle[DetectManifest] | None
    emotion: ChosenBundle[EmotionManifest]
    delegate_reason: str | None = None
    delegate_supervisor: DelegateSupervisor | None = None
    reopen_detector: Callable[[bool], OpenedDetector] | None = None
    is_small: bool = False

    @property
    def bundles(self) -> tuple[ChosenBundle[Any], ...]:
        """Both bundles, the emotion model's first."""
        return (self.emotion, self.detector_bundle) if self.detector_bundle else (self.emotion,)

    def use_small_detector(self, *, small: bool) -> bool:
        """Look with a shipped detector for 320 pixels, or with the configured one again.

        Returns:
            Whether something changed: a detector of the user's own, and one that is as small, stays.
        """
        name = self.detector_bundle.manifest.name if self.detector_bundle else ""
        is_smallest = name.startswith(f"yunet-{SMALL_WIDTH}x") and not self.is_small
        if small == self.is_small or self.reopen_detector is None or self.detector_bundle is None or is_smallest:
            return False
        self.detector, self.detector_bundle = self.reopen_detector(small)
        self.pipeline.replace_detector(self.detector)
        self.is_small = small
        return True

    def write_trace(self, config: Config, write: Callable[[bytes], object], *, stills: bool) -> None:
        """Take down what is seen from now on, in numbers; see `edge.pipeline.trace`.

        Args:
            config: the configuration that the pipeline was built with.
            write: takes each line of the trace.
            stills: True where every picture stands for itself.
        """
        manifest, delegate = self.emotion.manifest, self.emotion.model.interpreter.delegate
        self.pipeline.trace = TraceWriter(make_header(config, manifest, delegate=delegate, stills=stills), write)

    def apply_update(self, update: DelegateUpdate) -> None:
        """Switch to the delegate that works now, or note why it does not; called by the thread that steps."""
        self.delegate_reason = update.reason
        if update.model is not None:
            self.emotion = replace(self.emotion, model=update.model)
            self.pipeline.replace_interpreter(update.model.interpreter)


def build_pipeline(
    config: Config,
    *,
    frame_wh: tuple[int, int] | None,
    seed: int | None = None,
    metrics: Metrics | None = None,
    crash_guard: CrashGuard | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> BuiltPipeline:
    """Load the models, replay their golden samples and connect the stages.

    Args:
        config: the configuration.
        frame_wh: size of the frames to come, for ``detect.bundle = "auto"``; None where they are of any shape.
        seed: makes track ids reproducible; None draws them anew.
        metrics: where durations go.
        crash_guard: of the running service: a bundle that cannot be used is replaced by the one before it, a delegate
            with which the service crashed is disabled for a while. None: the bundles as configured, or an error.
        cancelled: asked while a delegate is tried; the CPU is used when it says so.

    Raises:
        BundleError: no bundle verifies.
        MienError: a detector, delegate or interpreter that cannot be had.
    """
    check_keys(config.bundles.trusted_keys)
    delegate = parse_delegate(config.emotion)
    rules = rules_of(config)
    emotion = choose_bundle(
        config.emotion.bundle,
        load_emotion_bundle,
        fallback=EmotionConfig().bundle,
        rules=rules,
        crash_guard=crash_guard,
    )

    def reopen_detector(small: bool) -> OpenedDetector:
        bundle = _choose_detector(config, frame_wh, rules=rules, crash_guard=crash_guard, small=small)
        detector = open_detector(
            config.detect,
            score=min(config.detect.score, config.track.keep_score),
            manifest=bundle.manifest if bundle else None,
            network=bundle.model.interpreter if bundle else None,
        )
        return detector, bundle

    detector, detector_bundle = reopen_detector(False)
    new_id = TrackIds(random.SystemRandom() if seed is None else random.Random(seed))
    pipeline = Pipeline(
        detector=detector,
        tracker=open_tracker(config.track, new_id=new_id, start_score=config.detect.score),
        classifier=EmotionClassifier(emotion.manifest, emotion.model.interpreter, prior=config.emotion.prior),
        conclusions=Conclusions(
            EmotionSmoother(
                emotion.manifest.labels,
                smooth=config.smooth,
                quality=config.quality,
                min_margin=emotion.manifest.thresholds.margin,
            ),
            EventMaker(itertools.count(1).__next__, uncertain=config.events.uncertain),
        ),
        schedule=DetectionSchedule(config.detect),
        registration=None if config.detect.schedule == "every_frame" else Registration(),
        views=ViewSchedule(mirror=config.emotion.mirror, time_constant_ms=config.smooth.time_constant_ms),
        metrics=metrics or Metrics(),
    )
    built = BuiltPipeline(pipeline, detector, detector_bundle, emotion, reopen_detector=reopen_detector)
    if delegate is not None:
        built.delegate_supervisor = DelegateSupervisor(
            delegate,
            emotion.path,
            emotion.manifest,
            threads=config.emotion.threads,
            crash_guard=crash_guard or CrashGuard(None),
            retry_s=config.emotion.retry_s,
            cancelled=cancelled,
        )
        built.apply_update(built.delegate_supervisor.try_now())
    return built


def _choose_detector(
    config: Config,
    frame_wh: tuple[int, int] | None,
    *,
    rules: BundleRules,
    crash_guard: CrashGuard | None,
    small: bool,
) -> ChosenBundle[DetectManifest] | None:
    """Load the bundle of a detector that takes one; ``small`` is a shipped one whatever is configured."""
    if config.detect.detector not in BUNDLED:
        return None
    auto = _shipped_detector(frame_wh, small=small)
    name = auto if small or config.detect.bundle == "auto" else config.detect.bundle
    return choose_bundle(name, load_detect_bundle, fallback=auto, rules=rules, crash_guard=crash_guard)


def _shipped_detector(frame_wh: tuple[int, int] | None, *, small: bool) -> str:
    """Return the name of the shipped detector nearest in shape to the camera."""
    width, height = frame_wh or (4, 3)
    wanted = SMALL_WIDTH if small or (frame_wh and width <= SMALL_CAMERA_WIDTH) else AUTO_WIDTH

    def misfit(name: str) -> float:
        canvas_height = int(name.rpartition("x")[2])
        scale = min(wanted / width, canvas_height / height)
        return abs(1 - scale * scale * width * height / (wanted * canvas_height))

    shipped = [name for name in shipped_bundles() if name.startswith(f"yunet-{wanted}x")]
    if not shipped:
        raise BundleError("detect.bundle", f"auto: no detector {wanted} wide is shipped")
    return min(shipped, key=misfit)
