"""The file of a daemon's trace: a new one, written line by line; a disk that is full ends the trace, not the daemon."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.errors import UsageError

log = logging.getLogger(__name__)


class TraceFile:
    """A new file that takes the lines of `edge.pipeline.trace`.

    Attributes:
        problem: why it ended early, for ``…/problem``; None while it goes on.

    Args:
        path: where; nothing may be there, so that a restart does not write over the trace of what led to it.

    Raises:
        UsageError: something is there, or the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem: str | None = None
        try:
            self._file = path.open("xb", buffering=0)
        except FileExistsError:
            raise UsageError(f"--trace: {path} is there already; name a new file") from None
        except OSError as error:
            raise UsageError(f"--trace: {path}: {error.strerror or error}") from None

    def write(self, line: bytes) -> None:
        """Append a line, or note why it cannot be done; then nothing follows."""
        if self.problem is not None:
            return
        try:
            whole = self._file.write(line) == len(line)
        except OSError as error:
            self._end(error.strerror or str(error))
        else:
            if not whole:
                self._end("the disk is full")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _end(self, reason: str) -> None:
        self.problem = f"trace: {self._path}: {reason}; it ends here"
        log.warning("%s", self.problem)
