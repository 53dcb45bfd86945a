"""Average precision of face boxes by hand, and the verdict on a detector."""

from __future__ import annotations

import html
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from workshop import Outcome

from convert.evaluation.detection import (
    LabelledPicture,
    average_precision,
    match_all,
    precision_recall,
    read_boxes,
    resampled_drops,
)
from convert.yunet.compare import SizeVerdict, apply_gate, compare_detections
from edge.bundles.locate import find_bundle
from edge.contract.bundle import load_detect_bundle
from edge.errors import DataError
from edge.records import NO_FACES, Faces

Run = Callable[..., Outcome]
SHARED = Path(__file__).resolve().parents[3] / "shared"
PICTURES = Path(__file__).resolve().parents[2] / "convert" / "pictures"


def found(*rows: tuple[float, float, float, float, float]) -> Faces:
    """Faces of (score, x, y, width, height)."""
    if not rows:
        return NO_FACES
    values = np.array(rows, np.float32)
    return Faces(values[:, 1:], values[:, 0], np.zeros((len(rows), 5, 2), np.float32))


def truth(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)


def precision_of(true: list[np.ndarray], faces: list[Faces], min_px: float = 10) -> float:
    return average_precision(match_all(true, faces, min_px=min_px))


def test_everything_found_and_nothing_else_is_one_and_nothing_found_is_zero() -> None:
    true = [truth((0, 0, 20, 20), (50, 50, 30, 30)), truth()]
    assert precision_of(true, [found((0.9, 0, 0, 20, 20), (0.4, 51, 50, 30, 30)), NO_FACES]) == 1.0
    assert precision_of(true, [NO_FACES, NO_FACES]) == 0.0
    assert precision_of([truth()], [found((0.9, 0, 0, 20, 20))]) == 0.0


def test_a_false_box_costs_by_its_rank() -> None:
    true = [truth((0, 0, 20, 20), (50, 50, 20, 20))]
    right, wrong = ((0.9, 0, 0, 20, 20), (0.5, 50, 50, 20, 20)), (100, 100, 20, 20)
    assert precision_of(true, [found(*right, (0.1, *wrong))]) == 1.0
    # hit, miss, hit: half the recall at precision 1, half at 2/3
    assert precision_of(true, [found(*right, (0.7, *wrong))]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # miss, hit, hit: the curve's envelope is 2/3 everywhere
    assert precision_of(true, [found(*right, (0.95, *wrong))]) == pytest.approx(2 / 3)


def test_a_face_is_matched_once_and_by_half_an_overlap() -> None:
    true = [truth((0, 0, 20, 20))]
    assert precision_of(true, [found((0.9, 0, 0, 20, 20), (0.8, 0, 0, 20, 20))]) == 1.0
    twice = match_all(true, [found((0.9, 0, 0, 20, 20), (0.8, 0, 0, 20, 20))], min_px=10)
    assert twice.hits.tolist() == [True, False]
    assert precision_of(true, [found((0.9, 0, 0, 20, 40.0))]) == 1.0  # overlap exactly 0.5
    assert precision_of(true, [found((0.9, 0, 0, 20, 40.5))]) == 0.0


def test_faces_below_the_size_count_neither_way() -> None:
    true = [truth((0, 0, 8, 9), (50, 50, 20, 20))]
    small, large = (0.9, 0, 0, 8, 9), (0.5, 50, 50, 20, 20)
    assert precision_of(true, [found(large)]) == 1.0
    assert precision_of(true, [found(small, large)]) == 1.0  # a small face that was found is no false box
    assert precision_of(true, [found((0.9, 100, 100, 5, 30), large)]) == 1.0  # nor is a small box on nothing
    assert precision_of(true, [found((0.9, 100, 100, 30, 30), large)]) == 0.5
    assert match_all(true, [found(large)], min_px=10).totals.tolist() == [1]


def test_scores_are_ranked_over_all_pictures() -> None:
    true = [truth((0, 0, 20, 20)), truth((0, 0, 20, 20))]
    faces = [found((0.3, 0, 0, 20, 20)), found((0.9, 0, 0, 20, 20), (0.6, 90, 90, 20, 20))]
    assert precision_of(true, faces) == pytest.approx(0.5 + 0.5 * 2 / 3)


def random_set(seed: int, pictures: int = 40) -> tuple[list[np.ndarray], list[Faces]]:
    """Faces, most of them found a little beside, and a few boxes on nothing."""
    rng = np.random.default_rng(seed)
    true, faces = [], []
    for _ in range(pictures):
        boxes = np.column_stack([rng.uniform(0, 300, (4, 2)), rng.uniform(5, 60, (4, 1)).repeat(2, axis=1)])
        near = boxes[rng.random(4) < 0.8]
        near = near + rng.normal(0, 0.08, near.shape) * near[:, 2:3]
        noise = np.column_stack([rng.uniform(0, 300, (2, 2)), rng.uniform(5, 60, (2, 2))])
        rows = np.concatenate([near, noise])
        true.append(boxes)
        faces.append(found(*(np.column_stack([rng.random(len(rows)), rows]).tolist())))
    return true, faces


@pytest.mark.data
def test_the_definition_is_that_of_the_score_tool() -> None:
    path = SHARED / "tools" / "score_boxes.py"
    if not path.is_file():
        pytest.skip("needs the shared research data: ../shared/tools/score_boxes.py")
    spec = importlib.util.spec_from_file_location("score_boxes", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for seed in range(5):
        true, faces = random_set(seed)
        pictures = [
            (boxes.tolist(), list(zip(one.scores.tolist(), one.xywh.tolist(), strict=True)))
            for boxes, one in zip(true, faces, strict=True)
        ]
        for min_px in (5, 12, 30):
            expected, count = tool.average_precision(pictures, min_px)
            detected = match_all(true, faces, min_px=min_px)
            assert average_precision(detected) == pytest.approx(expected, abs=1e-9)
            assert detected.totals.sum() == count


def test_weights_are_as_good_as_repeating_the_picture() -> None:
    true, faces = random_set(7, pictures=6)
    weights = np.array([2, 0, 1, 3, 1, 0])
    weighted = average_precision(match_all(true, faces, min_px=10), weights=weights)
    rows = np.repeat(np.arange(6), weights)
    repeated = match_all([true[i] for i in rows], [faces[i] for i in rows], min_px=10)
    # equal scores: the first of the repeated ones sees a precision that is a little other than the last one's
    assert weighted == pytest.approx(average_precision(repeated), abs=0.02)


def test_the_curve_encloses_the_average_precision() -> None:
    true = [truth((0, 0, 20, 20), (50, 50, 20, 20)), truth((0, 0, 20, 20))]
    boxes = [found((0.9, 0, 0, 20, 20), (0.5, 50, 50, 20, 20), (0.7, 100, 100, 20, 20)), found((0.6, 0, 0, 20, 20))]
    detected = match_all(true, boxes, min_px=10)
    recall, precision = precision_recall(detected)
    area = float((np.diff(recall, prepend=0) * precision).sum())
    assert area == pytest.approx(average_precision(detected))


def test_the_bootstrap_repeats_itself_and_sees_no_difference_where_there_is_none() -> None:
    true, faces = random_set(1)
    same = match_all(true, faces, min_px=10)
    worse = match_all(true, [one if i % 2 else NO_FACES for i, one in enumerate(faces)], min_px=10)
    assert not resampled_drops(same, same, resamples=50, seed=0).any()
    drops = resampled_drops(same, worse, resamples=200, seed=0)
    assert (drops == resampled_drops(same, worse, resamples=200, seed=0)).all()
    assert np.percentile(drops, 2.5) > 0.1
    assert np.percentile(drops, 2.5) < average_precision(same) - average_precision(worse) < np.percentile(drops, 97.5)


@pytest.mark.parametrize(
    ("low", "high", "pictures", "status"),
    [(-0.4, 0.9, 100, "passed"), (1.1, 5.0, 100, "failed"), (-0.4, 1.7, 100, "undecided"), (0, 0, 20, "undecided")],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low: float, high: float, pictures: int, status: str) -> None:
    verdict, reason = apply_gate(
        SizeVerdict(20, 195, 0.96, 0.955, (low + high) / 2, low, high), pictures=pictures, max_drop=1.0
    )
    assert verdict == status
    assert "195 faces of 20 px" in reason
    assert ("bring" in reason) == (status == "undecided")


def test_both_detectors_are_judged_on_the_same_pictures() -> None:
    true, faces = random_set(3)
    blank = np.zeros((8, 8, 3), np.uint8)
    data = read_nothing(tuple(LabelledPicture(f"{i}", blank, boxes) for i, boxes in enumerate(true)))
    blind = [NO_FACES] * len(faces)
    same = compare_detections(faces, faces, data, max_drop=1.0, nodes=(1, 1))
    assert (same.status, same.float32) == ("passed", same.quantized)
    assert same.float_faces == same.found_again > 0
    broken = compare_detections(faces, blind, data, max_drop=1.0, nodes=(1, 1))
    assert (broken.status, broken.found_again, broken.quantized.recall) == ("failed", 0, 0.0)
    assert [size.quantized for size in broken.sizes] == [0.0, 0.0, 0.0]


def read_nothing(pictures: tuple[LabelledPicture, ...]):
    from convert.evaluation.detection import BoxSet

    return BoxSet("made up", "0" * 64, pictures)


def write_faces(folder: Path, count: int = 30) -> Path:
    """Pictures that show two portraits each, with their boxes."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(count):
        rng = np.random.default_rng(index)
        picture = rng.integers(60, 120, (3, 4, 3)).astype(np.uint8).repeat(80, axis=0).repeat(80, axis=1)
        boxes = []
        for name, left in (("collins", 10), ("hopper", 170)):
            side, top = int(rng.integers(60, 140)), int(rng.integers(0, 90))
            face = cv2.resize(cv2.imread(str(PICTURES / f"{name}_face.png")), (side, side))
            picture[top : top + side, left : left + side] = face
            boxes.append({"xywh": [left + 0.15 * side, top + 0.05 * side, 0.7 * side, 0.9 * side]})
        cv2.imwrite(str(folder / "images" / f"{index}.png"), picture)
        rows.append({"file": f"{index}.png", "faces": boxes})
    (folder / "boxes.json").write_text(json.dumps({"images": rows}))
    return folder


def test_labelled_pictures_are_read_and_every_fault_names_its_file(tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "faces", count=2)
    data = read_boxes(folder)
    assert (data.name, len(data.pictures), data.pictures[0].xywh.shape) == ("faces", 2, (2, 4))
    assert data.sha256 == read_boxes(folder).sha256
    (folder / "images" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png: not a picture"):
        read_boxes(folder)
    (folder / "images" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: No such file"):
        read_boxes(folder)
    with pytest.raises(DataError, match=r"boxes\.json: .*wanted a folder with boxes\.json and images/"):
        read_boxes(tmp_path)
    for text, message in (
        ("{}", "images"),
        ('{"images": []}', "no face in it"),
        ('{"images": [{"file": "a", "faces": [{"xywh": [1, 2, -3, 4]}]}]}', "xywh"),
    ):
        (tmp_path / "boxes.json").write_text(text)
        with pytest.raises(DataError, match=rf"boxes\.json: .*{message}"):
            read_boxes(tmp_path)


@pytest.mark.tensorflow
def test_verify_compares_a_detector_and_records_it_without_touching_the_model(
    onnx: Path, mien_convert: Run, tmp_path: Path
) -> None:
    bundle = tmp_path / "yunet-320x256"
    shutil.copytree(find_bundle("yunet-320x256"), bundle)
    before = {name: (bundle / name).read_bytes() for name in ("model.tflite", "golden.npz", "manifest.json")}
    data = write_faces(tmp_path / "faces")
    arguments = ("verify", bundle, "--reference", onnx, "--data", data, "--max-drop", "5")
    said = mien_convert(*arguments, "--report", tmp_path / "page")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1].startswith("passed: average precision ")
    page = (tmp_path / "page" / "report.html").read_text()
    assert said.out.splitlines()[-1].partition(": ")[2] in html.unescape(page)
    assert "polyline" in page
    assert (bundle / "manifest.json").read_bytes() == before["manifest.json"]
    said = mien_convert(*arguments, "--record", "--notes", "pictures made for a test", "--json", tmp_path / "v.json")
    assert said.code == 0, said.err
    manifest = load_detect_bundle(bundle).manifest
    assert manifest.status == "passed"
    metric = next(metric for metric in manifest.metrics if metric.name == "average_precision_20px")
    assert (metric.dataset, metric.n) == ("faces", 60)
    assert metric.float32 > 0.8
    assert abs(metric.float32 - metric.quantized) < 0.05
    for name in ("model.tflite", "golden.npz"):
        assert (bundle / name).read_bytes() == before[name], name
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "Verdict: passed" in card
    assert "pictures made for a test" in card
    assert json.loads((tmp_path / "v.json").read_bytes())["comparison"]["pictures"] == 30
    assert (bundle / "report.json").read_bytes() == (tmp_path / "v.json").read_bytes()


@pytest.mark.tensorflow
def test_detector_quantizes_compares_and_bundles(onnx: Path, mien_convert: Run, tmp_path: Path) -> None:
    data = write_faces(tmp_path / "faces")
    arguments = ["detector", "--onnx", onnx, "--calibrate", data / "images", "--evaluate", data]
    out = ["--out", tmp_path / "out", "--size", "320x256"]
    said = mien_convert(*arguments, *out, "--max-drop", "5")
    assert said.code == 0, said.err
    bundle = load_detect_bundle(tmp_path / "out" / "yunet-320x256")
    assert bundle.manifest.status == "passed"
    assert bundle.manifest.metrics
    assert "PASSED" in (tmp_path / "out" / "yunet-320x256.report" / "report.html").read_text()
    refused = mien_convert(*arguments, *out)
    assert refused.code == 2
    assert "--force" in refused.err
    # A limit that no network can keep: the bundle is not written.
    failed = mien_convert(*arguments, "--out", tmp_path / "other", "--size", "320x256", "--max-drop", "-90")
    assert failed.code == 3
    assert not (tmp_path / "other" / "yunet-320x256").exists()
    assert "FAILED" in (tmp_path / "other" / "yunet-320x256.report" / "report.html").read_text()
    other = tmp_path / "letters" / "yunet-64x64"
    other.mkdir(parents=True)
    (other / "diary.txt").write_text("mine")
    said = mien_convert(*arguments, "--out", other.parent, "--size", "64x64", "--force")
    assert said.code == 2
    assert "exists and is not a bundle" in said.err
    assert (other / "diary.txt").read_text() == "mine"


@pytest.mark.tensorflow
def test_what_does_not_fit_a_detector_is_a_usage_error(onnx: Path, mien_convert: Run, tmp_path: Path) -> None:
    verify = ("verify", "yunet-320x256", "--reference", onnx, "--data")
    said = mien_convert(*verify, tmp_path, "--scale", "1")
    assert said.code == 2
    assert "--scale: yunet-320x256 is a face detector" in said.err
    said = mien_convert(*verify, tmp_path, "--data", tmp_path)
    assert said.code == 2
    assert "--data: 2 of them" in said.err
    said = mien_convert(*verify, tmp_path)
    assert said.code == 78
    assert "boxes.json" in said.err
    (tmp_path / "no.onnx").write_bytes(b"no model")
    data = write_faces(tmp_path / "faces", count=1)
    said = mien_convert("verify", "yunet-320x256", "--reference", tmp_path / "no.onnx", "--data", data)
    assert said.code == 1
    assert "no.onnx: OpenCV refuses the model" in said.err
    said = mien_convert("verify", "emotion-nano", "--reference", onnx, "--data", data, "--record")
    assert said.code == 2
    assert "--record" in said.err
