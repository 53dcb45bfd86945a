"""The statistics agree with their published examples, with brute force, and with scikit-learn."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.evaluation import classification
from edge.contract.scores import softmax

RNG = np.random.default_rng(5)


def test_wilson_interval_agrees_with_a_published_example() -> None:
    rate = classification.wilson_rate(81, 263)  # Newcombe 1998, table I, method 3: 0.2553 to 0.3662
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.2553, 0.3662)
    assert classification.wilson_rate(0, 20).low == 0.0
    assert round(classification.wilson_rate(0, 20).high, 4) == 0.1611
    assert classification.wilson_rate(29, 29).high == 1.0


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_the_rate_lies_inside_its_interval(n: int, share: float) -> None:
    rate = classification.wilson_rate(round(share * n), n)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_no_picture_says_nothing() -> None:
    rate = classification.accuracy(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert math.isnan(rate.value)
    assert (rate.low, rate.high, rate.n) == (0.0, 1.0, 0)


def test_confusion_and_everything_made_of_it_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="pip install 'mien[training]'")
    labels = RNG.integers(0, 6, 500)  # class 6 has no pictures
    predictions = np.where(RNG.random(500) < 0.6, labels, RNG.integers(0, 7, 500))
    confusion = classification.confusion_matrix(labels, predictions, classes=7)
    assert np.array_equal(confusion, metrics.confusion_matrix(labels, predictions, labels=range(7)))
    assert classification.balanced_accuracy(confusion) == pytest.approx(
        metrics.recall_score(labels, predictions, labels=range(6), average="macro")
    )
    assert classification.macro_f1(confusion) == pytest.approx(
        metrics.f1_score(labels, predictions, labels=range(6), average="macro")
    )
    precision = metrics.precision_score(labels, predictions, labels=range(7), average=None)
    assert np.allclose(classification.precisions(confusion), precision)
    assert np.isnan(classification.recalls(confusion)[6])


def test_mcnemar_agrees_with_the_binomial_distribution_summed_by_hand() -> None:
    for first, second in product(range(8), repeat=2):
        total = first + second
        tail = sum(math.comb(total, k) for k in range(min(first, second) + 1)) / 2**total
        assert classification.mcnemar_p_value(first, second) == pytest.approx(min(1.0, 2 * tail))
    assert classification.mcnemar_p_value(4000, 4400) == pytest.approx(
        1.3e-5, rel=0.1
    )  # normal approximation: z = 4.35


def test_paired_difference_agrees_with_the_formula_worked_by_hand() -> None:
    first = np.array([True] * 8 + [False] * 13)  # the 1 + 7 + 1 + 12 pairs of Fagerland et al. 2014, table 1
    second = np.array([True] + [False] * 7 + [True] + [False] * 12)
    result = classification.paired_difference(first, second)
    assert (result.only_first, result.only_second) == (7, 1)
    assert result.value == pytest.approx(-6 / 21)
    half = 1.959964 * math.sqrt((2 / 23 + 8 / 23 - (6 / 23) ** 2) / 23)
    assert result.low == pytest.approx(-6 / 23 - half, abs=1e-6)
    assert result.high == pytest.approx(-6 / 23 + half, abs=1e-6)
    assert result.p_value == pytest.approx(2 * (1 + 8) / 2**8)


def test_the_paired_interval_covers_the_truth_about_95_times_of_100() -> None:
    covered = 0
    for _ in range(400):
        draw = RNG.random(700)
        first, second = draw < 0.70, (draw < 0.68) | (draw > 0.99)
        result = classification.paired_difference(first, second)
        covered += result.low <= -0.01 <= result.high
    assert 0.92 <= covered / 400 <= 0.99


def test_equal_models_have_an_interval_that_is_not_empty() -> None:
    correct = RNG.random(3589) < 0.7
    result = classification.paired_difference(correct, correct)
    assert result.low < 0 < result.high
    assert result.high < 0.001
    assert result.p_value == 1.0


def test_that_many_more_of_the_same_pictures_decide() -> None:
    first = np.array([True] * 250 + [False] * 109)
    second = first.copy()
    second[:4], second[300] = False, True
    result = classification.paired_difference(first, second)
    assert result.low < -0.02 < result.value < result.high
    needed = result.pictures_to_decide(-0.02)
    assert 359 < needed < 3000
    times = math.ceil(1.2 * needed / 359)
    assert classification.paired_difference(np.tile(first, times), np.tile(second, times)).low > -0.02
    assert classification.paired_difference(first, first).pictures_to_decide(0.0) == 10_000_000


def test_calibration_error_of_known_bins() -> None:
    confidences = np.repeat([0.6, 0.8], 10)
    correct = np.array([True] * 6 + [False] * 4 + [True] * 5 + [False] * 5)
    result = classification.calibration(confidences, correct, bins=2)
    assert result.error == pytest.approx(0.15)
    assert result.counts.tolist() == [10, 10]
    assert result.accuracies.tolist() == [0.6, 0.5]


def test_bins_have_equal_mass_and_never_outnumber_the_pictures() -> None:
    confidences, correct = RNG.random(1000), RNG.random(1000) < 0.5
    assert set(classification.calibration(confidences, correct).counts) == {66, 67}
    assert len(classification.calibration(confidences[:4], correct[:4]).counts) == 4


@settings(deadline=None, max_examples=20)
@given(truth=st.floats(0.3, 5.0))
def test_the_fitted_temperature_is_the_one_that_made_the_labels(truth: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2.0 * truth, (20000, 7)).astype(np.float32)
    probabilities = softmax(logits, temperature=truth)
    labels = (probabilities.cumsum(axis=1) < rng.random((20000, 1))).sum(axis=1).clip(0, 6)
    fitted = classification.fit_temperature(logits, labels)
    assert fitted == pytest.approx(truth, rel=0.05)
    best = classification.negative_log_likelihood(softmax(logits, temperature=fitted), labels)
    for other in (fitted * 0.9, fitted * 1.1):
        assert best <= classification.negative_log_likelihood(softmax(logits, temperature=other), labels)


def test_a_perfect_model_gets_the_lowest_temperature_and_a_random_one_the_highest() -> None:
    labels = RNG.integers(0, 7, 100)
    perfect = np.eye(7)[labels] * 3
    assert classification.fit_temperature(perfect, labels) == pytest.approx(
        classification.TEMPERATURE_RANGE[0], rel=1e-6
    )
    assert classification.fit_temperature(-perfect, labels) == pytest.approx(
        classification.TEMPERATURE_RANGE[1], rel=1e-6
    )


def test_accuracy_against_coverage_starts_with_the_most_confident() -> None:
    curve = classification.coverage_curve(np.array([0.5, 0.9, 0.7, 0.6]), np.array([False, True, True, False]))
    assert curve.accuracies.tolist() == [1.0, 1.0, pytest.approx(2 / 3), 0.5]
    assert curve.accuracy_at(0.5) == 1.0
    assert curve.accuracy_at(1.0) == 0.5
    assert curve.thresholds.tolist() == [0.9, 0.7, 0.6, 0.5]
    assert curve.area == pytest.approx((0 + 0 + 1 / 3 + 0.5) / 4)


def test_the_interval_by_subject_is_wider_when_subjects_differ() -> None:
    subjects = np.repeat([f"S{i}" for i in range(50)], 10)
    by_person = np.repeat(RNG.random(50) < 0.7, 10)  # a person is recognised always or never
    grouped = classification.grouped_rate(by_person, subjects)
    plain = classification.wilson_rate(int(by_person.sum()), 500)
    assert grouped.value == plain.value
    assert grouped.high - grouped.low > 2.5 * (plain.high - plain.low)
    assert grouped == classification.grouped_rate(by_person, subjects)
