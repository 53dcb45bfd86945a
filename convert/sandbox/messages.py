"""Messages between a process and the child that reads for it: a length, then MessagePack."""

from __future__ import annotations

import traceback
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from edge.errors import ConversionError, FileError, MienError, MissingDependencyError, ModelFileError, UsageError

HEAD_BYTES: Final = 8
MAX_BYTES: Final = 4 << 30
"""Of one message."""


class Array(msgspec.Struct):
    """A float32 array.

    Attributes:
        shape: of it.
        data: its bytes, little-endian, row by row.
    """

    shape: tuple[int, ...]
    data: bytes

    @staticmethod
    def of(values: npt.NDArray[Any]) -> Array:
        """Return the message of an array."""
        return Array(values.shape, np.ascontiguousarray(values, "<f4").tobytes())

    def values(self) -> npt.NDArray[np.float32]:
        """Return the array.

        Raises:
            ValueError: the bytes do not fit the shape.
        """
        return np.frombuffer(self.data, "<f4").reshape(self.shape).astype(np.float32, copy=False)


class Failure(msgspec.Struct, tag="failure"):
    """An error of the child.

    Attributes:
        kind: name of its class.
        parts: what the class is made with.
        trace: where it came from, for ``--debug``.
    """

    kind: str
    parts: tuple[str, ...]
    trace: str

    @staticmethod
    def of(error: BaseException, subject: str) -> Failure:
        """Return the message of an error; one that is not ours is told as a fault of the file that is read."""
        trace = "".join(traceback.format_exception(error))[-8000:]
        if isinstance(error, MissingDependencyError):
            return Failure("MissingDependencyError", (error.needed_for, error.package, error.install), trace)
        if isinstance(error, FileError):
            return Failure("ModelFileError", (error.file, error.problem), trace)
        if isinstance(error, MienError):
            kind = type(error).__name__
            return Failure(kind if kind in _KINDS else "ConversionError", (str(error),), trace)
        if isinstance(error, MemoryError):
            return Failure("ModelFileError", (subject, "more memory is needed to read it than a model may take"), trace)
        if isinstance(error, RecursionError):
            return Failure("ModelFileError", (subject, "is nested too deep"), trace)
        said = " ".join(str(error).split())
        return Failure("ModelFileError", (subject, f"cannot be read: {type(error).__name__}: {said}"), trace)

    def error(self) -> MienError:
        """Return the error in this process."""
        found: MienError = _KINDS[self.kind](*self.parts)
        found.__cause__ = RuntimeError(f"in the process that reads it:\n{self.trace}")
        return found


class Answer(msgspec.Struct, tag="answer"):
    """What was asked for.

    Attributes:
        value: MessagePack of it.
    """

    value: msgspec.Raw


_KINDS: Final[dict[str, Any]] = {
    "ConversionError": ConversionError,
    "MissingDependencyError": MissingDependencyError,
    "ModelFileError": ModelFileError,
    "UsageError": UsageError,
}


def pack(message: Any) -> bytes:
    """Return a message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(HEAD_BYTES, "big") + body
