"""What the loss compares with: labels, vote shares, weights, smoothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faces import make_recipe, read_faces

from edge.contract.labels import LABELS
from edge.errors import DataError
from training.fit.targets import NOT_JUDGED, class_offsets, make_arrays, prepare_targets


def test_votes_become_shares_that_weigh_as_much_as_their_part_of_all_votes(tmp_path: Path) -> None:
    """Eight votes for the label and two for contempt: the row is 0.8 at the label and sums to 0.8."""
    faces = read_faces(tmp_path)
    arrays = make_arrays(faces, make_recipe(data={"targets": ["own", "votes"]}, input={"size_px": 16}))
    assert arrays.targets.shape == (len(faces), 2, 7)
    np.testing.assert_allclose(arrays.targets[:, 1].sum(axis=1), 0.8, rtol=1e-6)
    np.testing.assert_array_equal(arrays.targets[:, 0].argmax(axis=1), faces.labels)
    np.testing.assert_array_equal(arrays.labels[:, 1], faces.labels)


def test_a_picture_without_votes_keeps_its_own_label_and_one_without_majority_is_not_judged(tmp_path: Path) -> None:
    faces = read_faces(tmp_path)
    assert faces.votes is not None
    faces.votes[0] = 255
    faces.votes[1] = [4, 0, 4, 0, 0, 0, 0, 2, 0, 0]
    arrays = make_arrays(faces, make_recipe(data={"targets": ["votes"]}))
    assert arrays.targets[0, 0].tolist() == np.eye(7)[faces.labels[0]].tolist()
    assert arrays.labels[1, 0] == NOT_JUDGED
    assert arrays.targets[1, 0, [LABELS.index("neutral"), LABELS.index("surprise")]].tolist() == pytest.approx(
        [0.4, 0.4]
    )


def test_six_classes_leave_the_seventh_out_and_keep_their_order(tmp_path: Path) -> None:
    six = [label for label in LABELS if label != "disgust"]
    faces = read_faces(tmp_path)
    arrays = make_arrays(faces, make_recipe(data={"classes": six}))
    assert len(arrays) == (faces.labels != LABELS.index("disgust")).sum()
    assert [six[label] for label in arrays.labels[:6, 0]] == ["angry", "fear", "happy", "sad", "surprise", "neutral"]


def test_smoothing_keeps_each_pictures_weight(tmp_path: Path) -> None:
    recipe = make_recipe(data={"targets": ["votes"]}, train={"label_smoothing": 0.2})
    arrays = make_arrays(read_faces(tmp_path), recipe)
    smoothed = prepare_targets(arrays, recipe, source="faces")
    np.testing.assert_allclose(smoothed.sum(axis=2), arrays.targets.sum(axis=2), rtol=1e-5)
    np.testing.assert_allclose(smoothed[:, 0].max(axis=1), 0.8 * (0.8 + 0.2 / 7), rtol=1e-5)


def test_balanced_class_weights_give_every_class_the_same_total(tmp_path: Path) -> None:
    recipe = make_recipe(train={"class_weights": "balanced"})
    faces = read_faces(tmp_path, count=70)
    rare = np.flatnonzero(faces.labels == 1)[2:]
    arrays = make_arrays(faces.select(np.setdiff1d(np.arange(len(faces)), rare)), recipe)
    totals = prepare_targets(arrays, recipe, source="faces").sum(axis=(0, 1))
    np.testing.assert_allclose(totals, totals.mean(), rtol=1e-5)


def test_a_missing_class_and_no_picture_at_all_are_one_clear_line(tmp_path: Path) -> None:
    recipe = make_recipe()
    faces = read_faces(tmp_path, labels=LABELS[:-1])
    with pytest.raises(DataError, match="no training picture of neutral"):
        prepare_targets(make_arrays(faces, recipe), recipe, source="faces")
    with pytest.raises(DataError, match="no training picture"):
        prepare_targets(make_arrays(faces.select(np.zeros(0, np.int64)), recipe), recipe, source="faces")
    with pytest.raises(DataError, match="no picture has FER"):
        make_arrays(read_faces(tmp_path, votes=False), make_recipe(data={"targets": ["votes"]}))


def test_offsets_are_the_share_asked_for_of_the_logarithm_of_each_class_frequency(tmp_path: Path) -> None:
    recipe = make_recipe(data={"targets": ["own", "votes"]}, train={"logit_adjustment": {"own": 0.5}})
    faces = read_faces(tmp_path, count=70)
    rare = np.flatnonzero(faces.labels == 1)[2:]
    arrays = make_arrays(faces.select(np.setdiff1d(np.arange(len(faces)), rare)), recipe)
    frequencies = np.bincount(arrays.labels[:, 0]) / len(arrays)
    offsets = class_offsets(arrays, recipe)
    np.testing.assert_allclose(offsets[0], 0.5 * np.log(frequencies), rtol=1e-5)
    assert not offsets[1].any()
