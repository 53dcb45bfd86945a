"""Evaluation: figures that can be worked by hand, bundles on the device's code, runs through Keras, comparison."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scenery import dataset_of, scenery

from edge.bundles.locate import find_bundle
from edge.contract.bundle import load_emotion_bundle
from edge.contract.labels import LABELS
from edge.errors import DataError, MienError, UsageError
from training.data.copies import encode_copies
from training.data.crop_jitter import CENTRE_X_IQR, CENTRE_Y_IQR, SIDE_IQR, draw_moves, move_crops
from training.evaluate.command import evaluate_command, read_for_evaluation
from training.evaluate.evaluate import (
    Temperature,
    encode_report,
    evaluate,
    fit_on,
)
from training.evaluate.models import EvaluatedModel, load_evaluated_model
from training.evaluate.protocols import count_contempt, ten_views

pytest.importorskip("matplotlib", reason="pip install 'mien[training]'")


def model_that_says(
    answer: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], labels: tuple[str, ...] = LABELS, **changes: Any
) -> EvaluatedModel:
    fields = {"name": "made@1.0.0", "kind": "bundle", "size_px": 48, "colour": "grey", "temperature": 1.0}
    fields |= {"prior": "natural", "copies_sha256": None} | changes
    return EvaluatedModel(labels=labels, logits=lambda pixels: answer(pixels).astype(np.float32), **fields)


def coded(labels: list[int], confidences: list[float], truth: list[int], subjects: list[str] | None = None) -> Any:
    """Pictures whose first pixels tell the fake model what to say: class and confidence in percent."""
    images = scenery(len(labels))
    images[:, 0, 0], images[:, 0, 1] = labels, np.round(100 * np.array(confidences))
    return dataset_of(images, truth, ["test"] * len(labels), subjects)


def read_code(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    classes = pixels[:, 0, 0, 0].astype(int)
    confidence = np.clip(pixels[:, 0, 1, 0] / 100, 0.15, 0.999)
    scores = np.repeat(((1 - confidence) / 6)[:, None], 7, axis=1)
    scores[np.arange(len(classes)), np.clip(classes, 0, 6)] = confidence
    return np.log(scores)


def test_the_figures_are_those_worked_by_hand() -> None:
    data = coded([3, 3, 3, 4, 4, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [3, 3, 4, 4, 3, 0])
    report = evaluate(model_that_says(read_code), data).report
    assert report.n == 6
    assert report.accuracy.value == pytest.approx(4 / 6)
    assert report.confusion[3][3:5] == [2, 1]
    assert report.confusion[4][3:5] == [1, 1]
    by_label = {one.label: one for one in report.classes}
    assert by_label["happy"].recall.value == pytest.approx(2 / 3)
    assert by_label["happy"].precision.value == pytest.approx(2 / 3)
    assert by_label["disgust"].recall.value is None
    assert by_label["disgust"].f1 is None
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert [round(point.accuracy, 3) for point in report.coverage if point.coverage in (1.0, 0.5)] == [0.667, 0.667]
    assert report.calibration.error_before == pytest.approx((0.1 + 0.2 + 0.7 + 0.4 + 0.5 + 0.6) / 6, abs=1e-5)
    assert report.accuracy_by_subject is None


def test_people_widen_the_interval_when_all_are_known() -> None:
    subjects = [f"S{i // 5}" for i in range(50)]
    truth = [3] * 50
    said = [3 if i // 5 < 6 else 4 for i in range(50)]
    report = evaluate(model_that_says(read_code), coded(said, [0.8] * 50, truth, subjects)).report
    assert report.accuracy_by_subject is not None
    assert report.accuracy_by_subject.value == report.accuracy.value
    assert report.accuracy_by_subject.low < report.accuracy.low


def test_a_model_of_six_classes_is_measured_on_its_own_and_the_rest_is_counted() -> None:
    six = tuple(label for label in LABELS if label != "disgust")
    data = coded([3, 1, 4], [0.9] * 3, [3, 1, 4])
    report = evaluate(model_that_says(lambda pixels: np.delete(read_code(pixels), 1, axis=1), six), data).report
    assert (report.n, report.left_out) == (2, 1)
    assert report.accuracy.value == 1.0
    assert len(report.confusion) == 6
    with pytest.raises(DataError, match="no picture of any class of made@1"):
        evaluate(model_that_says(read_code, ("disgust",)), coded([3], [0.9], [3]))


def test_the_temperature_is_fitted_on_other_data_and_calibrates() -> None:
    rng = np.random.default_rng(0)

    def draw(count: int) -> Any:
        truth = rng.integers(0, 7, count)
        said = np.where(rng.random(count) < 0.6, truth, (truth + 1) % 7)  # right 60 times of 100, says 95
        return coded(said.tolist(), [0.95] * count, truth.tolist())

    model = model_that_says(read_code)
    temperature = fit_on(model, draw(800))
    report = evaluate(model, draw(800), temperature=temperature).report
    assert temperature.n == 800
    assert report.calibration.source == "fitted on made"
    assert report.calibration.temperature > 1.5
    assert report.calibration.error_before > 0.3
    assert report.calibration.error_after < 0.1
    assert report.calibration.nll_after < report.calibration.nll_before


def test_flipping_averages_the_two_views() -> None:
    def left_or_right(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits = np.zeros((len(pixels), 7))
        brighter_left = pixels[:, :, :24].mean(axis=(1, 2, 3)) > pixels[:, :, 24:].mean(axis=(1, 2, 3))
        logits[:, 3], logits[:, 4] = np.where(brighter_left, 3, 0), 2
        return logits

    image = np.zeros((1, 48, 48), np.uint8)
    image[:, :, :24] = 200
    data = dataset_of(image, [4], ["test"])
    assert evaluate(model_that_says(left_or_right), data).report.accuracy.value == 0.0
    flipped = evaluate(model_that_says(left_or_right), data, flip=True)
    assert flipped.report.flip
    assert flipped.scores[0, 4] == pytest.approx(0.5 * (np.exp(2) / (np.exp(3) + np.exp(2) + 5)
                                                        + np.exp(2) / (np.exp(2) + 6)), rel=1e-4)  # fmt: skip


def test_copies_of_training_pictures_are_left_out_of_the_clean_figure_by_their_list(tmp_path: Path) -> None:
    data = coded([3, 3, 3, 4], [0.9, 0.8, 0.7, 0.6], [3, 3, 4, 0])
    file = tmp_path / "copies.txt"
    file.write_bytes(encode_copies(data, np.array([True, True, False, False])))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for named, told in ((None, None), (digest, True), ("0" * 64, False)):
        report = evaluate(model_that_says(read_code, copies_sha256=named), data, copies=file).report
        assert report.accuracy.value == pytest.approx(0.5)
        assert report.clean is not None
        assert (report.clean.accuracy.value, report.clean.accuracy.n, report.clean.copies) == (0.0, 2, 2)
        assert (report.clean.copies_sha256, report.clean.of_bundle) == (digest, told)


def test_pictures_of_the_eighth_class_count_as_wrong() -> None:
    data = coded([3, 3, 3, 4], [0.9, 0.8, 0.7, 0.6], [3, 3, 4, 4])
    found = evaluate(model_that_says(read_code), data, contempt=4).report.protocols
    assert found is not None
    assert found.eight_classes is not None
    assert (found.eight_classes.value, found.eight_classes.n) == (3 / 8, 8)


def test_ten_views_are_the_corners_and_the_centre_and_their_mirror_images() -> None:
    ramp = np.arange(48, dtype=np.uint8)
    pixels = np.stack([np.repeat(ramp[None], 48, axis=0), np.repeat(ramp[:, None], 48, axis=1)])[..., None]
    views = list(ten_views(pixels))
    assert [view.shape for view in views] == [(2, 48, 48, 1)] * 10
    columns = [(int(view[0, 5, 0, 0]), int(view[0, 5, -1, 0])) for view in views]
    assert columns == [(0, 43), (43, 0), (4, 47), (47, 4), (0, 43), (43, 0), (4, 47), (47, 4), (2, 45), (45, 2)]
    assert [int(view[1, 0, 5, 0]) for view in views[::2]] == [0, 0, 4, 4, 2]


def test_contempt_is_counted_by_the_majority_without_single_votes() -> None:
    data = coded([3] * 4, [0.9] * 4, [3] * 4)
    votes = np.zeros((4, 10), np.uint8)
    votes[0, [7, 0]] = 6, 4
    votes[1, [7, 0]] = 5, 5
    votes[2, [7, 0, 1]] = 2, 1, 1
    votes[3] = 255
    assert count_contempt(replace(data, votes=votes)) == 2
    assert count_contempt(data) == 0


def test_a_bundle_is_measured_at_either_operating_point_and_a_run_at_one(tmp_path: Path) -> None:
    natural, balanced = (load_evaluated_model("emotion-ferplus", prior=prior) for prior in ("natural", "balanced"))
    pixels = np.stack([cv2.resize(image, (48, 48)) for image in scenery(6)])[..., None]
    moved = (balanced.logits(pixels) - natural.logits(pixels)).mean(axis=0)
    wanted = np.array(load_emotion_bundle(find_bundle("emotion-ferplus")).manifest.offsets("balanced"))
    np.testing.assert_allclose(moved - moved.mean(), wanted - wanted.mean(), atol=1e-3)
    assert np.abs(wanted).max() > 0.1
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="--prior balanced"):
        load_evaluated_model(str(tmp_path), prior="balanced")


def test_two_models_are_compared_on_the_same_pictures() -> None:
    data = coded([3] * 60 + [4] * 40, [0.8] * 100, [3] * 100)
    always_happy = model_that_says(lambda pixels: np.eye(7)[np.full(len(pixels), 3)] * 5, name="other@1.0.0")
    found = evaluate(model_that_says(read_code), data, other=always_happy).report.comparison
    assert found is not None
    assert (found.only_this, found.only_other) == (0, 40)
    assert found.difference == pytest.approx(-0.4)
    assert found.high < -0.25
    assert found.mcnemar_p < 1e-10
    six = model_that_says(lambda pixels: np.ones((len(pixels), 1)), ("happy",))
    with pytest.raises(DataError, match="leave the classes out"):
        evaluate(model_that_says(read_code), coded([3, 4], [0.8] * 2, [3, 4]), other=six)


def test_drawn_moves_have_the_measured_scatter() -> None:
    moves = draw_moves(20000, seed=1)
    quartiles = np.subtract(*np.percentile(moves, [75, 25], axis=0))
    assert quartiles == pytest.approx([CENTRE_X_IQR, CENTRE_Y_IQR, SIDE_IQR], rel=0.04)
    assert np.median(moves, axis=0) == pytest.approx([0, 0, 1], abs=0.005)
    x, width = moves[:, 0] - moves[:, 2] * 0.805 / 2, moves[:, 2]
    assert np.corrcoef(x, width)[0, 1] < -0.7
    assert np.array_equal(draw_moves(5, seed=3), draw_moves(5, seed=3))


def test_a_moved_crop_is_cut_where_the_box_would_be() -> None:
    image = np.tile(np.arange(48, dtype=np.uint8) * 5, (48, 1))
    data = dataset_of(image[None].repeat(3, axis=0), [0, 0, 0], ["test"] * 3)
    right, tight, wide = move_crops(data, np.array([[0.25, 0, 1], [0, 0, 0.5], [0, 0, 1.5]])).images
    assert np.array_equal(right[0, :36], image[0, 12:])
    assert set(right[0, 36:]) == {235}  # beyond the edge its pixels are repeated
    assert np.array_equal(tight, image[12:36, 12:36])
    assert wide.shape == (72, 72)


def test_a_model_that_looks_at_the_edge_suffers_from_scatter() -> None:
    images = np.full((40, 48, 48), 128, np.uint8)
    images[20:, 0, :] = 255  # only the first row tells happy from sad
    data = dataset_of(images, [3] * 20 + [4] * 20, ["test"] * 40)

    def first_row(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.eye(7)[np.where(pixels[:, 0].mean(axis=(1, 2)) > 250, 4, 3)] * 4

    found = evaluate(model_that_says(first_row), data, scatter=True).report.scatter
    assert found is not None
    assert found.drop > 10
    assert found.drop_low < found.drop < found.drop_high
    assert found.moves["tighter"] == 0.5
    assert found.moves["higher"] == 1.0


def test_of_data_with_test_splits_only_those_are_measured_unless_asked(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=scenery(6), labels=np.arange(6), usage=np.array([0, 0, 0, 1, 1, 2]))
    spec = str(tmp_path / "a.npz")
    assert len(read_for_evaluation([spec])) == 3
    assert len(read_for_evaluation([f"{spec}@split=train"])) == 3
    assert len(read_for_evaluation([f"{spec}@split=train+test"])) == 6


def test_the_temperature_is_never_fitted_on_the_pictures_measured(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=scenery(6), labels=np.arange(6), usage=np.array([0, 0, 0, 1, 1, 1]))
    spec = str(tmp_path / "a.npz")
    with pytest.raises(UsageError, match="3 of its pictures are among those of --data"):
        evaluate_command("whatever", [spec], calibrate=[spec])


def test_the_page_and_the_charts_are_whole(tmp_path: Path) -> None:
    from training.evaluate.report import write_pages

    rng = np.random.default_rng(2)
    truth = rng.integers(0, 7, 90)
    said = np.where(rng.random(90) < 0.7, truth, rng.integers(0, 7, 90))
    data = coded(said.tolist(), rng.uniform(0.3, 0.95, 90).tolist(), truth.tolist())
    model = model_that_says(read_code)
    found = evaluate(model, data, temperature=Temperature(1.3, "fitted", 90), scatter=True, other=model)
    write_pages(found, tmp_path / "out")
    for name in ("confusion", "precision", "reliability", "coverage", "mistakes"):
        chart = cv2.imread(str(tmp_path / "out" / f"{name}.png"))
        assert chart is not None
        assert chart.std() > 5
    text = (tmp_path / "out" / "evaluation.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    for title in ("Compared on the same pictures", "Confusion", "The device&#x27;s crop", "Worst mistakes"):
        assert title in text
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report == json.loads(encode_report(found.report))
    assert report["schema"] == "mien.evaluation/1"


def test_a_model_without_mistakes_has_a_page_too(tmp_path: Path) -> None:
    from training.evaluate.report import write_pages

    write_pages(evaluate(model_that_says(read_code), coded([3, 4], [0.9, 0.8], [3, 4])), tmp_path)
    assert (tmp_path / "mistakes.png").stat().st_size > 0


def test_what_is_neither_run_nor_bundle_is_refused(tmp_path: Path) -> None:
    from training.evaluate.models import load_evaluated_model

    with pytest.raises(MienError, match="not a bundle"):
        load_evaluated_model(str(tmp_path))


@pytest.mark.tensorflow
def test_a_run_is_measured_through_keras_and_its_bundle_through_the_device_code(tmp_path: Path) -> None:
    """Train, evaluate the run from the command line, export by hand, evaluate the bundle: the same answers."""
    keras = pytest.importorskip("keras", reason="pip install 'mien[training]'")
    pytest.importorskip("ai_edge_litert", reason="pip install mien")
    from faces import make_recipe, write_faces
    from float_bundle import write_float_bundle

    from training.data.splits import load_training_data
    from training.fit.run_folder import model_file
    from training.fit.trainer import fit

    recipe, spec = make_recipe(input={"size_px": 16}), str(write_faces(tmp_path, count=140))
    fit(recipe, load_training_data([spec], recipe), out=tmp_path / "run")
    run = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", "run", "-d", spec, "--json", "r.json", "--out", "o"],
        capture_output=True, text=True, timeout=150, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "accuracy" in run.stdout
    of_run = json.loads((tmp_path / "r.json").read_text())
    assert of_run["kind"] == "run"
    assert of_run["n"] == 28
    assert of_run["calibration"]["source"] == "fitted on the run's validation split"
    write_float_bundle(keras.saving.load_model(model_file(tmp_path / "run"), compile=False), tmp_path / "bundle")
    of_bundle = evaluate_command(str(tmp_path / "bundle"), [spec], other=str(tmp_path / "run"))
    assert of_bundle.kind == "bundle"
    assert of_bundle.confusion == of_run["confusion"]
    assert of_bundle.comparison is not None
    assert of_bundle.comparison.only_this == of_bundle.comparison.only_other == 0
    assert of_bundle.calibration.nll_before == pytest.approx(of_run["calibration"]["nll_before"], rel=1e-4)


def test_predictions_are_a_row_a_picture_that_adds_up_to_the_accuracy(tmp_path: Path) -> None:
    from faces import write_faces

    spec = str(write_faces(tmp_path))
    report = evaluate_command("emotion-nano", [spec], predictions=tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report.n
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert right / len(rows) == pytest.approx(report.accuracy.value)
    assert rows[0]["split"] == "public_test"
    assert all(sum(float(row[label]) for label in report.labels) == pytest.approx(1, abs=1e-4) for row in rows)
    assert all(float(row["confidence"]) == max(float(row[label]) for label in report.labels) for row in rows)
