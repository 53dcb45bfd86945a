"""Stored views: judged once, learned from by turns, kept over interruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="pip install 'mien[training]'")

from faces import make_recipe, write_faces  # noqa: E402

from training.data.splits import TrainingData, load_training_data  # noqa: E402
from training.fit.trainer import Teachers, fit  # noqa: E402
from training.fit.views import Views, make_views  # noqa: E402
from training.recipe import Recipe  # noqa: E402

pytestmark = pytest.mark.tensorflow


class Judge:
    """Teachers that count what they are asked, and may be stopped."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked, self._left = 0, stop_after

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """(n, 1, 7) probabilities that tell pictures apart."""
        if self._left is not None and self.asked >= self._left:
            raise KeyboardInterrupt
        self.asked += len(inputs)
        first = inputs.reshape(len(inputs), -1).mean(axis=1) / 255
        rest = np.repeat((1 - first)[:, None] / 6, 6, axis=1)
        return np.concatenate([first[:, None], rest], axis=1)[:, None].astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    return load_training_data([str(write_faces(tmp_path, count=140))], student())


def student(count: int = 3, **augment: float) -> Recipe:
    return make_recipe(
        input={"size_px": 16},
        train={"epochs": 4},
        augment={"flip": 0.5, "affine": 1.0, "shift_x": 0.1} | augment,
        distill={"views": "stored", "count": count},
    )


def test_teachers_judge_every_view_once_however_long_is_trained(data: TrainingData, tmp_path: Path) -> None:
    judge = Judge()
    teachers = Teachers(teach=judge, sha256={"0:a": "1" * 64})
    assert fit(student(), data, out=tmp_path / "run", teachers=teachers).finished
    assert judge.asked == 3 * 2 * len(data.train)  # each view and its mirror image
    fit(student(), data, out=tmp_path / "another", teachers=teachers)
    assert judge.asked == 3 * 2 * len(data.train)


def test_views_of_other_teachers_or_another_augmentation_are_made_anew(tmp_path: Path) -> None:
    inputs = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 1), dtype=np.uint8)
    judge = Judge()
    for recipe, teachers in (
        (student(), {"0:a": "1" * 64}),
        (student(), {"0:a": "1" * 64, "1:a": "1" * 64}),
        (student(shift_x=0.2), {"0:a": "1" * 64}),
    ):
        before = judge.asked
        make_views(inputs, recipe, judge=judge, teachers=teachers, cache=tmp_path)
        assert judge.asked == before + 3 * 20


def test_what_was_stopped_goes_on_behind_the_last_whole_view_to_the_same_views(tmp_path: Path) -> None:
    inputs = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 1), dtype=np.uint8)
    with pytest.raises(KeyboardInterrupt):
        make_views(inputs, student(), judge=Judge(stop_after=40), teachers={}, cache=tmp_path / "torn")
    rest = Judge()
    torn = make_views(inputs, student(), judge=rest, teachers={}, cache=tmp_path / "torn")
    assert rest.asked == 20
    whole = make_views(inputs, student(), judge=Judge(), teachers={}, cache=tmp_path / "whole")
    for ours, theirs in zip(torn.pictures + torn.opinions, whole.pictures + whole.opinions, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_more_views_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    inputs = np.zeros((20, 16, 16, 1), np.uint8)
    judge = Judge()
    make_views(inputs, student(2), judge=judge, teachers={}, cache=tmp_path)
    make_views(inputs, student(5), judge=judge, teachers={}, cache=tmp_path)
    assert judge.asked == 5 * 20


def test_a_picture_comes_with_the_opinion_of_the_very_view_and_with_every_view_by_turns() -> None:
    pictures = tuple(
        np.full((6, 2, 2, 1), 10 * turn, np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
        for turn in range(3)
    )
    opinions = tuple(each[:, :1, :1, 0].astype(np.float16) for each in pictures)
    views, rows = Views(pictures, opinions), np.array([4, 0, 5])
    seen = []
    for epoch in (1, 2, 3):
        picked, judged = views.of_epoch(rows, epoch)
        np.testing.assert_array_equal(picked[:, 0, 0, 0], judged[:, 0, 0])
        np.testing.assert_array_equal(picked[:, 0, 0, 0] % 10, rows)
        seen.append(picked[:, 0, 0, 0] // 10)
    assert np.sort(np.array(seen), axis=0).tolist() == [[0] * 3, [1] * 3, [2] * 3]
