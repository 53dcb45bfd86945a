"""A Keras classifier as a float32 bundle, so that a test can run the same weights on the device's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convert.bundle_writer import describe_golden, describe_model, write_bundle
from convert.frameworks import freeze_to_tflite
from edge.contract.bundle import Bundle
from edge.contract.golden import Golden
from edge.contract.labels import LABELS
from edge.contract.manifest import (
    Crop,
    EmotionManifest,
    InputSpec,
    OutputSpec,
    Quantization,
    Thresholds,
    TrainedFrom,
)


def write_float_bundle(model: Any, folder: Path) -> None:
    """Writes a bundle of a Keras model that takes grey pixels 0..255 and puts out logits of our seven labels."""
    _, side, _, channels = model.input_shape
    tflite = freeze_to_tflite(lambda pixels: model(pixels, training=False), (1, side, side, channels))
    pixels = np.random.default_rng(1).integers(0, 256, (2, side, side, channels), np.uint8)
    logits = np.array(model.predict(pixels.astype(np.float32), verbose=0), np.float32)
    golden = Golden(pixels, (logits,), ("synthetic seed 1",) * 2)
    manifest = EmotionManifest(
        schema="mien.manifest/1",
        name="float",
        version="1.0.0",
        status="passed",
        model=describe_model(tflite),
        edgetpu_model=None,
        input=InputSpec(shape=(1, side, side, channels), dtype="float32", colour="grey"),
        outputs=(OutputSpec(name="logits", shape=(1, len(LABELS)), dtype="float32", scale=1.0, zero_point=0),),
        quantization=Quantization(scheme="float32", recipe="test", calibration=None),
        trained_from=TrainedFrom(git="", recipe="test", datasets=()),
        metrics=(),
        golden=describe_golden(golden, max_steps_xnnpack=1, max_steps_other=4),
        licence="Apache-2.0",
        notices=(),
        labels=LABELS,
        crop=Crop(geometry="square", version=1, size_px=side, margin=0.99),
        temperature=1.0,
        thresholds=Thresholds(margin=0.0),
    )
    write_bundle(folder, Bundle(folder, manifest, tflite, None, golden))
