"""The YuNet rebuild: reading ONNX, exact rewrites, calibration scenes, and the same faces as OpenCV."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="pip install 'mien[convert]'")

from convert.bundle_writer import write_bundle
from convert.yunet.build import FaceFinder, calibrate_detector, make_detector_bundle, quantize_yunet
from convert.yunet.calibrate import _fit_signed, pad_stem
from convert.yunet.network import (
    ADDED_TOGETHER,
    INPUT_OF,
    STRIDES,
    Unit,
    YuNetWeights,
    between,
    build_network,
    decode_cells,
    load_weights,
    range_heads,
    rescale,
)
from convert.yunet.onnx_weights import Convolution, read_convolutions
from convert.yunet.scenes import Source, compose_scenes, hash_scenes, read_sources
from edge.contract.bundle import load_detect_bundle
from edge.detect.opencv_yunet import OpenCvYuNetDetector
from edge.detect.yunet import YuNetDetector
from edge.errors import ConfigError, DataError, InferenceError, UsageError
from edge.infer import load_model
from edge.records import Frame

pytestmark = pytest.mark.tensorflow
PICTURES = Path(__file__).resolve().parents[2] / "convert" / "pictures"
WIDTHS = {
    **{"u0": (16, 16), "u1a": (16, 16), "u1b": (16, 32), "u2a": (32, 32), "u2b": (32, 64)},
    **dict.fromkeys(("u3a", "u3b", "u4a", "u4b", "u5a", "u5b", "f32", "f16", "f8"), (64, 64)),
    **dict.fromkeys([f"head{stride}" for stride in STRIDES], (64, 16)),
}


def random_weights(seed: int = 0) -> YuNetWeights:
    rng = np.random.default_rng(seed)

    def draw(*shape: int, fan_in: int) -> np.ndarray:
        return (rng.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32)

    units = {
        name: Unit(draw(i, o, fan_in=i), draw(o, fan_in=50), draw(3, 3, o, fan_in=9), draw(o, fan_in=50))
        for name, (i, o) in WIDTHS.items()
    }
    return YuNetWeights(draw(3, 3, 3, 16, fan_in=27 * 100 * 100), draw(16, fan_in=50), units)


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def onnx_of(kernels: dict[str, np.ndarray], nodes: list[tuple[str, list[str]]], *, kind: int = 1) -> bytes:
    """A minimal ModelProto: initializers and nodes only."""
    graph = b""
    for operator, inputs in nodes:
        graph += field(1, b"".join(field(1, name.encode()) for name in inputs) + field(4, operator.encode()))
    for name, array in kernels.items():
        dims = b"".join(b"\x08" + varint(side) for side in array.shape)
        graph += field(5, dims + b"\x10" + varint(kind) + field(8, name.encode()) + field(9, array.tobytes()))
    return b"\x08\x07" + field(7, graph)


def test_convolutions_are_read_in_graph_order_with_their_own_constants(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(shape).astype("<f4") for shape in ((4, 3, 3, 3), (2, 4, 1, 1)))
    bias = np.arange(4, dtype="<f4")
    path = tmp_path / "two.onnx"
    nodes = [("Conv", ["x", "first", "bias"]), ("Relu", ["y"]), ("Conv", ["z", "second"])]
    path.write_bytes(onnx_of({"second": second, "bias": bias, "first": first}, nodes))
    read = read_convolutions(path)
    assert isinstance(read[0], Convolution)
    np.testing.assert_array_equal(read[0].kernel, first)
    np.testing.assert_array_equal(read[0].bias, bias)
    np.testing.assert_array_equal(read[1].kernel, second)
    np.testing.assert_array_equal(read[1].bias, np.zeros(2))
    with pytest.raises(DataError, match=r"two\.onnx: 2 convolutions, YuNet has 53"):
        load_weights(path)


SPOILED = {
    "empty": b"",
    "text": b"this is not a protobuf message at all",
    "truncated": onnx_of({"k": np.ones((1, 1, 1, 1), "<f4")}, [("Conv", ["x", "k"])])[:-3],
    "float16": onnx_of({"k": np.ones((1, 1, 1, 1), "<f2")}, [("Conv", ["x", "k"])], kind=10),
    "weights missing": onnx_of({}, [("Conv", ["x", "k"])]),
    "endless varint": struct.pack("12B", *[0xFF] * 12),
}


@pytest.mark.parametrize("data", SPOILED.values(), ids=SPOILED.keys())
def test_a_file_that_is_not_such_a_model_is_one_clear_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spoiled.onnx"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"spoiled\.onnx: "):
        load_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.onnx: no such file"):
        load_weights(tmp_path / "none.onnx")


@pytest.mark.parametrize("size_wh", [(0, 32), (100, 96), (-32, 32)])
def test_a_size_that_is_no_multiple_of_32_is_refused(size_wh: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 32"):
        build_network(random_weights(), size_wh=size_wh)


def test_rescaling_and_turning_channels_changes_nothing_that_comes_out() -> None:
    weights, rng = random_weights(), np.random.default_rng(1)
    scales = {"stem": rng.uniform(0.1, 10, 16).astype(np.float32)}
    for name, (_, out) in WIDTHS.items():
        scales[between(name)] = (rng.uniform(0.1, 10, out) * rng.choice([-1, 1], out)).astype(np.float32)
        if not name.startswith("head"):
            scales[name] = rng.uniform(0.1, 10, out).astype(np.float32)
    for group in ADDED_TOGETHER:
        scales |= dict.fromkeys(group, scales[group[0]])
    picture = pad_stem(rng.integers(0, 256, (96, 128, 3), np.uint8))[None]
    before = np.asarray(build_network(weights, size_wh=(128, 96))(picture))
    after = np.asarray(build_network(rescale(weights, scales), size_wh=(128, 96))(picture))
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3 * np.abs(before).max())


def test_ranging_the_heads_is_undone_by_their_gain_and_offset() -> None:
    weights, rng = random_weights(), np.random.default_rng(2)
    low = rng.uniform(-9, -1, (3, 16)).astype(np.float32)
    high = rng.uniform(1, 9, (3, 16)).astype(np.float32)
    picture = pad_stem(rng.integers(0, 256, (64, 64, 3), np.uint8))[None]
    before = np.asarray(build_network(weights, size_wh=(64, 64))(picture))[0]
    after = np.asarray(build_network(range_heads(weights, low=low, high=high), size_wh=(64, 64))(picture))[0]
    levels = np.repeat([0, 1, 2], [64, 16, 4])
    np.testing.assert_allclose(after * (high - low)[levels] + low[levels], before, rtol=1e-3, atol=1e-3)


def test_every_unit_reads_a_tensor_that_exists() -> None:
    tensors = {"stem", *INPUT_OF, *(group[-1] for group in ADDED_TOGETHER)}
    assert set(INPUT_OF.values()) <= tensors
    assert set(INPUT_OF) == set(WIDTHS)


def test_signed_channels_are_scaled_into_one_range_with_their_larger_side_up() -> None:
    low, high = np.array([-4.0, -1.0, 0.0, -2.0], np.float32), np.array([1.0, 3.0, 5.0, 2.0], np.float32)
    scale, (bottom, top) = _fit_signed(low, high)
    ends = np.stack([low / scale, high / scale])
    assert ends.min() >= bottom - 1e-6
    assert ends.max() <= top + 1e-6
    assert scale[0] < 0 < scale[1]


def portrait_source(tmp_path: Path) -> Source:
    picture = cv2.imread(str(PICTURES / "collins_face.png"))
    assert picture is not None
    return Source("collins", np.asarray(picture, np.uint8), np.array([[20, 10, 100, 110]], np.float32))


def test_scenes_are_the_same_bytes_again_and_cover_the_whole_input_range(tmp_path: Path) -> None:
    source = portrait_source(tmp_path)
    scenes = compose_scenes([source], count=12, size_wh=(96, 64))
    again = compose_scenes([source], count=12, size_wh=(96, 64))
    assert hash_scenes(scenes) == hash_scenes(again)
    assert hash_scenes(scenes) != hash_scenes(compose_scenes([source], count=12, size_wh=(96, 64), seed=1))
    for scene in scenes:
        assert (scene.shape, scene.dtype) == ((64, 96, 3), np.uint8)
        assert (scene.min(), scene.max()) == (0, 255)


def test_sources_are_read_from_pictures_and_clips_and_need_a_face(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_sources(tmp_path / "none", lambda picture: np.zeros((0, 4), np.float32))
    (tmp_path / "note.txt").write_text("not a picture")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    writer = cv2.VideoWriter(str(tmp_path / "b.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for shade in range(0, 200, 10):
        writer.write(np.full((32, 32, 3), shade, np.uint8))
    writer.release()
    with pytest.raises(DataError, match="no calibration picture"):
        read_sources(tmp_path, lambda picture: np.zeros((0, 4), np.float32))
    sources = read_sources(tmp_path, lambda picture: np.array([[0, 0, 9, 9]], np.float32))
    assert [source.name for source in sources] == ["a.png", *(f"b.avi#{i}" for i in range(6))]
    (tmp_path / "broken.jpg").write_bytes(b"no jpeg")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        read_sources(tmp_path, lambda picture: np.array([[0, 0, 9, 9]], np.float32))


def test_the_keras_network_finds_what_opencv_finds(onnx: Path) -> None:
    picture = np.full((256, 320, 3), 90, np.uint8)
    for name, at in (("collins", (30, 40)), ("hopper", (180, 100))):
        face = cv2.imread(str(PICTURES / f"{name}_face.png"))
        picture[at[1] : at[1] + 120, at[0] : at[0] + 120] = cv2.resize(face, (120, 120))
    cells = np.asarray(build_network(load_weights(onnx), size_wh=(320, 256))(pad_stem(picture)[None]))[0]
    decoded = decode_cells(cells, size_wh=(320, 256))
    found = OpenCvYuNetDetector(onnx, size_wh=(320, 256)).detect(Frame(picture, 0, 0, "test"))
    assert len(found) == 2
    for box, score, landmarks in zip(found.xywh, found.scores, found.landmarks, strict=True):
        same = int(np.abs(decoded.xyxy[:, :2] - box[:2]).sum(axis=1).argmin())
        assert decoded.scores[same] == pytest.approx(score, abs=1e-3)
        np.testing.assert_allclose(decoded.xyxy[same, 2:] - decoded.xyxy[same, :2], box[2:], atol=0.05)
        np.testing.assert_allclose(decoded.landmarks[same], landmarks, atol=0.05)


def test_a_converted_bundle_loads_repeats_itself_and_finds_the_faces_it_was_shown(onnx: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("collins", "hopper"):
        face = cv2.imread(str(PICTURES / f"{name}_face.png"))
        scene = cv2.copyMakeBorder(face, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=(90, 90, 90))
        cv2.imwrite(str(pictures / f"{name}.png"), scene)
    detector = calibrate_detector(onnx, pictures, count=16)
    folder = tmp_path / "yunet-160x128"
    made = make_detector_bundle(folder.name, detector, size_wh=(160, 128))
    write_bundle(folder, made)
    bundle = load_detect_bundle(folder)
    assert bundle.manifest.quantization.calibration is not None
    assert bundle.manifest.quantization.calibration.count == 16
    assert quantize_yunet(detector.yunet, size_wh=(160, 128)) == bundle.model
    model = load_model(bundle)
    assert model.interpreter.total_nodes == 1
    faces = YuNetDetector(bundle.manifest, model.interpreter).detect(
        Frame(cv2.imread(str(pictures / "hopper.png")), 0, 0, "")
    )
    assert len(faces) == 1


def test_pictures_with_too_few_faces_cannot_calibrate(onnx: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 200, 3), 128, np.uint8))
    with pytest.raises(DataError, match="shows a face"):
        calibrate_detector(onnx, tmp_path)


def test_the_face_finder_returns_boxes_in_the_pictures_own_pixels(onnx: Path) -> None:
    face = cv2.imread(str(PICTURES / "collins_face.png"))
    picture = np.full((900, 1500, 3), 90, np.uint8)
    picture[300:540, 1000:1240] = cv2.resize(face, (240, 240), interpolation=cv2.INTER_LINEAR)
    boxes = FaceFinder(load_weights(onnx))(picture)
    assert len(boxes) >= 1
    assert np.all(boxes[:, 0] > 950)
    assert np.all(boxes[:, 2] < 1290)


def test_opencvs_detector_names_a_file_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"detect\.options\.onnx: .*is not a file"):
        OpenCvYuNetDetector(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InferenceError, match=r"bad\.onnx: OpenCV refuses the model") as caught:
        OpenCvYuNetDetector(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)
