"""Face detectors."""

from __future__ import annotations

from typing import Final

from edge.config.schema import DetectConfig
from edge.contract.manifest import DetectManifest
from edge.detect.base import FaceDetector, Network
from edge.registry import load_entry

DETECTORS: Final = {
    "yunet": "edge.detect.yunet:make_detector",
    "opencv_yunet": "edge.detect.opencv_yunet:make_detector",
}
"""Key of the configuration to a function that takes what `open_detector` takes."""
BUNDLED: Final = frozenset({"yunet"})
"""Detectors that run a bundle; the others bring their own file."""


def open_detector(
    config: DetectConfig, *, score: float, manifest: DetectManifest | None, network: Network | None
) -> FaceDetector:
    """Make the configured detector.

    Args:
        config: the section ``detect``.
        score: faces below it are ignored, 0..1.
        manifest: of the bundle, for the detectors of `BUNDLED`.
        network: the bundle's loaded model.

    Raises:
        UsageError: an unknown detector; the message lists the valid ones.
        ConfigError: an unknown or wrong option.
        BundleError: a bundle that the detector cannot read.
    """
    make = load_entry(DETECTORS, config.detector, what="detect.detector")
    detector: FaceDetector = make(config, score=score, manifest=manifest, network=network)
    return detector
