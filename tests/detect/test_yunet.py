"""YuNet's decoding, suppression and letterbox, and the bundles that ship."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundles.locate import MODELS_DIR
from edge.contract.bundle import Bundle, load_detect_bundle
from edge.contract.manifest import DetectManifest
from edge.detect.yunet import CellDecoder, Detections, YuNetDetector, canvas_size_wh, suppress
from edge.infer import load_model
from edge.records import Frame

SHIPPED = ("yunet-320x192", "yunet-320x256", "yunet-640x384", "yunet-640x480", "yunet-1280x736", "yunet-1280x960")
PICTURES = Path(__file__).resolve().parents[2] / "convert" / "pictures"


@pytest.fixture(scope="module")
def bundle() -> Bundle[DetectManifest]:
    return load_detect_bundle(MODELS_DIR / "yunet-320x256")


def open_yunet(bundle: Bundle[DetectManifest], **options: float) -> YuNetDetector:
    return YuNetDetector(bundle.manifest, load_model(bundle).interpreter, **options)  # type: ignore[arg-type]


def frame_of(image: np.ndarray, lores: np.ndarray | None = None) -> Frame:
    return Frame(image, 0, 0, "test", lores=lores)


def scene_of(size_wh: tuple[int, int], *, at: tuple[int, int], face_px: int) -> np.ndarray:
    """A grey scene with one face: Eileen Collins' portrait, enlarged or reduced to ``face_px``."""
    face = cv2.imread(str(PICTURES / "collins_face.png"))
    assert face is not None
    shrinks = face_px < face.shape[0]
    face = cv2.resize(face, (face_px, face_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    image = np.full((size_wh[1], size_wh[0], 3), 110, np.uint8)
    image[at[1] : at[1] + face_px, at[0] : at[0] + face_px] = face
    return image


def decode_one_by_one(cells: np.ndarray, manifest: DetectManifest, score: float) -> list[tuple[float, ...]]:
    """The formulas of libfacedetection written down cell by cell, in float64."""
    width, height = canvas_size_wh(manifest)
    output, found, row = manifest.outputs[0], [], 0
    for stride, head in zip(manifest.strides, manifest.heads, strict=True):
        for y in range(height // stride):
            for x in range(width // stride):
                real = [
                    (float(q) - output.zero_point) * output.scale * channel.gain + channel.offset
                    for q, channel in zip(cells[row], head, strict=True)
                ]
                row += 1
                confidence = (1 / (1 + np.exp(-real[0])) / (1 + np.exp(-real[1]))) ** 0.5
                if confidence < score:
                    continue
                cx, cy = (real[2] + x) * stride, (real[3] + y) * stride
                w, h = np.exp(real[4]) * stride, np.exp(real[5]) * stride
                points = [(real[6 + i] + (x, y)[i % 2]) * stride for i in range(10)]
                found.append((confidence, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, *points))
    return found


@pytest.mark.parametrize("score", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_decoding_equals_the_formulas_cell_by_cell(bundle: Bundle[DetectManifest], score: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.integers(-128, 128, bundle.manifest.outputs[0].shape[1:], np.int8)
    expected = np.array(decode_one_by_one(cells, bundle.manifest, score), np.float64).reshape(-1, 15)
    found = CellDecoder(bundle.manifest, score=score).decode(cells)
    got = np.concatenate([found.scores[:, None], found.xyxy, found.landmarks.reshape(-1, 10)], axis=1)
    assert len(got) == len(expected)
    assert found.scores.dtype == found.xyxy.dtype == found.landmarks.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-3)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_the_ends_of_the_score_keep_everything_and_nothing(bundle: Bundle[DetectManifest], score: float) -> None:
    cells = np.random.default_rng(5).integers(-128, 128, bundle.manifest.outputs[0].shape[1:], np.int8)
    found = CellDecoder(bundle.manifest, score=score).decode(cells)
    assert len(found.scores) == (len(cells) if score == 0 else 0)


def iou_of(a: np.ndarray, b: np.ndarray) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def random_detections(seed: int, count: int) -> Detections:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 200, (count, 2)), rng.uniform(5, 80, (count, 2))
    scores = np.round(rng.random(count), 2)  # ties occur
    xyxy = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    return Detections(scores.astype(np.float32), xyxy, rng.random((count, 5, 2)).astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from([0.1, 0.3, 0.7]))
def test_suppression_keeps_the_best_and_drops_only_what_overlaps_it(seed: int, count: int, iou: float) -> None:
    detections = random_detections(seed, count)
    kept, bound_hit = suppress(detections, iou=iou, limit=1000)
    assert not bound_hit
    assert np.all(np.diff(kept.scores) <= 0)
    for i, box in enumerate(kept.xyxy):
        assert all(iou_of(box, other) <= iou + 1e-5 for other in kept.xyxy[:i])
    kept_rows = {tuple(box) for box in kept.xyxy}
    for score, box in zip(detections.scores, detections.xyxy, strict=True):
        if tuple(box) not in kept_rows:
            stronger = kept.xyxy[kept.scores >= score]
            assert any(iou_of(box, other) > iou - 1e-5 for other in stronger)


def test_suppression_says_when_the_bound_left_faces_out() -> None:
    apart = np.arange(5, dtype=np.float32)[:, None] * 100 + np.array([0, 0, 50, 50], np.float32)
    detections = Detections(np.linspace(0.5, 0.9, 5, dtype=np.float32), apart, np.zeros((5, 5, 2), np.float32))
    kept, bound_hit = suppress(detections, iou=0.3, limit=3)
    assert bound_hit
    np.testing.assert_allclose(kept.scores, [0.9, 0.8, 0.7], rtol=1e-6)
    assert not suppress(detections, iou=0.3, limit=5)[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_detector_is_one_delegated_node_and_finds_exactly_the_face(name: str) -> None:
    bundle = load_detect_bundle(MODELS_DIR / name)
    model = load_model(bundle)
    assert (model.interpreter.delegated_nodes, model.interpreter.total_nodes) == (1, 1)
    assert bundle.manifest.outputs[0].scale == pytest.approx(1 / 255, rel=1e-6)
    width, height = canvas_size_wh(bundle.manifest)
    detector = YuNetDetector(bundle.manifest, model.interpreter)
    faces = detector.detect(frame_of(scene_of((width, height), at=(width // 3, height // 5), face_px=height // 2)))
    assert len(faces) == 1
    assert faces.scores[0] > 0.8
    x, y, w, h = faces.xywh[0]
    assert width / 3 < x + w / 2 < width / 3 + height / 2
    assert height / 5 < y + h / 2 < height / 5 + height / 2
    right_eye, left_eye, nose, right_mouth, left_mouth = faces.landmarks[0]
    assert right_eye[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    detector.close()


@pytest.mark.parametrize("frame_wh", [(640, 512), (200, 400), (1000, 300), (321, 257)])
def test_faces_come_back_in_full_frame_pixels_whatever_the_frames_shape(
    bundle: Bundle[DetectManifest], frame_wh: tuple[int, int]
) -> None:
    side = min(frame_wh) // 2
    at = (frame_wh[0] // 3, frame_wh[1] // 4)
    faces = open_yunet(bundle).detect(frame_of(scene_of(frame_wh, at=at, face_px=side)))
    assert len(faces) == 1
    x, y, w, h = faces.xywh[0]
    # Where the same detector sees the face in a frame that needs no letterbox, as shares of the pasted square.
    direct = open_yunet(bundle).detect(frame_of(scene_of((320, 256), at=(80, 64), face_px=128))).xywh[0]
    expected = [(direct[0] - 80) / 128, (direct[1] - 64) / 128, direct[2] / 128, direct[3] / 128]
    np.testing.assert_allclose([(x - at[0]) / side, (y - at[1]) / side, w / side, h / side], expected, atol=0.06)


def test_a_frame_of_another_shape_leaves_nothing_of_the_last_one_on_the_canvas(bundle: Bundle[DetectManifest]) -> None:
    detector = open_yunet(bundle)
    tall = scene_of((200, 400), at=(40, 100), face_px=120)
    alone = detector.detect(frame_of(tall))
    detector.detect(frame_of(np.full((256, 320, 3), 255, np.uint8)))
    again = detector.detect(frame_of(tall))
    np.testing.assert_array_equal(again.xywh, alone.xywh)
    np.testing.assert_array_equal(again.scores, alone.scores)


def test_the_smaller_stream_is_searched_where_it_is_large_enough(bundle: Bundle[DetectManifest]) -> None:
    full = scene_of((1280, 1024), at=(300, 300), face_px=400)
    blank = np.zeros_like(full)
    enough = cv2.resize(full, (320, 256), interpolation=cv2.INTER_AREA)
    faces = open_yunet(bundle).detect(frame_of(blank, lores=np.asarray(enough, np.uint8)))
    assert len(faces) == 1
    assert 300 < faces.xywh[0, 0] + faces.xywh[0, 2] / 2 < 700
    too_small = cv2.resize(full, (160, 128), interpolation=cv2.INTER_AREA)
    assert len(open_yunet(bundle).detect(frame_of(blank, lores=np.asarray(too_small, np.uint8)))) == 0


def test_the_frame_is_not_written_to(bundle: Bundle[DetectManifest]) -> None:
    image = scene_of((320, 256), at=(80, 64), face_px=128)
    image.setflags(write=False)
    assert len(open_yunet(bundle).detect(frame_of(image))) == 1


def test_a_bound_on_the_faces_is_reported(bundle: Bundle[DetectManifest]) -> None:
    image = scene_of((320, 256), at=(10, 20), face_px=120)
    image[20:140, 190:310] = image[20:140, 10:130]
    assert not open_yunet(bundle, max_faces=2).detect(frame_of(image)).bound_hit
    faces = open_yunet(bundle, max_faces=1).detect(frame_of(image))
    assert len(faces) == 1
    assert faces.bound_hit


def test_no_face_gives_empty_arrays_of_the_documented_shapes(bundle: Bundle[DetectManifest]) -> None:
    faces = open_yunet(bundle).detect(frame_of(np.full((256, 320, 3), 90, np.uint8)))
    assert (faces.xywh.shape, faces.scores.shape, faces.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))
