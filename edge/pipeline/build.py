"""Puts the parts together as a configuration asks: the one place that knows which classes make a pipeline."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.bundles.locate import shipped_bundles
from edge.bundles.select import BundleRules, ChosenBundle, choose_bundle, rules_of
from edge.bundles.signing import check_keys
from edge.config.schema import Config, EmotionConfig
from edge.contract.bundle import load_detect_bundle, load_emotion_bundle
from edge.contract.manifest import AnyManifest, DetectManifest, EmotionManifest
from edge.detect import BUNDLED, open_detector
from edge.detect.base import FaceDetector
from edge.errors import BundleError
from edge.infer import LoadedModel
from edge.infer.base import Interpreter
from edge.infer.classifier import EmotionClassifier
from edge.infer.delegate_fallback import DelegateSupervisor, DelegateUpdate
from edge.infer.delegates import parse_delegate
from edge.pipeline.detection_schedule import make_schedule
from edge.pipeline.events import EventMaker
from edge.pipeline.smoothing import EmotionSmoother
from edge.pipeline.step import Pipeline
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
"""What makes every picture stand for itself."""
AUTO_WIDTH, SMALL_WIDTH, SMALL_CAMERA_WIDTH = 640, 320, 352
"""``detect.bundle = "auto"`` takes 640 pixels, for cameras up to 352 pixels wide 320."""


@dataclass(slots=True)
class BuiltPipeline:
    """A pipeline with what it was made of, for those who report or measure.

    Attributes:
        pipeline: ready to step.
        detector: the face detector.
        detector_bundle: its bundle as chosen; None where it is the user's own file.
        emotion: the emotion model as loaded on this machine.
        emotion_bundle: its bundle as chosen.
        delegate_reason: why the CPU runs the model instead of the delegate that was asked for; None when it does not.
        delegate_supervisor: what tries the delegate again; None where the CPU was asked for.
    """

    pipeline: Pipeline
    detector: FaceDetector
    detector_bundle: BundleInfo | None
    emotion: LoadedModel
    emotion_bundle: BundleInfo
    delegate_reason: str | None = None
    delegate_supervisor: DelegateSupervisor | None = None

    @property
    def emotion_manifest(self) -> EmotionManifest:
        """What the emotion model says of itself."""
        manifest = self.emotion_bundle.manifest
        assert isinstance(manifest, EmotionManifest)
        return manifest

    @property
    def detector_manifest(self) -> AnyManifest | None:
        """What the detector says of itself; None where it is the user's own file."""
        return self.detector_bundle.manifest if self.detector_bundle else None

    @property
    def bundles(self) -> tuple[BundleInfo, ...]:
        """Both bundles, the emotion model's first."""
        return (self.emotion_bundle, *([self.detector_bundle] if self.detector_bundle else []))

    def apply_update(self, news: DelegateUpdate) -> None:
        """Takes over what became of the delegate; the thread that steps the pipeline calls it."""
        self.delegate_reason = news.reason
        if news.model is not None:
            self.emotion = news.model
            self.pipeline.replace_interpreter(news.model.interpreter)


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What is worth knowing of a bundle whose golden pictures are gone from memory.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        source: ``shipped``, or its folder.
        reason: why it is not the one that was asked for; None when it is.
    """

    path: Path
    manifest: AnyManifest
    source: str
    reason: str | None

    @classmethod
    def of(cls, chosen: ChosenBundle[AnyManifest]) -> BundleInfo:
        """Of a chosen one."""
        return cls(chosen.bundle.path, chosen.bundle.manifest, chosen.source, chosen.reason)


def build_pipeline(
    config: Config,
    *,
    frame_wh: tuple[int, int] | None,
    seed: int | None = None,
    metrics: Metrics | None = None,
    crash_guard: CrashGuard | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> BuiltPipeline:
    """Loads the models, replays their golden samples and connects the stages.

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
    chosen = choose_bundle(
        config.emotion.bundle,
        load_emotion_bundle,
        fallback=EmotionConfig().bundle,
        rules=rules,
        crash_guard=crash_guard,
    )
    detector_bundle, network = _choose_detector(config, frame_wh, rules=rules, crash_guard=crash_guard)
    tracker_score = min(config.detect.score, config.track.keep_score)
    detector = open_detector(
        config.detect,
        score=tracker_score,
        bundle=detector_bundle.bundle if detector_bundle else None,
        network=network,
    )
    rng = random.Random(seed) if seed is not None else random.SystemRandom()
    manifest = chosen.bundle.manifest
    pipeline = Pipeline(
        detector=detector,
        tracker=open_tracker(config.track, new_id=TrackIds(rng), start_score=config.detect.score),
        classifier=EmotionClassifier(chosen.bundle, chosen.model.interpreter),
        smoother=EmotionSmoother(
            manifest.labels, smooth=config.smooth, quality=config.quality, min_margin=manifest.thresholds.margin
        ),
        events=EventMaker(itertools.count(1).__next__),
        schedule=make_schedule(config.detect),
        metrics=metrics or Metrics(),
    )
    built = BuiltPipeline(
        pipeline,
        detector,
        BundleInfo.of(detector_bundle) if detector_bundle else None,
        chosen.model,
        BundleInfo.of(chosen),
    )
    if delegate is not None:
        built.delegate_supervisor = DelegateSupervisor(
            delegate,
            chosen.bundle.path,
            threads=config.emotion.threads,
            crash_guard=crash_guard or CrashGuard(None),
            retry_s=config.emotion.retry_s,
            cancelled=cancelled,
        )
        built.apply_update(built.delegate_supervisor.try_now())
    return built


def _choose_detector(
    config: Config, frame_wh: tuple[int, int] | None, *, rules: BundleRules, crash_guard: CrashGuard | None
) -> tuple[ChosenBundle[DetectManifest] | None, Interpreter | None]:
    """The bundle and network of a detector that takes one."""
    if config.detect.detector not in BUNDLED:
        return None, None
    auto = _shipped_detector(frame_wh)
    name = auto if config.detect.bundle == "auto" else config.detect.bundle
    chosen = choose_bundle(name, load_detect_bundle, fallback=auto, rules=rules, crash_guard=crash_guard)
    return chosen, chosen.model.interpreter


def _shipped_detector(frame_wh: tuple[int, int] | None) -> str:
    """Name of the shipped detector nearest in shape to the camera."""
    width, height = frame_wh or (4, 3)
    wanted = SMALL_WIDTH if frame_wh and width <= SMALL_CAMERA_WIDTH else AUTO_WIDTH
    shipped = [name for name in shipped_bundles() if name.startswith(f"yunet-{wanted}x")]

    def misfit(name: str) -> float:
        canvas_height = int(name.rpartition("x")[2])
        scale = min(wanted / width, canvas_height / height)
        return abs(1 - scale * scale * width * height / (wanted * canvas_height))

    if not shipped:
        raise BundleError("detect.bundle", f"auto: no detector {wanted} wide is shipped")
    return min(shipped, key=misfit)
