"""The parent's side: a child that reads a stranger's file, and that is ended when it takes too long."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
import weakref
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from convert.sandbox.messages import HEAD_BYTES, MAX_BYTES, Answer, Failure, pack
from convert.sandbox.module import start_module
from convert.sandbox.worker import MEMORY_BYTES
from edge.errors import ModelFileError

READ_S: Final = 300.0
"""For reading a model."""
RUN_S: Final = 300.0
"""For one batch of pictures."""
_CHUNK: Final = 1 << 20
_Value = TypeVar("_Value")


class Child:
    """A process that answers questions about one file; it ends with this object."""

    def __init__(self, module: str, subject: Path) -> None:
        """Start ``python -m MODULE SUBJECT MEMORY``.

        Args:
            module: calls `convert.sandbox.worker.serve`.
            subject: the file that it reads.
        """
        self._subject = subject
        self._process = start_module(module, str(subject), str(MEMORY_BYTES))
        self._finalizer = weakref.finalize(self, _end, self._process)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def ask(self, question: Any, answer: type[_Value], *, timeout_s: float) -> _Value:
        """Return the answer to a question.

        Args:
            question: a value that MessagePack can hold.
            answer: its type.
            timeout_s: after which the child is ended.

        Raises:
            MienError: what the child raised.
            ModelFileError: the child crashed, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        self._write(pack(question), deadline)
        size = int.from_bytes(self._read(HEAD_BYTES, deadline), "big")
        if size > MAX_BYTES:
            raise self._give_up(f"answers with {size / 1e9:.1f} GB")
        try:
            message = msgspec.msgpack.decode(self._read(size, deadline), type=Answer | Failure)
            if isinstance(message, Failure):
                raise message.error()
            return msgspec.msgpack.decode(message.value, type=answer)
        except msgspec.DecodeError as error:
            raise self._give_up(f"answers with something else: {error}") from None

    def _write(self, data: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        rest, number = memoryview(data), self._process.stdin.fileno()
        while rest:
            self._wait(number, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(number, rest[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._ended() from None

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        data, number = bytearray(), self._process.stdout.fileno()
        while len(data) < size:
            self._wait(number, select.POLLIN, deadline)
            part = os.read(number, min(_CHUNK, size - len(data)))
            if not part:
                raise self._ended()
            data += part
        return bytes(data)

    def _wait(self, number: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(number, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self._give_up("did not answer in time")

    def _give_up(self, problem: str) -> ModelFileError:
        self._finalizer()
        return ModelFileError(self._subject, f"the process that reads it {problem}")

    def _ended(self) -> ModelFileError:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return ModelFileError(
            self._subject,
            f"damaged, or too large: it ends the process that reads it ({how}; {MEMORY_BYTES >> 30} GB of memory)",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
