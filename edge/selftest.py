"""Whether the emotion model still reproduces its golden samples on this machine, asked while the daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.config import EmotionConfig
from edge.contract.bundle import find_bundle, load_emotion_bundle
from edge.infer import load_model


def run_selftest(config: EmotionConfig) -> Mapping[str, Any]:
    """Reads the bundle from the disk again, checks its hashes and replays its golden samples beside the running model.

    Returns:
        What was measured: model, delegate, samples, worst deviation in steps of the quantization.

    Raises:
        BundleError: the bundle does not verify, or the samples differ.
        InferenceError: the model cannot be loaded.
    """
    bundle = load_emotion_bundle(find_bundle(config.bundle))
    loaded = load_model(bundle, delegate=config.delegate, threads=config.threads)
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
