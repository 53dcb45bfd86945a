"""A real daemon that is too busy: it does less step by step, and says so wherever somebody looks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from daemons import ended, toml_for

from edge.service.governor import EFFORTS

Start = Callable[..., subprocess.Popen[str]]
BUSY = '[power]\nmax_busy = 0.001\nhold_s = 1\n[publish]\nsinks = ["jsonl"]\nhealth_s = 1\nfaces_hz = 30\n'


def test_a_daemon_that_is_too_busy_goes_down_to_the_last_step_and_says_so(clip: Path, run: Start) -> None:
    child = run(toml_for(clip, port=1, extra=BUSY))
    told, health, detectors, seen = [], [], [], 0
    assert child.stdout is not None
    for line in child.stdout:
        row = json.loads(line)
        payload = row["payload"]
        if row["kind"] == "problem":
            told += [problem for problem in payload["problems"] if problem.startswith("degraded: ")]
        elif row["kind"] == "health":
            health.append((payload["degraded"], payload["counts"].get("governed", 0)))
        elif row["kind"] == "info":
            detectors.append(payload["detector"]["name"])
        elif row["kind"] == "faces" and detectors[1:]:
            seen += len(payload["faces"])
        if seen >= 10 and health[-1][1]:
            break
    child.terminate()
    assert ended(child)[0] == 0
    assert told == [f"degraded: load: {effort.said}" for effort in EFFORTS[1:]]
    assert health[-1][0] == "load"
    assert detectors == ["yunet-640x480", "yunet-320x256"]
