"""The daemon's memory over minutes, with a gross limit; hours are `tests/benchmarks/soak.py`'s."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from benchmarks.soak import MB, estimate_slope, soak
from tools import require_tool

MINUTES = float(os.environ.get("MIEN_SOAK_MINUTES", "3"))
GROSS_LIMIT_MB = 8.0


@pytest.mark.broker
@pytest.mark.timeout(600 + 60 * MINUTES)
def test_memory_does_not_run_away_while_faces_come_and_go_and_the_broker_restarts(tmp_path: Path) -> None:
    program = require_tool("mosquitto", "apt-get install mosquitto")
    seconds = 60 * MINUTES
    samples, counts = soak(tmp_path, program, seconds=seconds, sample_s=2.0, broker_lives_s=seconds / 4)
    settled = samples.after(seconds / 3).resident / MB
    third = max(1, len(settled) // 3)
    growth = np.median(settled[-third:]) - np.median(settled[:third])
    assert growth < GROSS_LIMIT_MB, f"{growth:.1f} MB more, {counts}"
    assert counts["event"] > 10
    assert counts["history"] > 0, "the broker was never away"


def test_a_leak_is_found_in_memory_that_moves_in_steps() -> None:
    t_s = np.arange(0, 3600, 5.0)
    steps = 1e6 * np.random.default_rng(0).integers(0, 2, 60).repeat(12)
    leak = estimate_slope(t_s, 100e6 + 6e6 * t_s / 3600 + steps)
    assert leak.low < 6 < leak.high
    assert leak.verdict(1.0) == "fails"


def test_memory_that_stays_holds_and_a_short_look_is_undecided() -> None:
    t_s = np.arange(0, 3600, 5.0)
    flat = estimate_slope(t_s, np.full(t_s.shape, 100e6))
    assert flat.mb_per_h == pytest.approx(0, abs=1e-9)
    assert flat.verdict(1.0) == "holds"
    noise = 1e6 * np.tile([0, 1], 3).repeat(12)
    assert estimate_slope(t_s[:72], 100e6 + noise).verdict(1.0) == "undecided"
