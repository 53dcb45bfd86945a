"""The power goes once; twenty times is `make power-cut-test`'s."""

from __future__ import annotations

from pathlib import Path

import pytest
from device.power_cut import Ledger, run_cuts
from tools import require_tool


@pytest.mark.device
@pytest.mark.timeout(1300)
def test_what_was_committed_is_there_after_the_power_came_back(tmp_path: Path) -> None:
    kernel = require_tool("linux.uml", "apt-get install user-mode-linux")
    require_tool("mke2fs", "apt-get install e2fsprogs")
    ledger, done = run_cuts(kernel, tmp_path, cuts=1, seed=1, on_cut=lambda *_: None)
    assert done[0].committed > 0
    assert (ledger.lost, ledger.aside) == (0, set())


@pytest.mark.parametrize("found", [{}, {"a": [1, 8, 8]}, {"a": [2, 9, 8]}, {"a": [1, 9, 8]}, {"b": [1, 9, 9]}])
def test_an_event_that_is_gone_is_missed(found: dict[str, list[int]]) -> None:
    ledger = Ledger({"a": [1, 9, 9]})
    ledger.audit(found, [])
    assert ledger.lost > 0


def test_more_than_was_told_is_no_loss_but_a_file_set_aside_is_told() -> None:
    ledger = Ledger({"a": [1, 9, 9]})
    ledger.audit({"a": [1, 11, 11], "b": [1, 2, 2]}, ["outbox-scene.db.corrupt-x"])
    assert ledger.lost == 0
    assert ledger.aside == {"outbox-scene.db.corrupt-x"}
