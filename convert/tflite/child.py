"""Runs a module of this package in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_module(
    module: str, *arguments: str, stdin: bytes = b"", timeout_s: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run ``python -m MODULE`` and return its exit status and output.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=stdin, capture_output=True, check=False, timeout=timeout_s, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def last_line(child: subprocess.CompletedProcess[bytes]) -> str:
    """Return the last line of what a child said on standard error, which is the error of a Python process."""
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit {child.returncode}"
