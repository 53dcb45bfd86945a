"""Statistics of classifiers on labelled pictures, with intervals: numpy alone.

The verdict of a conversion and `mien-train evaluate` both use it: the same predictions give the same figures.
All intervals are two-sided, 95 % unless said otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating[npt.NBitBase]] | npt.NDArray[np.float32] | npt.NDArray[np.float64]

Z_95: Final = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""
MASS_BINS: Final = 15
"""Bins of the calibration error, as in Guo et al. 2017."""
TEMPERATURE_RANGE: Final = (0.02, 50.0)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its interval.

    Attributes:
        value: 0..1; NaN when ``n`` is 0.
        low: lower end of the interval.
        high: upper end.
        n: how many were counted.
    """

    value: float
    low: float
    high: float
    n: int


def wilson_rate(successes: int, n: int, *, z: float = Z_95) -> Rate:
    """Share of successes with Wilson's score interval.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    if n == 0:
        return Rate(math.nan, 0.0, 1.0, 0)
    share, scale = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Rate(share, low, high, n)


def accuracy(labels: Ints, predictions: Ints) -> Rate:
    """Share of (n,) predictions that equal their labels, with Wilson's interval."""
    return wilson_rate(int((labels == predictions).sum()), len(labels))


def confusion_matrix(labels: Ints, predictions: Ints, *, classes: int) -> Ints:
    """(classes, classes) counts: row = label, column = prediction."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def recalls(confusion: Ints) -> Reals:
    """(classes,) share of each class' pictures that were recognised; NaN for a class without pictures."""
    return _divide(np.diag(confusion), confusion.sum(axis=1))


def precisions(confusion: Ints) -> Reals:
    """(classes,) share of each class' predictions that were right; NaN for a class that was never predicted."""
    return _divide(np.diag(confusion), confusion.sum(axis=0))


def f1_scores(confusion: Ints) -> Reals:
    """(classes,) harmonic mean of precision and recall; NaN for a class without pictures."""
    score = _divide(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1))
    return np.where(confusion.sum(axis=1) > 0, score, np.nan)


def balanced_accuracy(confusion: Ints) -> float:
    """Mean recall over the classes that have pictures."""
    return _mean_of_present(recalls(confusion))


def macro_f1(confusion: Ints) -> float:
    """Mean F1 over the classes that have pictures."""
    return _mean_of_present(f1_scores(confusion))


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Accuracy of a second model minus that of a first one, on the same pictures.

    Attributes:
        value: second minus first, -1..1.
        low: lower end of the interval.
        high: upper end.
        n: pictures.
        only_first: pictures that only the first got right.
        only_second: pictures that only the second got right.
        p_value: McNemar's exact test that both are equally good.
    """

    value: float
    low: float
    high: float
    n: int
    only_first: int
    only_second: int
    p_value: float

    def drop_points(self) -> tuple[float, float, float]:
        """Return the fall of the accuracy in percentage points, and the ends of its interval."""
        return -100 * self.value + 0.0, -100 * self.high, -100 * self.low  # + 0.0: no negative zero

    def pictures_to_decide(self, limit: float) -> int:
        """About how many pictures would put the whole interval on one side of ``limit``, should the value stay.

        Args:
            limit: a difference, -1..1.

        Returns:
            At least ``n``; a value that sits on the limit would need more than there are: capped at 10 million.
        """
        half, distance = (self.high - self.low) / 2, abs(self.value - limit)
        wanted = self.n * (half / max(distance, 1e-6)) ** 2
        return min(max(math.ceil(wanted), self.n), 10_000_000)


def paired_difference(first_correct: Bools, second_correct: Bools, *, z: float = Z_95) -> PairedDifference:
    """Compares two models on the same pictures.

    The interval is Wald's with the Laplace adjustment of Bonett and Price, which keeps its coverage for few and for no
    discordant pairs. Sources: Bonett, Price, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions
    Based on Paired Data, 2012; Fagerland, Lydersen, Laake, Recommended Tests and Confidence Intervals for Paired
    Binomial Proportions, 2014.

    Args:
        first_correct: (n,) bool, n > 0.
        second_correct: (n,) bool for the same pictures.
        z: standard normal quantile of the interval.
    """
    n = len(first_correct)
    gained = int((second_correct & ~first_correct).sum())
    lost = int((first_correct & ~second_correct).sum())
    share_gained, share_lost = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    centre = share_gained - share_lost
    half = z * math.sqrt((share_gained + share_lost - centre * centre) / (n + 2))
    return PairedDifference(
        value=(gained - lost) / n,
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        n=n,
        only_first=lost,
        only_second=gained,
        p_value=mcnemar_p_value(lost, gained),
    )


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value: discordant pairs fall either way with equal chance, were both models equally good.

    Source: McNemar, Note on the Sampling Error of the Difference Between Correlated Proportions, 1947.
    """
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    if discordant == 0:
        return 1.0
    log_terms = [
        math.lgamma(discordant + 1) - math.lgamma(k + 1) - math.lgamma(discordant - k + 1) - discordant * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, log_terms)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence is from accuracy.

    Attributes:
        error: expected calibration error: mean over the pictures of |accuracy - confidence| of their bin, 0..1.
        confidences: (bins,) mean confidence a bin.
        accuracies: (bins,) accuracy a bin.
        counts: (bins,) pictures a bin.
    """

    error: float
    confidences: Reals
    accuracies: Reals
    counts: Ints


def calibration(confidences: Scores, correct: Bools, *, bins: int = MASS_BINS) -> Calibration:
    """Expected calibration error over bins of equal mass (equally many pictures, by rank of confidence).

    Source: Naeini et al. 2015 and Guo et al. 2017 for the error; Nguyen, O'Connor 2015 for bins of equal mass.

    Args:
        confidences: (n,) score of the predicted class, 0..1.
        correct: (n,) bool.
        bins: number of bins; not more than pictures.
    """
    order = np.argsort(confidences, kind="stable")
    parts = np.array_split(order, min(bins, max(1, len(order))))
    counts = np.array([len(part) for part in parts], np.int64)
    if not len(order):
        return Calibration(math.nan, np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    means = np.array([confidences[part].astype(np.float64).mean() for part in parts])
    shares = np.array([correct[part].mean() for part in parts])
    return Calibration(float((np.abs(shares - means) * counts).sum() / len(order)), means, shares, counts)


def fit_temperature(logits: Scores, labels: Ints) -> float:
    """The temperature T that minimises the mean of ``-log softmax(logits / T)[label]``.

    The derivative by 1/T, the mean of (expected logit - label's logit), grows with 1/T, so that bisection finds its
    zero. Source: Guo et al., On Calibration of Modern Neural Networks, 2017.

    Args:
        logits: (n, classes), n > 0, finite.
        labels: (n,) class of each row.

    Returns:
        T within `TEMPERATURE_RANGE`; its lower end when every picture is recognised.
    """
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    of_label = z[np.arange(len(z)), labels].mean()
    low, high = (math.log(1 / t) for t in reversed(TEMPERATURE_RANGE))
    for _ in range(60):
        middle = (low + high) / 2
        weights = np.exp(z * math.exp(middle))
        expected = ((weights * z).sum(axis=1) / weights.sum(axis=1)).mean()
        low, high = (low, middle) if expected > of_label else (middle, high)
    return math.exp(-(low + high) / 2)


def negative_log_likelihood(probabilities: Scores, labels: Ints) -> float:
    """Mean of ``-log probability of the label`` over (n, classes) probabilities."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


@dataclass(frozen=True, slots=True)
class Coverage:
    """Accuracy when the least confident pictures are abstained from.

    Attributes:
        coverages: (n,) share of pictures answered, 1/n .. 1.
        accuracies: (n,) accuracy among those.
        thresholds: (n,) confidence from which on pictures are answered.
        area: area under 1 - accuracy over coverage (AURC); smaller is better.
    """

    coverages: Reals
    accuracies: Reals
    thresholds: Reals
    area: float

    def accuracy_at(self, coverage: float) -> float:
        """Accuracy among the most confident ``coverage`` (0..1] of the pictures."""
        return float(self.accuracies[max(0, math.ceil(coverage * len(self.accuracies)) - 1)])


def coverage_curve(confidences: Scores, correct: Bools) -> Coverage:
    """Accuracy against coverage, the most confident pictures first.

    Source: Geifman, El-Yaniv, Selective Classification for Deep Neural Networks, 2017.

    Args:
        confidences: (n,) what is thresholded, n > 0.
        correct: (n,) bool.
    """
    order = np.argsort(-confidences, kind="stable")
    ranks = np.arange(1, len(order) + 1)
    accuracies = np.cumsum(correct[order]) / ranks
    area = float((1 - accuracies).mean())
    return Coverage(ranks / len(order), accuracies, confidences[order].astype(np.float64), area)


def grouped_rate(correct: Bools, groups: npt.NDArray[np.str_], *, resamples: int = 2000, seed: int = 0) -> Rate:
    """Accuracy with an interval that respects groups: pictures of one person are not independent.

    Percentile bootstrap over groups: whole groups are drawn with replacement.
    Source: Davison, Hinkley, Bootstrap Methods and their Application, 1997, 3.8.

    Args:
        correct: (n,) bool, n > 0.
        groups: (n,) name of each picture's group.
        resamples: bootstrap samples.
        seed: of their draws.
    """
    _, membership = np.unique(groups, return_inverse=True)
    sizes = np.bincount(membership)
    hits = np.bincount(membership, weights=correct)
    drawn = np.random.default_rng(seed).integers(0, len(sizes), (resamples, len(sizes)))
    shares = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return Rate(float(correct.mean()), float(low), float(high), len(correct))


def _divide(counts: Ints, totals: Ints) -> Reals:
    result = np.full(len(totals), np.nan)
    np.divide(counts, totals, out=result, where=totals > 0)
    return result


def _mean_of_present(values: Reals) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else math.nan
