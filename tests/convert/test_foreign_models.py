"""Models from elsewhere: other files, colours, sizes, heads and labels, with no code written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workshop import LABELS, Outcome, Workshop

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow", reason="needs the convert extra: pip install 'mien[convert]'")

from small_networks import SIZE_PX, fit_head, make_faces, make_network  # noqa: E402

from convert.arguments import parse_arithmetic  # noqa: E402
from convert.classifier.load import FloatModel, Form, InputArithmetic, load_model  # noqa: E402
from convert.classifier.quantize import quantize  # noqa: E402
from convert.classifier.repair import run_logits  # noqa: E402
from convert.classifier.sanity import check_scaling  # noqa: E402
from convert.evaluation.verdict import EvaluationSet  # noqa: E402
from convert.frameworks import brief  # noqa: E402
from convert.tflite.graph import Graph  # noqa: E402
from edge.contract.bundle import load_emotion_bundle  # noqa: E402
from edge.errors import ModelFileError, UsageError  # noqa: E402

PICTURES, CLASSES = make_faces(210, seed=51)
PIXELS = PICTURES[..., np.newaxis]


def accuracy(model: FloatModel) -> float:
    return float((model.predict(PIXELS).argmax(1) == CLASSES).mean())


def assert_same_function(model: FloatModel, pixels: np.ndarray[Any, Any]) -> None:
    """The float graph and the original agree up to the constant that a softmax takes away."""
    original, graph = model.predict(pixels), run_logits(model.tflite, pixels)
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in (original, graph)]
    assert np.abs(centred[0] - centred[1]).max() < 2e-3


def test_a_saved_model_converts_through_its_signature(workshop: Workshop, tmp_path: Path) -> None:
    make_network().export(tmp_path / "saved", verbose=False)
    model = load_model(tmp_path / "saved", arithmetic=None)
    assert (model.kind, model.input_shape, model.classes) == ("savedmodel", (SIZE_PX, SIZE_PX, 1), 7)
    assert accuracy(model) > 0.95
    assert_same_function(model, PIXELS)


def test_a_saved_model_of_several_signatures_is_read_through_the_named_one(tmp_path: Path) -> None:
    class Two(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32)])  # type: ignore[untyped-decorator]
        def faces(self, pixels: Any) -> Any:
            return tf.reshape(pixels, (-1, 64))[:, :7] / 255.0

        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.uint8)])  # type: ignore[untyped-decorator]
        def bytes(self, pixels: Any) -> Any:
            return tf.reshape(tf.cast(pixels, tf.float32), (-1, 64))[:, :7]

    module = Two()
    signatures = {name: getattr(module, name).get_concrete_function() for name in ("faces", "bytes")}
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signatures)
    assert load_model(tmp_path / "saved", arithmetic=None, form=Form(signature="faces")).classes == 7
    with pytest.raises(UsageError, match="no 'serving_default'; it has bytes, faces"):
        load_model(tmp_path / "saved", arithmetic=None)
    with pytest.raises(ModelFileError, match="bytes takes uint8; export it with a float32 input"):
        load_model(tmp_path / "saved", arithmetic=None, form=Form(signature="bytes"))


def test_a_network_trained_in_mixed_precision_converts_in_float32(tmp_path: Path) -> None:
    import keras

    pixels = keras.Input((SIZE_PX, SIZE_PX, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", dtype="mixed_float16")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.BatchNormalization(dtype="mixed_float16")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="mixed_float16")(x)
    network = keras.Model(pixels, keras.layers.Dense(7, dtype="float32")(x))
    network.save(tmp_path / "mixed.keras")
    model = load_model(tmp_path / "mixed.keras", arithmetic=None)
    assert_same_function(model, PIXELS)
    assert np.abs(model.predict(PIXELS) - network.predict(PIXELS.astype(np.float32), verbose=0)).max() < 2e-2


def test_float16_weights_are_named(tmp_path: Path) -> None:
    converter = tf.lite.TFLiteConverter.from_keras_model(make_network())
    converter.optimizations, converter.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
    (tmp_path / "half.tflite").write_bytes(converter.convert())
    with pytest.raises(ModelFileError, match="its weights are float16; bring the same model with float32 weights"):
        load_model(tmp_path / "half.tflite", arithmetic=None)


def test_a_frameworks_error_is_told_in_whole_sentences_without_places_in_code() -> None:
    said = "/a/b.py:129:1: error: 'tf.Mul' op is neither a custom op nor a flex op\nserve(Reader())"
    assert brief(ValueError(said)) == "TFLite has no tf.Mul for what this model gives it"
    assert brief(ValueError("<unknown>:0: error: it is too wide")) == "it is too wide"
    assert brief(ValueError("The layer is not known to this version. " + "More of it " * 30)) == (
        "The layer is not known to this version."
    )


def test_a_float_tflite_converts_and_its_softmax_goes(tmp_path: Path) -> None:
    network = make_network(softmax=True)
    (tmp_path / "m.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    model = load_model(tmp_path / "m.tflite", arithmetic=None)
    assert (model.kind, model.softmax_removed) == ("tflite", True)
    graph = Graph(model.tflite)
    assert "SOFTMAX" not in [op.name for op in graph.ops()]
    names = [graph.name(index) for index in range(graph.tensor_count)]
    assert len(set(names)) == len(names)
    assert not any(";" in name for name in names), "a fused operator is named after its first part"
    assert accuracy(model) > 0.95
    assert_same_function(model, PIXELS)


def test_an_old_h5_with_declared_scaling_converts(tmp_path: Path) -> None:
    inside = make_network()
    outside = make_network(rescale=False)
    outside.set_weights(inside.get_weights())
    outside.save(tmp_path / "old.h5")
    model = load_model(tmp_path / "old.h5", arithmetic=InputArithmetic((1 / 127.5,), (127.5,)))
    assert accuracy(model) > 0.95
    assert_same_function(model, PIXELS)
    assert [op.name for op in Graph(model.tflite).ops()][:2] == ["MUL", "ADD"]


def test_a_scale_without_a_mean_is_quantized_to_int16_too(tmp_path: Path) -> None:
    make_network(rescale=False).save(tmp_path / "bare.keras")
    model = load_model(tmp_path / "bare.keras", arithmetic=InputArithmetic((1 / 255,)))
    assert [op.name for op in Graph(model.tflite).ops()][:2] == ["MUL", "CONV_2D"]
    assert_same_function(model, PIXELS)
    quantized = quantize(model.tflite, scheme="int16x8", pixels=PIXELS[:40]).model
    assert (run_logits(quantized, PIXELS).argmax(1) == model.predict(PIXELS).argmax(1)).mean() > 0.98


def test_scaling_is_never_guessed(tmp_path: Path) -> None:
    make_network(rescale=False).save(tmp_path / "bare.keras")
    model = load_model(tmp_path / "bare.keras", arithmetic=None)
    assert not model.scales_input
    few = EvaluationSet("few", "0" * 64, np.zeros((9, *model.input_shape), np.uint8), np.zeros(9, np.int64), 0)
    with pytest.raises(UsageError, match="9 pictures are too few to find out; say what it expects: --scale 1 for"):
        check_scaling(model, few, labels=LABELS, arithmetic=None, colour="grey")


def test_a_head_that_is_declared_wrongly_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not end in a softmax"):
        load_model(workshop.keras, arithmetic=None, head="softmax")
    make_network(softmax=True).save(tmp_path / "s.keras")
    with pytest.raises(UsageError, match="ends in a softmax"):
        load_model(tmp_path / "s.keras", arithmetic=None, head="logits")


def test_probabilities_without_a_softmax_at_the_end_are_not_taken_for_logits(tmp_path: Path) -> None:
    import keras

    pixels = keras.Input((SIZE_PX, SIZE_PX, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
    raised = keras.ops.sigmoid(keras.layers.Dense(7)(x))
    keras.Model(pixels, raised / keras.ops.sum(raised, axis=1, keepdims=True)).save(tmp_path / "p.keras")
    with pytest.raises(ModelFileError, match="probabilities"):
        load_model(tmp_path / "p.keras", arithmetic=None)


def test_labels_in_another_order_and_by_other_names_are_mapped_by_name(
    workshop: Workshop, mien_convert: Callable[..., Outcome], tmp_path: Path
) -> None:
    network = make_network()
    order = [6, 3, 4, 0, 2, 1, 5]
    weights, biases = network.get_layer("head").get_weights()
    network.get_layer("head").set_weights([weights[:, order], biases[order]])
    network.save(tmp_path / "shuffled.keras")
    names = LABELS.replace("angry", "Anger").replace("happy", "happiness").split(",")
    (tmp_path / "labels.txt").write_text("\n".join(names[k] for k in order) + "\n")
    arguments = workshop.arguments(tmp_path / "out", model=tmp_path / "shuffled.keras")
    arguments[arguments.index("--labels") + 1] = str(tmp_path / "labels.txt")
    said = mien_convert(*arguments)
    assert said.code == 0, said.err
    manifest = load_emotion_bundle(tmp_path / "out").manifest
    assert manifest.labels == ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
    assert manifest.metrics[0].quantized > 0.95


def make_onnx(path: Path, *, channels: int = 1, strange: bool = False) -> Path:
    """The small network as torch would export it: channels first, stride, padded pooling, batch norm, flatten, gemm."""
    onnx = pytest.importorskip("onnx", reason="pip install 'mien[onnx]'")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(8)
    tensors = {
        "w1": rng.normal(0, 0.4, (8, channels, 3, 3)),
        "g": rng.uniform(0.5, 1.5, 8), "b": rng.normal(0, 0.1, 8),
        "m": rng.normal(0, 0.1, 8), "v": rng.uniform(0.5, 1.5, 8),
        "w2": rng.normal(0, 0.2, (16, 8, 3, 3)), "b2": rng.normal(0, 0.05, 16),
        "wd": rng.normal(0, 0.4, (16, 1, 3, 3)),
        "w3": rng.normal(0, 0.1, (7, 16 * 6 * 6)), "b3": np.zeros(7),
        "low": np.array(0.0), "high": np.array(6.0),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"]),
        node("Relu", ["n1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["p1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Clip", ["c2", "low", "high"], ["r2"]),
        node("Conv", ["r2", "wd"], ["d"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16),
        node("Erf" if strange else "HardSwish", ["d"], ["h"]),
        node("Add", ["h", "r2"], ["s"]),
        node("Flatten", ["s"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, SIZE_PX, SIZE_PX])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 7])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in tensors.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_an_onnx_converts_without_a_transposition_left(tmp_path: Path, channels: int) -> None:
    arithmetic = InputArithmetic((1 / 60, 1 / 50, 1 / 70)[:channels], (120.0, 110.0, 100.0)[:channels])
    model = load_model(make_onnx(tmp_path / "m.onnx", channels=channels), arithmetic=arithmetic)
    assert (model.kind, model.input_shape, model.classes) == ("onnx", (SIZE_PX, SIZE_PX, channels), 7)
    assert_same_function(model, np.repeat(PIXELS, channels, axis=3))
    names = [op.name for op in Graph(model.tflite).ops()]
    assert names.count("TRANSPOSE") <= 1  # the one that flattening a channel-first picture asks for
    assert "DEPTHWISE_CONV_2D" in names


def test_a_product_of_two_activations_converts(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the onnx extra: pip install 'mien[onnx]'")
    make, constant = onnx.helper, onnx.numpy_helper.from_array
    weights = np.random.default_rng(3).normal(0, 0.1, (64, 7)).astype(np.float32)
    nodes = [
        make.make_node("Reshape", ["x", "rows"], ["t"]),
        make.make_node("MatMul", ["t", "t"], ["p"]),
        make.make_node("Reshape", ["p", "flat"], ["f"]),
        make.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = make.make_graph(
        nodes, "g", [make.make_tensor_value_info("x", 1, [1, 1, 8, 8])], [make.make_tensor_value_info("y", 1, [1, 7])],
        [constant(np.array([1, 8, 8]), "rows"), constant(np.array([1, 64]), "flat"), constant(weights, "w")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), path)
    model = load_model(path, arithmetic=InputArithmetic((1 / 255,)))
    pixels = np.random.default_rng(4).integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
    assert_same_function(model, pixels)
    quantized = quantize(model.tflite, scheme="int8", pixels=pixels).model
    assert (run_logits(quantized, pixels).argmax(1) == model.predict(pixels).argmax(1)).mean() > 0.9


def test_scaling_is_one_value_or_one_a_channel(tmp_path: Path) -> None:
    path = make_onnx(tmp_path / "m.onnx", channels=3)
    with pytest.raises(UsageError, match=r"--scale: 2 values; the model has 3 channels: give 1 or 3"):
        load_model(path, arithmetic=InputArithmetic((1.0, 2.0)))
    with pytest.raises(UsageError, match=r"--mean: 2 values"):
        load_model(path, arithmetic=InputArithmetic((1.0,), (1.0, 2.0)))
    assert parse_arithmetic("1/58.395,1/57.12,1/57.375", "123.675,116.28,103.53") == InputArithmetic(
        (1 / 58.395, 1 / 57.12, 1 / 57.375), (123.675, 116.28, 103.53)
    )
    with pytest.raises(UsageError, match="--scale: 'x' is not a number"):
        parse_arithmetic("1,x", None)


def test_an_onnx_with_an_unknown_operator_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="operators Erf"):
        load_model(make_onnx(tmp_path / "m.onnx", strange=True), arithmetic=InputArithmetic((1.0,)))


def test_a_colour_model_must_be_told_its_order_and_gets_it(
    workshop: Workshop, mien_convert: Callable[..., Outcome], tmp_path: Path
) -> None:
    import keras

    network = make_network(channels=3)
    features = keras.Model(network.input, network.get_layer("head").input)
    first = network.get_layer("first")
    kernel, bias = first.get_weights()
    kernel[:, :, 1:] = 0
    first.set_weights([kernel, bias])
    grey = keras.Input((SIZE_PX, SIZE_PX, 1))
    tripled = features(keras.layers.Concatenate()([grey, grey, grey]))
    network.get_layer("head").set_weights(fit_head(keras.Model(grey, tripled)))
    network.save(tmp_path / "colour.keras")
    arguments = workshop.arguments(tmp_path / "out", model=tmp_path / "colour.keras")
    refused = mien_convert(*arguments)
    assert refused.code == 2
    assert "--color" in refused.err
    said = mien_convert(*arguments, "--color", "rgb")
    assert said.code == 0, said.err
    assert load_emotion_bundle(tmp_path / "out").manifest.input.colour == "rgb"


def test_inspect_shows_what_is_inside(mien_convert: Callable[..., Outcome], small_bundle: Path, tmp_path: Path) -> None:
    said = mien_convert("inspect", small_bundle, "--json", tmp_path / "i.json")
    assert said.code == 0
    found = json.loads((tmp_path / "i.json").read_bytes())
    macs = 24 * 24 * 9 * 8 + 12 * 12 * 9 * 8 * 16 + 6 * 6 * 16 * 7
    assert found["macs"] == macs
    assert f"{macs:,} MACs" in said.out
    assert found["delegated_nodes"] == 1
    assert found["edgetpu"]["fits"]
    assert found["inputs"][0] == {"name": found["inputs"][0]["name"], "shape": [1, 24, 24, 1], "dtype": "int8",
                                  "scale": 1.0, "zero_point": -128}  # fmt: skip


def test_a_float_file_does_not_fit_an_edge_tpu_and_the_first_reason_is_given(
    workshop: Workshop, tmp_path: Path
) -> None:
    from convert.tflite.edgetpu import map_to_edgetpu

    mapping = map_to_edgetpu(Graph(load_model(workshop.keras, arithmetic=None).tflite))
    assert not mapping.fits
    assert not mapping.mapped
    assert "float32; all must be int8" in mapping.left[0]
    assert mapping.left[1].endswith(f"behind {mapping.left[0].split(':')[0]}")
