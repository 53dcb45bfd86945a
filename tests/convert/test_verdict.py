"""The gate: pass, fail or undecided, from planted predictions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the device's interpreter")
pytest.importorskip("flatbuffers", reason="needs the convert extra: pip install 'mien[convert]'")

from convert.evaluation.verdict import SLICES, Comparison, Limits, compare_scores, degrade
from edge.contract.labels import LABELS


def planted(*, n: int, lost: int, gained: int = 0, only: int | None = None, limits: Limits | None = None) -> Comparison:
    """A float model that is right but for 10 %, and a quantized one that loses and gains so many pictures more."""
    labels = np.arange(n) % 7
    rows = np.flatnonzero(labels == only) if only is not None else np.arange(n)
    wrong_float = np.zeros(n, bool)
    wrong_float[rows[: len(rows) // 10]] = True
    wrong_small = wrong_float.copy()
    wrong_small[rows[:gained]] = False
    wrong_small[rows[len(rows) - lost :]] = lost > 0
    scores = [np.full((n, 7), 0.01, np.float32) for _ in range(2)]
    for table, wrong in zip(scores, (wrong_float, wrong_small), strict=True):
        table[np.arange(n), np.where(wrong, (labels + 1) % 7, labels)] = 0.94
    return compare_scores(
        scores[0],
        scores[1],
        labels,
        labels_of_model=LABELS,
        temperature=1.0,
        limits=limits or Limits(),
        dataset="planted",
    )


def test_no_difference_on_many_pictures_passes() -> None:
    found = planted(n=3500, lost=0)
    assert found.status == "passed"
    assert found.drop == 0
    assert found.agreement == 1
    assert found.difference.p_value == 1


def test_a_drop_beyond_the_limit_fails_and_the_reason_has_the_figures() -> None:
    found = planted(n=3500, lost=105)
    assert found.status == "failed"
    assert found.drop == pytest.approx(3.0)
    assert found.drop_low > 1.0
    assert "fell by 3.00 points" in found.reason
    assert "1 allowed" in found.reason


def test_an_interval_across_the_limit_is_undecided_and_says_how_many_pictures_would_decide() -> None:
    found = planted(n=350, lost=4, gained=2)
    assert found.status == "undecided"
    assert found.drop_low < 1 < found.drop_high
    assert "350 pictures decide nothing, bring about" in found.reason
    wanted = int(found.reason.rsplit(" ", 1)[1].replace(",", ""))
    assert wanted > 350
    enough = planted(n=7 * (wanted // 7) * 2, lost=4 * wanted * 2 // 350, gained=2 * wanted * 2 // 350)
    assert enough.status != "undecided"


def test_a_wider_limit_lets_the_same_drop_pass() -> None:
    assert planted(n=3500, lost=105, limits=Limits(max_drop=5, max_class_drop=50)).status == "passed"


def test_one_class_that_collapses_fails_although_the_whole_hardly_moves() -> None:
    found = planted(n=7000, lost=100, only=1, limits=Limits(max_drop=3))
    assert found.status == "failed"
    assert found.reason.startswith("recall of disgust fell by 10.00 points")
    assert [one.passed for one in found.classes] == [True, False, True, True, True, True, True]


def test_a_class_of_few_pictures_is_reported_and_does_not_gate() -> None:
    found = planted(n=1001, lost=60, only=1, limits=Limits(max_drop=10))
    disgust = found.classes[1]
    assert disgust.n == 143
    assert not disgust.gates
    assert disgust.drop_low > 5
    assert found.status == "passed"


def test_an_improvement_is_a_negative_drop_and_passes() -> None:
    found = planted(n=3500, lost=0, gained=100)
    assert found.status == "passed"
    assert found.drop < 0


def test_scores_are_compared_and_the_worst_pictures_come_first() -> None:
    found = planted(n=700, lost=3)
    assert found.worst_score_difference == pytest.approx(0.93)
    assert set(found.worst[:3]) == {697, 698, 699}


@pytest.mark.parametrize("how", SLICES)
@pytest.mark.parametrize("channels", [1, 3])
def test_worse_pictures_keep_their_form_and_really_change(how: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48, channels)).astype(np.uint8)
    worse = degrade(pixels, how)
    assert worse.shape == pixels.shape
    assert worse.dtype == np.uint8
    assert (worse != pixels).mean() > 0.3
    mean = float(worse.mean()) - float(pixels.mean())
    assert {"darker": mean < -40, "brighter": mean > 30}.get(how, abs(mean) < 12)
