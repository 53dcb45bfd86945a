"""Rebuilds, calibrates and quantizes the YuNet face detector."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from convert.bundle_writer import describe_golden, describe_model
from convert.golden import PICTURES, read_portrait
from convert.tflite.graph import Graph
from convert.tflite.interpreter import run_outputs
from convert.yunet.calibrate import CalibratedYuNet, calibrate, pad_stem
from convert.yunet.network import STRIDES, Array, YuNetWeights, build_network, decode_cells, load_weights
from convert.yunet.scenes import Picture, compose_scenes, hash_scenes, read_sources
from edge.contract.bundle import Bundle
from edge.contract.golden import Golden
from edge.contract.manifest import (
    Calibration,
    DataSetUse,
    DetectManifest,
    HeadScale,
    InputSpec,
    OutputSpec,
    Quantization,
    TrainedFrom,
)
from edge.contract.preprocess import fit_letterbox, resize

CALIBRATION_SIZE_WH = (640, 480)
CALIBRATION_SCENES = 96
RECIPE = "yunet-int8/1: channels rescaled to their range near faces, heads mapped onto 0..1, per-channel weights"
VERSION = "1.0.0"
# XNNPACK computes the same integers everywhere but for the last bit of a rounding, which 53 layers can carry on;
# TFLite's own kernels round differently in every layer. Figures: the worst differences seen, doubled
# (`tests/benchmarks/detector_figures.py`).
MAX_STEPS_XNNPACK = 8
MAX_STEPS_OTHER = 40
_FINDER_SIDE_PX = 640
_FINDER_SCORE = 0.7
_ORIGIN = "faces of Eileen Collins (NASA) and Grace Hopper (US Navy), public domain, on synthetic seed 0"
_LICENCE = "MIT"
_NOTICE = Path(__file__).with_name("licences") / "yunet.txt"


def quantize_yunet(calibrated: CalibratedYuNet, *, size_wh: tuple[int, int]) -> bytes:
    """The int8 TFLite file for one input size.

    Weights are quantized per channel; the activations' ranges come from the network itself, so that no representative
    data is needed here and every size gets the same integers.

    Args:
        calibrated: the rewritten weights and their ranges.
        size_wh: width and height in pixels, multiples of 32.
    """
    network = build_network(calibrated.weights, size_wh=size_wh, ranges=calibrated.ranges)
    function = tf.function(lambda pixels: network(pixels, training=False)).get_concrete_function(
        tf.TensorSpec(network.input.shape, tf.float32, name="pixels")
    )
    # Keras 3's variables stay variables in `from_concrete_functions` unless they are frozen first.
    frozen = convert_variables_to_constants_v2(function)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    model: bytes = converter.convert()
    return model


class FaceFinder:
    """Boxes of the faces of a picture by the float network, without suppression: several boxes a face."""

    def __init__(self, weights: YuNetWeights) -> None:
        self._size_wh = (_FINDER_SIDE_PX, _FINDER_SIDE_PX)
        self._network = build_network(weights, size_wh=self._size_wh)

    def __call__(self, picture: Picture) -> Array:
        """The boxes, float32 (n, 4) xyxy in the picture's pixels, of a uint8 BGR picture (height, width, 3)."""
        letterbox = fit_letterbox((picture.shape[1], picture.shape[0]), self._size_wh)
        canvas = np.zeros((_FINDER_SIDE_PX, _FINDER_SIDE_PX, 3), np.uint8)
        width, height = letterbox.size_wh
        canvas[:height, :width] = resize(picture, letterbox.size_wh)
        cells = np.asarray(self._network(pad_stem(canvas)[None], training=False))[0]
        decoded = decode_cells(cells, size_wh=self._size_wh)
        scale = np.array([letterbox.scale_x, letterbox.scale_y] * 2, np.float32)
        boxes: Array = decoded.xyxy[decoded.scores >= _FINDER_SCORE] / scale
        return boxes


@dataclass(frozen=True, slots=True)
class CalibratedDetector:
    """Everything that the bundles of all sizes have in common.

    Attributes:
        yunet: the rewritten weights and their ranges.
        calibration: names, count and hash of the scenes, for the manifest.
        onnx_sha256: hash of the file that the weights came from.
    """

    yunet: CalibratedYuNet
    calibration: Calibration
    onnx_sha256: str


def calibrate_detector(onnx: Path, pictures: Path, *, count: int = CALIBRATION_SCENES) -> CalibratedDetector:
    """Reads the weights and calibrates them on scenes composed from a folder of pictures and clips.

    Args:
        onnx: YuNet's ONNX file.
        pictures: pictures and clips with faces, any size; see `convert.yunet.scenes`.
        count: number of scenes; fewer than 60 cost accuracy.

    Raises:
        DataError: the file is not YuNet, or the pictures show too few faces.
    """
    weights = load_weights(onnx)
    sources = read_sources(pictures, FaceFinder(weights))
    scenes = compose_scenes(sources, count=count, size_wh=CALIBRATION_SIZE_WH)
    yunet = calibrate(weights, scenes, size_wh=CALIBRATION_SIZE_WH)
    names = ", ".join(source.name for source in sources)
    calibration = Calibration(source=f"scenes composed from {names}", count=count, sha256=hash_scenes(scenes))
    return CalibratedDetector(yunet, calibration, hashlib.sha256(onnx.read_bytes()).hexdigest())


def make_detector_bundle(
    name: str, detector: CalibratedDetector, *, size_wh: tuple[int, int]
) -> Bundle[DetectManifest]:
    """Quantizes a calibrated detector for one input size: a bundle in memory that is not compared yet.

    Args:
        name: of the bundle.
        detector: as `calibrate_detector` returns it.
        size_wh: width and height in pixels, multiples of 32.

    Raises:
        UsageError: a side is not a multiple of 32.
    """
    model = quantize_yunet(detector.yunet, size_wh=size_wh)
    inputs, origins = _golden_inputs(size_wh)
    golden = Golden(inputs, (run_outputs(model, inputs),), origins)
    graph = Graph(model)
    (scale,), (zero_point,) = graph.quantization(graph.outputs[0])
    manifest = DetectManifest(
        schema="mien.manifest/1",
        name=name,
        version=VERSION,
        status="unverified",
        model=describe_model(model),
        edgetpu_model=None,
        input=InputSpec(shape=(1, size_wh[1] + 1, size_wh[0] + 1, 3), dtype="int8", colour="bgr"),
        outputs=(
            OutputSpec(
                name="cells", shape=graph.shape(graph.outputs[0]), dtype="int8", scale=scale, zero_point=zero_point
            ),
        ),
        quantization=Quantization(scheme="int8", recipe=RECIPE, calibration=detector.calibration),
        trained_from=TrainedFrom(
            git="none",
            recipe=f"OpenCV Zoo face_detection_yunet_2023mar.onnx, sha256 {detector.onnx_sha256}",
            datasets=(DataSetUse(name="WIDER FACE (by YuNet's authors)", count=12880),),
        ),
        metrics=(),
        golden=describe_golden(golden, max_steps_xnnpack=MAX_STEPS_XNNPACK, max_steps_other=MAX_STEPS_OTHER),
        licence=_LICENCE,
        notices=(_NOTICE.read_text(encoding="utf-8"),),
        strides=STRIDES,
        heads=_heads(detector.yunet),
    )
    return Bundle(Path(name), manifest, model, None, golden)


def _heads(yunet: CalibratedYuNet) -> tuple[tuple[HeadScale, ...], ...]:
    return tuple(
        tuple(HeadScale(gain=float(top - bottom), offset=float(bottom)) for bottom, top in zip(low, high, strict=True))
        for low, high in zip(yunet.low, yunet.high, strict=True)
    )


def _golden_inputs(size_wh: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Two inputs of seeded blocks of colour, faces of two sizes on the first.

    They compress well at any size, and have no large flat areas: there, kernels that round differently drift apart.
    """
    width, height = size_wh
    inputs = np.zeros((2, height + 1, width + 1, 3), np.uint8)
    for seed, picture in enumerate(inputs):
        blocks = np.random.default_rng(seed).integers(0, 256, (height // 32, width // 32, 3), np.uint8)
        picture[1:, 1:] = blocks.repeat(32, axis=0).repeat(32, axis=1)
    collins, hopper = map(read_portrait, PICTURES)
    large, small = min(120, height // 2), min(48, width // 4)
    inputs[0, 17 : 17 + large, 17 : 17 + large] = resize(collins, (large, large))
    inputs[0, 17 : 17 + small, -small:] = resize(hopper, (small, small))
    return inputs, (_ORIGIN, "synthetic seed 1")
