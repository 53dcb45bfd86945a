"""The JSON Lines sink: one object a line, ``{"kind": "event", "payload": {…}}``, to a file or standard output.

``count`` and ``emotion`` are left out: they say no more than ``state``. A thread writes, because a pipe that nobody
reads or a disk that hangs must not hold up inference. Events that could not be written are told by a gap record, kind
``history``, once writing works again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import stat
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from edge.config.schema import Config, JsonlConfig
from edge.errors import PublishError
from edge.publish.base import Message
from edge.publish.encode import encode
from edge.publish.payloads import EventPayload, GapPayload
from edge.publish.topics import TOPICS

log = logging.getLogger(__name__)

NOBODY_READS: Final = "nobody reads the pipe"
PIPE_RETRY_S: Final = 1.0
QUEUE_MAX: Final = 10_000
"""Lines that wait for a slow reader."""

LossReason = Literal["queue_full", "write_failed"]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line to be written; ``event`` names the event it holds as boot_id and seq."""

    data: bytes
    event: tuple[str, int] | None


class JsonlSink:
    """Appends lines to a file or writes them to standard output.

    Args:
        config: where to.
        queue_max: see `QUEUE_MAX`.
    """

    def __init__(self, config: JsonlConfig, *, queue_max: int = QUEUE_MAX) -> None:
        self._path = config.path
        self._queue_max = queue_max
        self._condition = threading.Condition()
        self._lines: deque[_Line] = deque()
        self._gap: GapPayload | None = None
        self._stopping = self._closed = False
        self._fd = -1
        self._torn = False
        self._status = "not started"
        self._written = self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="jsonl", daemon=True)

    def start(self) -> None:
        """Opens the file and starts the writer; a pipe is opened once somebody reads it.

        Raises:
            PublishError: the file cannot be opened for appending.
        """
        try:
            self._fd = os.dup(1) if self._path == "-" else self._open()
        except OSError as error:
            raise PublishError(f"jsonl.path: {self._path}: {error.strerror}") from None
        self._status = "writing" if self._fd >= 0 else NOBODY_READS
        self._thread.start()

    def _open(self) -> int:
        """Open the path for appending; -1 for a pipe that nobody reads. Without waiting for a reader: fifo(7)."""
        try:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return -1

    def send(self, message: Message) -> None:
        """Files one message; see `edge.publish.base.Sink.send`."""
        if not TOPICS[message.kind].recorded:
            return
        payload = message.payload
        text = msgspec.json.encode(payload) if isinstance(payload, str) else message.data
        event = (payload.boot_id, payload.seq) if isinstance(payload, EventPayload) else None
        line = _Line(_make_line(message.kind, text), event)
        with self._condition:
            if self._closed:
                self._dropped += 1
                return
            if len(self._lines) >= self._queue_max:
                self._lose(self._lines.popleft(), "queue_full")
            self._lines.append(line)
            self._condition.notify()

    def stop(self, *, timeout_s: float) -> None:
        """Writes what waits and closes; gives up after ``timeout_s`` seconds."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.ident:
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning("jsonl: %s does not take its lines; %d are lost", self._path, len(self._lines))

    def status(self) -> str:
        """``writing``, or why that does not work."""
        return self._status

    def problems(self) -> list[str]:
        """See `edge.publish.base.Sink.problems`."""
        return [] if self._status in ("not started", "writing") else [self._status]

    def previous(self) -> tuple[str, int] | None:
        """None: lines that are written are not read again."""
        return None

    def counts(self) -> dict[str, int]:
        """Counters: ``queued`` lines now; ``sent`` and ``dropped`` lines since the start."""
        return {"queued": len(self._lines), "sent": self._written, "dropped": self._dropped}

    def _run(self) -> None:
        while self._fd < 0 and not self._wait_for_reader():
            pass
        while self._fd >= 0 and (line := self._next()) is not None and self._deliver(line):
            pass
        if self._fd >= 0:
            os.close(self._fd)

    def _wait_for_reader(self) -> bool:
        """Try to open a pipe, a second later again; True when it is time to end."""
        with contextlib.suppress(OSError):
            self._fd = self._open()
        if self._fd < 0:
            self._set_status(NOBODY_READS)
            with self._condition:
                return self._condition.wait_for(lambda: self._stopping, PIPE_RETRY_S)
        self._set_status("writing")
        return False

    def _deliver(self, line: _Line) -> bool:
        """Writes a line or counts it as lost; False when nobody will ever read again."""
        try:
            self._write_gap()
            self._write(line.data)
        except BrokenPipeError:
            if self._path != "-":
                return self._reopen_pipe(line)
            self._set_status("closed by the reader")
            with self._condition:
                self._closed = True
                self._dropped += 1 + len(self._lines)
                self._lines.clear()
            return False
        except OSError as error:
            self._set_status(f"cannot write: {error.strerror}")
            with self._condition:
                self._lose(line, "write_failed")
        else:
            self._set_status("writing")
        return True

    def _reopen_pipe(self, line: _Line) -> bool:
        """Wait for another reader of a pipe that has a name; the line is lost, the ones that wait are not."""
        os.close(self._fd)
        self._fd, self._torn = -1, False
        with self._condition:
            self._lose(line, "write_failed")
        while self._fd < 0:
            if self._wait_for_reader():
                return False
        return True

    def _next(self) -> _Line | None:
        """The next line; None when it is time to end."""
        with self._condition:
            self._condition.wait_for(lambda: self._lines or self._stopping)
            return self._lines.popleft() if self._lines else None

    def _lose(self, line: _Line, reason: LossReason) -> None:
        """Counts the oldest line as lost; an event extends the gap that is told before the next line."""
        self._dropped += 1
        if line.event is None:
            return
        boot_id, seq = line.event
        first = self._gap.from_seq if self._gap else seq
        self._gap = GapPayload(type="gap", boot_id=boot_id, from_seq=first, to_seq=seq, reason=reason)

    def _write_gap(self) -> None:
        with self._condition:
            gap, self._gap = self._gap, None
        if gap is None:
            return
        try:
            self._write(_make_line("history", encode(gap)))
        except OSError:
            with self._condition:
                later = self._gap
                self._gap = gap if later is None else msgspec.structs.replace(later, from_seq=gap.from_seq)
            raise

    def _write(self, line: bytes) -> None:
        """Writes one line whole, or takes back what was written of it."""
        self._follow()
        data = b"\n" + line if self._torn else line
        written = 0
        try:
            while written < len(data):
                written += self._write_some(data[written:])
        except OSError:
            self._torn = (self._torn or written > 0) and not self._take_back(written)
            raise
        self._torn = False
        self._written += 1

    def _follow(self) -> None:
        """Go on in a new file where the old one was renamed or removed: that is how logrotate(8) does it.

        Raises:
            OSError: there is no new one to be had.
        """
        ours = os.fstat(self._fd)
        if self._path == "-" or not stat.S_ISREG(ours.st_mode):
            return
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(ours, os.stat(self._path)):  # noqa: PTH116 - of a text, for every line
                return
        fresh = self._open()
        os.close(self._fd)
        self._fd, self._torn = fresh, False

    def _write_some(self, data: bytes) -> int:
        """``write(2)`` that waits where standard output was left non-blocking by somebody."""
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        while not os.get_blocking(self._fd) and not poller.poll(1000):
            pass
        return os.write(self._fd, data)

    def _take_back(self, written: int) -> bool:
        """Cuts the torn end off a file on a full disk; a pipe keeps it."""
        try:
            end = os.fstat(self._fd)
            if stat.S_ISREG(end.st_mode):
                os.ftruncate(self._fd, end.st_size - written)
                return True
        except OSError as error:
            log.debug("jsonl: %s", error)
        return False

    def _set_status(self, status: str) -> None:
        if status != self._status:
            self._status = status
            log.log(logging.INFO if status == "writing" else logging.WARNING, "jsonl: %s: %s", self._path, status)


def make_sink(config: Config, *, file: str = "configuration") -> JsonlSink:
    """The sink that a configuration describes, not yet started; see `edge.publish.SINKS`."""
    return JsonlSink(config.jsonl)


def _make_line(kind: str, text: bytes) -> bytes:
    return b'{"kind":"%s","payload":%s}\n' % (kind.encode(), text)
