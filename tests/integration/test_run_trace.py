"""`mien run --trace`: what a daemon told comes out of its trace; a full disk ends the trace, not the daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import wait_until
from daemons import ended, toml_for

Start = Callable[..., subprocess.Popen[str]]

JSONL = '[publish]\nsinks = ["jsonl"]\n[track]\nconfirm_ms = 0\nkeep_ms = 0\nleave_ms = 0\n'
OF_THE_START = ("ts", "boot_id", "clock_synced", "frame_age_ms")


def facts(event: dict[str, Any]) -> dict[str, Any]:
    """An event without wall time and what else another start has another value of."""
    return {key: value for key, value in event.items() if key not in OF_THE_START}


@pytest.mark.parametrize("loop", [True, False], ids=["looping", "to its end"])
def test_the_events_of_a_daemon_come_out_of_its_trace(
    loop: bool, blinking_clip: Path, run: Start, tmp_path: Path
) -> None:
    trace, out = tmp_path / "trace", tmp_path / "out.jsonl"
    child = run(toml_for(blinking_clip, port=1, extra=JSONL, loop=loop), "--max-frames", "60", "--trace", str(trace))
    stdout, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    rows = [json.loads(line) for line in stdout.splitlines()]
    told = [facts(row["payload"]) for row in rows if row["kind"] == "event"]
    done = subprocess.run(
        [sys.executable, "-m", "edge", "replay", trace, "--out", out], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    again = [facts(event) for line in out.read_text().splitlines() for event in json.loads(line)["events"]]
    assert len(told) > 5
    assert told == again


def test_a_trace_that_is_there_is_not_written_over(blinking_clip: Path, run: Start, tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("before")
    code, errors = ended(run(toml_for(blinking_clip, port=1, extra=JSONL), "--trace", str(tmp_path / "trace")))
    assert code == 2
    assert f"--trace: {tmp_path}/trace is there already; name a new file" in errors
    assert (tmp_path / "trace").read_text() == "before"


def test_a_full_disk_ends_the_trace_and_not_the_daemon(blinking_clip: Path, run: Start, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    limited = ["prlimit", "--fsize=8000"]  # what a write meets on a full disk, for this process alone
    child = run(toml_for(blinking_clip, port=1, extra=JSONL), "--trace", str(trace), prefix=limited)
    assert child.stdout is not None
    problem = f"trace: {trace}: "
    wait_until(lambda: problem in child.stdout.readline(), what=lambda: problem, timeout_s=60)
    assert trace.stat().st_size <= 8000
    child.terminate()
    assert ended(child)[0] == 0
