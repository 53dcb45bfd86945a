"""Child processes that end with the demo, however it ends.

A child is told to end by the closing of its standard input, which also happens when the parent dies. It has a session
of its own: Ctrl-C on the terminal is for the parent, which stops its children in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import IO

STOP_TIMEOUT_S = 5.0


def start_child(module: str, *arguments: str, log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start ``python -m module arguments…`` with a pipe to its standard input; its words go to a file or to pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if log is None else log,
        stderr=subprocess.PIPE if log is None else log,
        start_new_session=True,
    )


def stop_child(child: subprocess.Popen[bytes], *, timeout_s: float = STOP_TIMEOUT_S) -> int:
    """Tell a child to end, wait for it and, past the time, kill it.

    Returns:
        Its exit code, negative where a signal ended it.
    """
    with contextlib.suppress(OSError):
        if child.stdin is not None:
            child.stdin.close()
    try:
        code = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    return code


def end_with_parent() -> None:
    """In a child: turns the end of standard input into SIGTERM to itself."""

    def wait() -> None:
        # os.read, not sys.stdin: a thread inside a buffered read would hold its lock while the interpreter ends.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
