"""What an Edge TPU would take, and the call of its compiler: a stand-in, as the real one was never at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from workshop import Outcome, Workshop

from convert.tflite.edgetpu import COMPILER, compile_for_edgetpu, map_to_edgetpu
from convert.tflite.graph import Graph
from edge.bundles.locate import find_bundle
from edge.contract.bundle import load_bundle, load_emotion_bundle
from edge.errors import ConversionError

Run = Callable[..., Outcome]
NONE, RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU


class MadeUp:
    """A graph of one operator between int8 tensors."""

    def __init__(self, name: str, *shapes: tuple[int, ...], output: tuple[int, ...], options: object = None) -> None:
        self.model = schema.ModelT()
        self.model.buffers, self.model.metadata = [schema.BufferT()], []
        code, operator, subgraph = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT()
        code.builtinCode, code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name), 0
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, list(range(len(shapes))), [len(shapes)]
        operator.builtinOptions = options
        subgraph.tensors = [self._tensor(shape) for shape in (*shapes, output)]
        subgraph.operators, subgraph.inputs, subgraph.outputs = [operator], [0], [len(shapes)]
        self.model.operatorCodes, self.model.subgraphs = [code], [subgraph]
        self.graph = Graph.__new__(Graph)
        self.graph.model, self.graph._subgraph = self.model, subgraph

    def _tensor(self, shape: tuple[int, ...]) -> object:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = b"t", list(shape), schema.TensorType.INT8, 0
        return tensor

    def with_constant(self, index: int, values: np.ndarray) -> MadeUp:
        tensor = self.graph.tensor(index)
        tensor.type = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.INT32
        tensor.shape = list(values.shape)
        self.graph.set_constant(index, values)
        return self

    def objection(self) -> str:
        mapping = map_to_edgetpu(self.graph)
        assert mapping.fits == (not mapping.left)
        return mapping.left[0] if mapping.left else ""


def options(kind: str, **values: object) -> object:
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in values.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


PIXELS = (1, 8, 8, 12)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (MadeUp("ADD", PIXELS, PIXELS, output=PIXELS), ""),
        (MadeUp("HARD_SWISH", PIXELS, output=PIXELS), "not among the Edge TPU's operators"),
        (MadeUp("LEAKY_RELU", PIXELS, output=PIXELS), "not among the Edge TPU's operators"),
        (MadeUp("ADD", (2, 8, 8, 12), (2, 8, 8, 12), output=(2, 8, 8, 12)), "more than 3 dimensions, or a batch"),
        (MadeUp("MAX_POOL_2D", PIXELS, output=PIXELS, options=options("Pool2D", fusedActivationFunction=NONE)), ""),
        (
            MadeUp("MAX_POOL_2D", PIXELS, output=PIXELS, options=options("Pool2D", fusedActivationFunction=RELU)),
            "a fused activation",
        ),
        (
            MadeUp("CONV_2D", PIXELS, output=PIXELS, options=options("Conv2D", dilationWFactor=2, dilationHFactor=1)),
            "another dilation across than down",
        ),
        (
            MadeUp("CONV_2D", PIXELS, output=PIXELS, options=options("Conv2D", dilationWFactor=2, dilationHFactor=2)),
            "",
        ),
        (
            MadeUp("FULLY_CONNECTED", (4, 12), output=(4, 7), options=options("FullyConnected")),
            "an output of more than one dimension",
        ),
        (MadeUp("FULLY_CONNECTED", (1, 12), output=(1, 7), options=options("FullyConnected")), ""),
        (MadeUp("MEAN", PIXELS, (2,), output=(1, 12)).with_constant(1, ints(1, 2)), ""),
        (MadeUp("MEAN", PIXELS, (1,), output=(1, 8, 8)).with_constant(1, ints(-1)), ""),
        (
            MadeUp("MEAN", (1, 8, 8, 7), (1,), output=(1, 8, 8)).with_constant(1, ints(-1)),
            "a mean over 7 channels, which are no multiple of 4",
        ),
        (MadeUp("SUM", PIXELS, (1,), output=(8, 8, 12)).with_constant(1, ints(0)), "a reduction over the batch"),
        (MadeUp("PRELU", PIXELS, (8, 8, 12), output=PIXELS), "a slope per pixel"),
        (MadeUp("PRELU", PIXELS, (1, 1, 12), output=PIXELS), ""),
        (MadeUp("SOFTMAX", (1, 7), output=(1, 7)), ""),
        (MadeUp("SOFTMAX", (1, 16_001), output=(1, 16_001)), "a softmax over more than one vector"),
        (MadeUp("SOFTMAX", (1, 4, 7), output=(1, 4, 7)), "a softmax over more than one vector"),
        (MadeUp("PACK", (8, 12), output=(1, 8, 12), options=options("Pack", axis=0)), "packs along the batch"),
        (MadeUp("SPLIT", (1,), PIXELS, output=PIXELS).with_constant(0, ints(3)), ""),
        (MadeUp("SPLIT", (1,), PIXELS, output=PIXELS).with_constant(0, ints(0)), "splits the batch"),
    ],
    ids=lambda value: value.graph.ops()[0].name if isinstance(value, MadeUp) else value[:20] or "maps",
)
def test_an_operator_maps_within_its_documented_limits(made: MadeUp, why: str) -> None:
    found = made.objection()
    assert why in found
    assert bool(found) == bool(why)


def test_padding_maps_but_for_the_batch() -> None:
    for batch, why in ((0, ""), (1, "pads the batch")):
        made = MadeUp("PAD", PIXELS, (4, 2), output=(1, 10, 10, 12))
        made.with_constant(1, np.array([[batch, 0], [1, 1], [1, 1], [0, 0]], np.int32))
        found = made.objection()
        assert why in found
        assert bool(found) == bool(why)


def test_a_concatenation_takes_constants_only_as_padding() -> None:
    join = options("Concatenation", axis=3, fusedActivationFunction=NONE)
    for values, why in ((np.zeros(PIXELS, np.int8), ""), (np.ones(PIXELS, np.int8), "a constant input")):
        made = MadeUp("CONCATENATION", PIXELS, PIXELS, output=(1, 8, 8, 24), options=join).with_constant(1, values)
        found = made.objection()
        assert why in found
        assert bool(found) == bool(why)


def test_a_slice_takes_steps_of_one_only() -> None:
    for step, why in ((1, ""), (2, "a stride other than 1")):
        made = MadeUp("STRIDED_SLICE", PIXELS, (4,), (4,), (4,), output=PIXELS, options=options("StridedSlice"))
        for index, values in ((1, ints(0, 0, 0, 0)), (2, ints(1, 8, 8, 12)), (3, ints(1, step, step, 1))):
            made.with_constant(index, values)
        found = made.objection()
        assert why in found
        assert bool(found) == bool(why)


def test_every_shipped_model_would_be_mapped_whole() -> None:
    for name in ("emotion-ferplus", "emotion-fer2013", "emotion-nano", "yunet-640x480"):
        mapping = map_to_edgetpu(Graph(load_bundle(find_bundle(name)).model))
        assert mapping.fits, mapping.left[:3]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a shell script in the compiler's place: it shows how it is called and what its failures become, not more."""

    def install(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / COMPILER
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return path

    return install


def test_without_the_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_for_edgetpu(b"model") is None


def test_the_compiler_is_called_as_documented(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    # edgetpu_compiler [-s, --show_operations] [-o, --out_dir dir] model: writes dir/model_edgetpu.tflite
    stand_in(f'#!/bin/sh\necho "$@" >"{tmp_path}/called"\ncat "$4" - >"$3/model_edgetpu.tflite" </dev/null\n')
    assert compile_for_edgetpu(b"a model") == b"a model"
    called = (tmp_path / "called").read_text().split()
    assert (called[0], called[1], Path(called[3]).name) == ("-s", "-o", "model.tflite")
    assert Path(called[3]).parent == Path(called[2])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho 'Invalid model: model.tflite'\nexit 1\n", "Invalid model: model.tflite"),
        ("#!/bin/sh\necho 'Model not quantized' >&2\nexit 9\n", "exit 9, no model written"),
        ("#!/bin/sh\nexit 0\n", "exit 0, no model written"),
        ("#!/no/such/shell\n", "No such file"),
    ],
)
def test_a_compiler_that_fails_is_one_clear_error(stand_in: Callable[[str], Path], script: str, message: str) -> None:
    stand_in(script)
    with pytest.raises(ConversionError, match=message) as caught:
        compile_for_edgetpu(b"a model")
    assert "\n" not in str(caught.value)


@pytest.mark.tensorflow
def test_the_compiled_file_lies_beside_the_other_in_the_bundle(
    workshop: Workshop, mien_convert: Run, stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    stand_in('#!/bin/sh\n(cat "$4"; printf compiled) >"$3/model_edgetpu.tflite"\n')
    out = tmp_path / "out"
    said = mien_convert(*workshop.arguments(out), "--edgetpu", "--json", tmp_path / "r.json")
    assert said.code == 0, said.err
    bundle = load_emotion_bundle(out)
    assert bundle.edgetpu_model == bundle.model + b"compiled"
    assert json.loads((tmp_path / "r.json").read_bytes())["edgetpu"]["fits"]
    assert "not compiled" not in said.out


@pytest.mark.tensorflow
def test_without_the_compiler_the_report_says_what_would_map_and_how_to_get_it(
    workshop: Workshop, mien_convert: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    said = mien_convert(*workshop.arguments(tmp_path / "out"), "--edgetpu")
    assert said.code == 0, said.err
    assert "operators map, 0 do not" in said.out
    assert "coral.ai/docs/edgetpu/compiler" in said.out
    assert load_emotion_bundle(tmp_path / "out").edgetpu_model is None


@pytest.mark.tensorflow
def test_an_edge_tpu_needs_whole_integers(workshop: Workshop, mien_convert: Run, tmp_path: Path) -> None:
    for extra in (("--scheme", "float16"), ("--io", "float32")):
        said = mien_convert(*workshop.arguments(tmp_path / "out"), *extra, "--edgetpu")
        assert said.code == 2
        assert "an Edge TPU takes --scheme int8 with --io int8 or uint8" in said.err
