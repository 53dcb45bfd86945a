"""Quantization-aware fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workshop import Outcome, Workshop

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning"),
]
keras = pytest.importorskip("keras", reason="needs the convert extra: pip install 'mien[convert]'")

from small_networks import SIZE_PX, make_badly_scaled_network, make_faces  # noqa: E402

from convert.classifier.calibrate import calibrate  # noqa: E402
from convert.classifier.load import load_model  # noqa: E402
from convert.classifier.qat import fine_tune, fold_batch_norms  # noqa: E402
from convert.classifier.quantize import quantize_int8  # noqa: E402
from convert.classifier.repair import run_logits  # noqa: E402
from edge.errors import UsageError  # noqa: E402


def make_normalized_network() -> Any:
    """Convolution, depthwise and dense layers, each with a batch normalization whose statistics are not trivial."""
    layers, rng = keras.layers, np.random.default_rng(3)
    pixels = keras.Input((SIZE_PX, SIZE_PX, 1))
    x = layers.Rescaling(1 / 255)(pixels)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, use_bias=False)(x)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.BatchNormalization(scale=False)(layers.Dense(8)(x))
    model = keras.Model(pixels, layers.Dense(7)(x))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.abs(rng.normal(1, 0.4, part.shape)) + 0.1 for part in layer.get_weights()])
    return model


def test_folding_keeps_the_function_and_removes_every_normalization() -> None:
    model = make_normalized_network()
    folded = fold_batch_norms(model)
    pixels = make_faces(14, seed=71)[0][..., np.newaxis].astype(np.float32)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), folded.predict(pixels, verbose=0), atol=2e-4)
    assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_fine_tuning_brings_back_most_of_what_plain_int8_loses(tmp_path: Path) -> None:
    make_badly_scaled_network().save(tmp_path / "broken.keras")
    model = load_model(tmp_path / "broken.keras", arithmetic=None)
    images, labels = make_faces(700, seed=72)
    pixels, train = images[..., np.newaxis], make_faces(1050, seed=73)[0][..., np.newaxis]
    tuned = fine_tune(model, train, arithmetic=None, epochs=4, note=lambda text: None)

    def accuracy(tflite: bytes) -> float:
        logits = run_logits(quantize_int8(calibrate(tflite, train[:140])), pixels)
        return float((logits.argmax(1) == labels).mean())

    plain, after = accuracy(model.tflite), accuracy(tuned.tflite)
    assert plain < 0.9
    assert after > plain + 0.08
    np.testing.assert_array_equal(tuned.predict(pixels[:7]), model.predict(pixels[:7]))


def test_the_command_records_the_fine_tuning_in_the_recipe(
    workshop: Workshop, mien_convert: Callable[..., Outcome], tmp_path: Path
) -> None:
    from edge.contract.bundle import load_emotion_bundle

    said = mien_convert(*workshop.arguments(tmp_path / "out"), "--qat", "1")
    assert said.code == 0, said.err
    recipe = load_emotion_bundle(tmp_path / "out").manifest.quantization.recipe
    assert "quantization-aware fine-tuning, epochs: 1" in recipe


def test_only_keras_files_can_be_trained_on(workshop: Workshop) -> None:
    from dataclasses import replace

    model = replace(load_model(workshop.keras, arithmetic=None), kind="onnx")
    with pytest.raises(UsageError, match="only Keras files"):
        fine_tune(model, np.zeros((1, SIZE_PX, SIZE_PX, 1), np.uint8), arithmetic=None, epochs=1, note=print)
