"""The child's side: limits that it sets itself before it reads anything, and a loop of questions and answers."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from convert.sandbox.messages import HEAD_BYTES, Answer, Failure, pack

MEMORY_BYTES: Final = 8 << 30
_FILE_BYTES: Final = 4096
"""Of any file that it writes: `tempfile` tries its folder with a few bytes."""
_PR_SET_PDEATHSIG: Final = 1


def serve(handle: Callable[[bytes], Any], *, subject: str, memory_bytes: int) -> None:
    """Answer what comes on standard input until it ends.

    Args:
        handle: takes a question and returns what is answered; what it raises is told.
        subject: name of the file that is read, for errors.
        memory_bytes: that this process may take.
    """
    limit_process(memory_bytes)
    # Whatever a model prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = os.fdopen(os.dup(0), "rb")
    while head := questions.read(HEAD_BYTES):
        question = questions.read(int.from_bytes(head, "big"))
        try:
            message = pack(Answer(msgspec.Raw(msgspec.msgpack.encode(handle(question)))))
        except Exception as error:  # noqa: BLE001  a stranger's file makes frameworks raise anything
            message = pack(Failure.of(error, subject))
        answers.write(message)
        answers.flush()


def limit_process(memory_bytes: int) -> None:
    """Bound what this process can take and write; it ends with the one that started it."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
