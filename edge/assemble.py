"""Puts the parts together as a configuration asks: the one place that knows which classes make a pipeline."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from edge.capture import check_source
from edge.config import Config, shown
from edge.contract.bundle import (
    MANIFEST_FILE,
    Bundle,
    find_bundle,
    load_detect_bundle,
    load_emotion_bundle,
    shipped_bundles,
)
from edge.contract.manifest import DetectManifest, EmotionManifest
from edge.detect import BUNDLED, DETECTORS, open_detector
from edge.detect.base import FaceDetector
from edge.errors import BundleError, ConfigError
from edge.events import EventMaker
from edge.infer import DELEGATES, LoadedModel, load_model
from edge.infer.classifier import EmotionClassifier
from edge.metrics import Metrics
from edge.pipeline import Pipeline
from edge.publish import check_sinks
from edge.schedule import make_schedule
from edge.smooth import EmotionSmoother
from edge.track import TRACKERS, open_tracker
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


@dataclass(frozen=True, slots=True)
class Assembly:
    """A pipeline with its parts, for those who tell or measure.

    Attributes:
        pipeline: ready to step.
        detector: the face detector.
        detector_manifest: of its bundle; None where it is the user's own file.
        emotion: the emotion model as loaded on this machine.
        emotion_manifest: of its bundle.
    """

    pipeline: Pipeline
    detector: FaceDetector
    detector_manifest: DetectManifest | None
    emotion: LoadedModel
    emotion_manifest: EmotionManifest


def assemble(
    config: Config, *, frame_wh: tuple[int, int] | None, seed: int | None = None, metrics: Metrics | None = None
) -> Assembly:
    """Loads the models, replays their golden samples and connects the stages.

    Args:
        config: the configuration.
        frame_wh: size of the frames to come, for ``detect.bundle = "auto"``; None where they are of any shape.
        seed: makes track ids reproducible; None draws them anew.
        metrics: where durations go.

    Raises:
        BundleError: a bundle does not verify.
        MienError: a detector, delegate or interpreter that cannot be had.
    """
    emotion_bundle = load_emotion_bundle(find_bundle(config.emotion.bundle))
    _check_status(emotion_bundle, allow_failed=config.emotion.allow_failed)
    threads = config.emotion.threads
    emotion = load_model(emotion_bundle, delegate=config.emotion.delegate, threads=threads)
    detector_bundle = _choose_detector(config, frame_wh)
    network = load_model(detector_bundle, threads=threads).interpreter if detector_bundle else None
    tracker_score = min(config.detect.score, config.track.keep_score)
    detector = open_detector(config.detect, score=tracker_score, bundle=detector_bundle, network=network)
    rng = random.Random(seed) if seed is not None else random.SystemRandom()
    manifest = emotion_bundle.manifest
    pipeline = Pipeline(
        detector=detector,
        tracker=open_tracker(config.track, new_id=TrackIds(rng), start_score=config.detect.score),
        classifier=EmotionClassifier(emotion_bundle, emotion.interpreter),
        smoother=EmotionSmoother(
            manifest.labels, smooth=config.smooth, quality=config.quality, min_margin=manifest.thresholds.margin
        ),
        events=EventMaker(itertools.count(1).__next__),
        schedule=make_schedule(config.detect),
        metrics=metrics or Metrics(),
    )
    # The bundles themselves go: their golden pictures are many times larger than the models.
    detector_manifest = detector_bundle.manifest if detector_bundle else None
    return Assembly(pipeline, detector, detector_manifest, emotion, manifest)


def check_config(config: Config, *, file: str) -> None:
    """What can be known of a configuration without opening a camera or a broker: names, options, bundles, files.

    Args:
        config: the decoded configuration.
        file: named in errors.

    Raises:
        MienError: what would stop the daemon at its start.
    """
    check_choices(config, file=file)
    assemble(config, frame_wh=(config.camera.width, config.camera.height)).pipeline.close()


def check_choices(config: Config, *, file: str) -> None:
    """Names of alternatives and options of sources: what the types of the configuration leave open.

    Args:
        config: the decoded configuration.
        file: named in errors.

    Raises:
        ConfigError: an unknown name; the message lists the valid ones.
    """
    for key, name, table in (
        ("detect.detector", config.detect.detector, DETECTORS),
        ("track.tracker", config.track.tracker, TRACKERS),
        ("emotion.delegate", config.emotion.delegate, DELEGATES),
    ):
        if name not in table:
            raise ConfigError(file, key, f"{shown(name)} is unknown; there are {', '.join(table)}")
    check_source(config.camera, file=file)
    check_sinks(config, file=file)


def _check_status(bundle: Bundle[EmotionManifest], *, allow_failed: bool) -> None:
    if bundle.manifest.status == "failed" and not allow_failed:
        raise BundleError(
            bundle.path / MANIFEST_FILE,
            "status: failed: the model lost more accuracy than was allowed; emotion.allow_failed = true runs it anyway",
        )


def _choose_detector(config: Config, frame_wh: tuple[int, int] | None) -> Bundle[DetectManifest] | None:
    """The bundle for a detector that takes one: as configured, or the shipped one nearest in shape to the camera."""
    if config.detect.detector not in BUNDLED:
        return None
    if config.detect.bundle != "auto":
        return load_detect_bundle(find_bundle(config.detect.bundle))
    width, height = frame_wh or (4, 3)
    wanted = SMALL_WIDTH if frame_wh and width <= SMALL_CAMERA_WIDTH else AUTO_WIDTH
    shipped = [name for name in shipped_bundles() if name.startswith(f"yunet-{wanted}x")]

    def misfit(name: str) -> float:
        canvas_height = int(name.rpartition("x")[2])
        scale = min(wanted / width, canvas_height / height)
        return abs(1 - scale * scale * width * height / (wanted * canvas_height))

    if not shipped:
        raise BundleError("detect.bundle", f"auto: no detector {wanted} wide is shipped")
    return load_detect_bundle(find_bundle(min(shipped, key=misfit)))
