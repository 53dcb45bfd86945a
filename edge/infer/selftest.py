"""Whether the emotion model still reproduces its golden samples on this machine, asked while the daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.contract.bundle import expect_manifest, load_emotion_bundle
from edge.contract.manifest import EmotionManifest
from edge.infer import load_model


def run_selftest(bundle_path: Path, manifest: EmotionManifest, *, threads: int) -> Mapping[str, Any]:
    """Reads the bundle in use from the disk again, checks its hashes and replays its golden samples.

    On the CPU, beside the running model: a device that the running model holds cannot be opened twice.

    Returns:
        What was measured: model, delegate, samples, worst deviation in steps of the quantization.

    Raises:
        BundleError: the bundle is not the one that runs, does not verify, or the samples differ.
        InferenceError: the model cannot be loaded.
    """
    bundle = load_emotion_bundle(bundle_path, check=expect_manifest(bundle_path, manifest))
    loaded = load_model(bundle, threads=threads)
    try:
        return {
            "model": bundle.manifest.full_name,
            "delegate": loaded.interpreter.delegate,
            "samples": bundle.manifest.golden.count,
            "worst_steps": loaded.parity.worst_steps,
            "max_steps": loaded.parity.max_steps,
        }
    finally:
        loaded.interpreter.close()
