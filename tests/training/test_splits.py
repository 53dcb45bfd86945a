"""Nobody stands on both sides of a split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faces import make_recipe, read_faces, write_faces

from convert.datasets.split_names import UNSPLIT
from edge.errors import DataError
from training.data.splits import assign_folds, learnable, load_training_data


def test_folds_are_stratified_and_of_equal_size(tmp_path: Path) -> None:
    faces = read_faces(tmp_path, count=350).in_splits("train")
    folds = assign_folds(faces, count=5, seed=1)
    table = np.array([np.bincount(faces.labels[folds == fold], minlength=7) for fold in range(5)])
    assert (table == 10).all()


def test_a_subject_is_in_one_fold_only_and_so_are_identical_pictures(tmp_path: Path) -> None:
    faces = read_faces(tmp_path, count=200).in_splits("train")
    subjects = np.array([f"s{i % 23}" for i in range(len(faces))])
    by_subject = assign_folds(replace(faces, subjects=subjects), count=5, seed=1)
    assert all(len(set(by_subject[subjects == subject])) == 1 for subject in set(subjects))
    assert isinstance(faces.images, np.ndarray)
    twins = faces.images.copy()
    twins[100:] = twins[:100]
    by_pixels = assign_folds(replace(faces, images=twins), count=5, seed=1)
    np.testing.assert_array_equal(by_pixels[:100], by_pixels[100:])


def test_the_seed_decides_the_folds(tmp_path: Path) -> None:
    faces = read_faces(tmp_path, count=140).in_splits("train")
    first, again, other = (assign_folds(faces, count=4, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_copies_of_test_pictures_are_not_learned_from(tmp_path: Path) -> None:
    faces = read_faces(tmp_path, count=70)
    assert isinstance(faces.images, np.ndarray)
    faces.images[3] = faces.images[-1]
    kept = learnable(faces)
    assert len(kept) == 69
    assert faces.ids[3] not in set(kept.ids)


def test_validation_is_cut_from_training_and_the_test_split_is_left_alone(tmp_path: Path) -> None:
    file = write_faces(tmp_path, count=210)
    data = load_training_data([str(file)], make_recipe(data={"validation": 0.2}))
    assert (len(data.train), len(data.validation)) == (168, 42)
    assert set(data.train.splits) == set(data.validation.splits) == {"train"}
    assert not set(data.train.ids) & set(data.validation.ids)


def test_too_few_pictures_to_deal_and_none_to_learn_from_are_one_clear_line(tmp_path: Path) -> None:
    faces = read_faces(tmp_path)
    with pytest.raises(DataError, match="3 subjects or different pictures cannot be dealt into 5 folds"):
        assign_folds(faces.select(np.arange(3)), count=5, seed=1)
    with pytest.raises(DataError, match="no picture of a training split"):
        learnable(faces.in_splits("public_test"))
    assert len(learnable(replace(faces, splits=np.full(len(faces), UNSPLIT)))) == len(faces)
