"""Repair: function-preserving measures first, layers in float last."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from workshop import Outcome, Workshop

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow", reason="needs the convert extra: pip install 'mien[convert]'")

from small_networks import make_badly_scaled_network, make_faces, make_swish_network  # noqa: E402

from convert.classifier.calibrate import calibrate  # noqa: E402
from convert.classifier.equalize import equalize  # noqa: E402
from convert.classifier.quantize import quantize_int8  # noqa: E402
from convert.classifier.repair import correct_biases, divergence, narrow_ranges, rank_layers, run_logits  # noqa: E402
from convert.classifier.sources import keras_source  # noqa: E402
from convert.tflite.graph import Graph  # noqa: E402
from convert.tflite.inspect import int8_macs_share  # noqa: E402

PIXELS = make_faces(140, seed=41)[0][..., np.newaxis]


@pytest.fixture(scope="module")
def badly_scaled() -> bytes:
    return keras_source(make_badly_scaled_network(), path=Path("badly_scaled")).tflite


@pytest.fixture(scope="module")
def swish() -> bytes:
    return keras_source(make_swish_network(), path=Path("swish")).tflite


def test_equalization_keeps_the_function_and_levels_the_channels(badly_scaled: bytes) -> None:
    equalized, pairs = equalize(badly_scaled)
    assert pairs >= 1
    before, after = run_logits(badly_scaled, PIXELS), run_logits(equalized, PIXELS)
    assert np.abs(before - after).max() < 1e-3

    def spread(model: bytes) -> float:
        graph = Graph(model)
        weights = graph.constant(graph.weighted_ops()[0].inputs[1])
        assert weights is not None
        ranges = np.abs(weights).max(axis=(1, 2, 3))
        return float(ranges.max() / ranges.min())

    assert spread(badly_scaled) > 100
    assert spread(equalized) < 10


def test_equalization_leaves_pairs_alone_that_a_factor_does_not_pass_through(swish: bytes) -> None:
    equalized, _ = equalize(swish)
    graphs = [Graph(model) for model in (swish, equalized)]
    loud = [next(op for op in graph.weighted_ops() if "loud" in graph.name(op.outputs[0])) for graph in graphs]
    biases = [graph.constant(op.inputs[2]) for graph, op in zip(graphs, loud, strict=True)]
    assert biases[0] is not None
    assert biases[1] is not None
    np.testing.assert_array_equal(biases[0], biases[1])


def test_the_logits_range_is_cut_where_a_logit_far_below_the_others_does_not_matter(swish: bytes) -> None:
    calibrated = calibrate(swish, PIXELS)
    narrowed = Graph(narrow_ranges(calibrated, PIXELS))
    before, after = Graph(calibrated).calibrated_range(Graph(calibrated).outputs[0]), None
    after = narrowed.calibrated_range(narrowed.outputs[0])
    assert before is not None
    assert after is not None
    assert after[0] > before[0] / 2
    assert after[0] <= 0 <= after[1]


def test_a_planted_shift_of_a_bias_is_found_and_taken_off(badly_scaled: bytes) -> None:
    calibrated = calibrate(equalize(badly_scaled)[0], PIXELS)
    reference = run_logits(calibrated, PIXELS)
    plain = divergence(reference, run_logits(quantize_int8(calibrated), PIXELS))
    corrected = divergence(reference, run_logits(quantize_int8(correct_biases(calibrated, PIXELS)), PIXELS))
    assert corrected < 1.5 * plain + 1e-3


def test_the_ranking_puts_the_operators_around_the_loud_channel_first(swish: bytes) -> None:
    calibrated = calibrate(swish, PIXELS)
    ranked = rank_layers(calibrated, PIXELS, note=lambda text: None)
    worst = " ".join(name for name, _ in ranked[:6])
    assert "loud" in worst
    assert "reader" in worst
    assert ranked[0][1] > 100 * ranked[-1][1]


def test_swish_squeeze_and_excite_and_a_wide_head_come_back_with_most_of_the_work_in_int8(
    workshop: Workshop, mien_convert: Callable[..., Outcome], tmp_path: Path
) -> None:
    make_swish_network().save(tmp_path / "swish.keras")
    arguments = workshop.arguments(tmp_path / "swish", model=tmp_path / "swish.keras")
    arguments[arguments.index("--labels") + 1] += ",contempt"
    said = mien_convert(*arguments, "--repair", "--json", tmp_path / "r.json")
    assert said.code == 0, said.err
    steps = json.loads((tmp_path / "r.json").read_bytes())["repair"]
    assert steps[0]["name"] == "plain int8"
    assert steps[0]["drop"] > 10
    chosen = next(step for step in steps if step["chosen"])
    assert chosen["drop"] <= 1
    assert 0.8 <= chosen["int8_macs_share"] < 1
    assert "in float" in chosen["name"]
    assert int8_macs_share(Graph((tmp_path / "swish" / "model.tflite").read_bytes())) == chosen["int8_macs_share"]
