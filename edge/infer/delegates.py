"""Hardware delegates, tried in a child process first: a mismatched driver library crashes, which cannot be caught."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any, Final

from edge.infer.litert import import_runtime

log = logging.getLogger(__name__)

LIBRARIES: Final = {"edgetpu": "libedgetpu.so.1"}
"""Delegates besides XNNPACK, which is built in, and the shared library of each."""
PROBE_TIMEOUT_S: Final = 20.0


def probe_delegate(library: str, *, timeout_s: float = PROBE_TIMEOUT_S) -> str | None:
    """Loads a delegate's library in a child process.

    Args:
        library: file name or path of the shared library.
        timeout_s: a library that takes longer counts as hanging.

    Returns:
        None when it loads and finds its device, else the reason why it does not.
    """
    command = [sys.executable, "-m", "edge.infer.delegates", library]
    try:
        child = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"{library} did not load within {timeout_s:g} s"
    if child.returncode < 0:
        return f"{library} crashed while loading (signal {-child.returncode})"
    if child.returncode:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"{library} does not load"
    return None


def load_delegate(library: str) -> Any:
    """Loads a delegate's library into this process; probe it first.

    Raises:
        ValueError: the library finds no device.
        OSError: there is no such library.
    """
    return import_runtime().load_delegate(library)


if __name__ == "__main__":
    try:
        load_delegate(sys.argv[1])
    except (ValueError, OSError) as error:
        sys.exit(f"{sys.argv[1]}: {error or 'no device found'}")
