"""Runs a module of this package in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start_module(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start ``python -m MODULE`` with pipes to its standard input and output; what it logs is dropped."""
    log = None if os.environ.get("MIEN_NATIVE_LOG") else subprocess.DEVNULL
    return subprocess.Popen(
        _command(module, arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_environment()
    )


def run_module(
    module: str, *arguments: str, stdin: bytes = b"", timeout_s: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run ``python -m MODULE`` and return its exit status and output.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    return subprocess.run(
        _command(module, arguments), input=stdin, capture_output=True, check=False, timeout=timeout_s,
        env=_environment(),
    )  # fmt: skip


def last_line(child: subprocess.CompletedProcess[bytes]) -> str:
    """Return the last line of what a child said on standard error, which is the error of a Python process."""
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit {child.returncode}"


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}
