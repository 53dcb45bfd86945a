"""What is measured in a child process, and what is not computed twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from workshop import Workshop

from convert.tflite.latency import measure_latency
from edge.errors import ConversionError


def test_each_number_of_threads_is_measured_and_the_delegate_counted(small_bundle: Path) -> None:
    found = measure_latency((small_bundle / "model.tflite").read_bytes(), threads=[1, 2])
    assert [one.threads for one in found] == [1, 2]
    for one in found:
        assert 0 < one.p50_ms <= one.p95_ms
        assert (one.delegated_nodes, one.total_nodes) == (1, 1)


def test_a_file_that_is_no_model_is_one_clear_error() -> None:
    with pytest.raises(ConversionError, match="the model's latency cannot be measured: ") as caught:
        measure_latency(b"no model at all", threads=[1])
    assert "\n" not in str(caught.value)


@pytest.mark.tensorflow
def test_the_original_computes_the_same_pictures_once(workshop: Workshop) -> None:
    from small_networks import make_faces

    from convert.classifier.load import _predictor

    calls = []

    def run(pixels: np.ndarray) -> np.ndarray:
        calls.append(len(pixels))
        return pixels.reshape(len(pixels), -1)[:, :7]

    predict = _predictor(run, None, from_probabilities=False)
    pixels = make_faces(20, seed=1)[0][..., np.newaxis]
    first = predict(pixels)
    first[:] = 0
    assert np.array_equal(predict(pixels), pixels.reshape(20, -1)[:, :7])
    assert calls == [20]
    predict(pixels[:10])
    assert calls == [20, 10]
