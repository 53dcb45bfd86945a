"""Any GStreamer pipeline, run by ``gst-launch-1.0`` in a child process: OpenCV's wheels have no GStreamer.

A Jetson's CSI camera, for example (*untried on hardware*)::

    gstreamer:nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1
        ! nvvidconv ! video/x-raw,format=BGRx

The pipeline is written as in a shell and ends before its sink; conversion to BGR of ``camera.width`` by
``camera.height`` is added. A child cannot take the daemon down with it, and can be killed when it hangs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import shutil
import subprocess
import sys
import threading
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.config.schema import Section
from edge.errors import ConfigError, MissingDependencyError, SourceError, SourceLostError
from edge.records import Frame, Image
from edge.system.redact import redact

INSTALL = "apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"

_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the parent's end is ours
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_PIPE_BYTES = 1 << 20
_MESSAGE_BYTES = 8192
_LAST_WORDS_S = 2.0


class Options(Section, frozen=True):
    """``camera.options`` of a GStreamer pipeline."""

    open_timeout_s: Annotated[float, Meta(ge=0.5, le=60, description="until the first frame")] = 10
    read_timeout_s: Annotated[float, Meta(ge=0.5, le=60, description="without a frame the camera is lost")] = 5


class GstreamerSource:
    """A GStreamer pipeline. Frames are stamped when they arrive. See `edge.capture.base.Source`.

    The child ends with the thread that opened the source: open it where it is read.
    """

    reopens: ClassVar[bool] = True
    identity: str | None = None

    def __init__(self, request: SourceRequest, *, child: _Child, options: Options) -> None:
        self.name, self.live = request.name, True
        self._clock, self._child, self._options = request.clock, child, options
        self._size_wh = request.config.width, request.config.height
        self._first: Image | None = None
        self._number = 0

    @classmethod
    def open(cls, request: SourceRequest) -> GstreamerSource:
        """Start the pipeline and wait for its first frame.

        Raises:
            MissingDependencyError: there is no ``gst-launch-1.0``.
            ConfigError: a wrong pipeline or option.
            SourceError: it ended or delivered nothing in time.
        """
        options = request.options(Options)
        program = shutil.which("gst-launch-1.0")
        if program is None:
            raise MissingDependencyError("a gstreamer: source", "gst-launch-1.0", INSTALL)
        source = cls(request, child=_Child([program, *_arguments(request)]), options=options)
        try:
            source._first = source._read_picture(options.open_timeout_s)
        except SourceLostError as error:
            source.close()
            if "erroneous pipeline" in error.problem:
                raise ConfigError("camera.source", f"{request.name!r}: {error.problem}") from None
            raise SourceError(error.file, error.problem) from None
        return source

    def read(self) -> Frame | None:
        """Return the next frame, its picture (height, width, 3) uint8 BGR.

        Raises:
            SourceLostError: the pipeline ended or delivers nothing any more; the message holds its own last words.
        """
        image, self._first = self._first, None
        if image is None:
            image = self._read_picture(self._options.read_timeout_s)
        if image is None or self._child.closed:
            return None
        number, self._number = self._number, self._number + 1
        return Frame(image=image, timestamp_ns=self._clock(), number=number, source=self.name)

    def close(self) -> None:
        """Kill the pipeline and end a read that is under way."""
        self._child.close()

    def _read_picture(self, timeout_s: float) -> Image | None:
        width, height = self._size_wh
        stride = (3 * width + 3) & ~3  # GStreamer begins every row of raw BGR at a multiple of four bytes
        try:
            data = self._child.read(stride * height, timeout_s=timeout_s)
        except EOFError as error:
            raise SourceLostError(self.name, redact(f"the pipeline ended: {error}")) from None
        except TimeoutError:
            raise SourceLostError(self.name, f"the pipeline delivered no frame for {timeout_s:g} s") from None
        if data is None:
            return None
        rows: Image = np.frombuffer(data, np.uint8).reshape(height, stride)
        return np.ascontiguousarray(rows[:, : 3 * width]).reshape(height, width, 3)


def _arguments(request: SourceRequest) -> list[str]:
    """Return the command line of ``gst-launch-1.0`` but for the file descriptor of its sink."""
    try:
        pipeline = shlex.split(request.target)
    except ValueError as error:
        raise ConfigError("camera.source", f"{request.name!r}: {error}") from None
    if not pipeline:
        raise ConfigError("camera.source", f"{request.name!r}: no pipeline behind gstreamer:")
    size = f"width={request.config.width},height={request.config.height},pixel-aspect-ratio=1/1"
    newest = ["queue", "max-size-buffers=1", "max-size-bytes=0", "max-size-time=0", "leaky=downstream"]
    convert = ["videoconvert", "!", "videoscale", "!", f"video/x-raw,format=BGR,{size}"]
    return ["--quiet", *pipeline, "!", *convert, "!", *newest, "!", "fdsink", "sync=false"]


class _Child:
    """The pipeline's process: pictures through a pipe of their own, its messages through another."""

    def __init__(self, arguments: list[str]) -> None:
        self._lock = threading.Lock()  # held by a read
        self._descriptors = threading.Lock()  # held while they are closed, or written to from outside of a read
        self.closed = False
        self._messages = bytearray()
        pictures, pictures_in = os.pipe()
        self._wake, self._wake_in = os.pipe()
        with contextlib.suppress(OSError):  # a bound for unprivileged users; smaller is only slower
            fcntl.fcntl(pictures, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        launcher = [sys.executable, "-ISc", _LAUNCHER, str(os.getpid()), *arguments, f"fd={pictures_in}"]
        try:
            self._process = subprocess.Popen(
                launcher,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(pictures_in,),
            )
        finally:
            os.close(pictures_in)
        assert self._process.stdout is not None
        self._pictures, self._talk = pictures, self._process.stdout.fileno()
        for descriptor in (self._pictures, self._talk):
            os.set_blocking(descriptor, False)

    def read(self, count: int, *, timeout_s: float) -> bytearray | None:
        """Read exactly ``count`` bytes; None once closed.

        Raises:
            TimeoutError: no byte came for so long.
            EOFError: the process ended; its last words.
        """
        buffer = bytearray(count)
        view, done = memoryview(buffer), 0
        poll = select.poll()
        for descriptor in (self._pictures, self._talk, self._wake):
            poll.register(descriptor, select.POLLIN)
        with self._lock:
            while done < count and not self.closed:
                ready = [descriptor for descriptor, _ in poll.poll(timeout_s * 1000)]
                if not ready:
                    raise TimeoutError
                if self._talk in ready:
                    self._listen()
                if self._pictures in ready:
                    got = os.readv(self._pictures, [view[done:]])
                    if got == 0 and not self.closed:
                        raise EOFError(self._last_words())
                    done += got
        if self.closed:
            self._free()
            return None
        return buffer

    def close(self) -> None:
        """Kill the process; the descriptors are closed here, or by the read that is under way."""
        if self.closed:
            return
        self.closed = True
        self._process.kill()
        with self._descriptors:
            if self._pictures >= 0:
                os.write(self._wake_in, b"x")
        self._free()

    def _free(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._pictures >= 0:
                with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel; reaped later
                    self._process.wait(timeout=_LAST_WORDS_S)
                assert self._process.stdout is not None
                self._process.stdout.close()
                with self._descriptors:
                    for descriptor in (self._pictures, self._wake, self._wake_in):
                        os.close(descriptor)
                    self._pictures = -1
        finally:
            self._lock.release()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._messages += os.read(self._talk, _MESSAGE_BYTES)
            del self._messages[:-_MESSAGE_BYTES]

    def _last_words(self) -> str:
        """Return the first error that the process named, else its last line."""
        try:
            self._process.wait(timeout=_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._listen()
        lines = [line.strip() for line in self._messages.decode(errors="replace").splitlines() if line.strip()]
        named = [line for line in lines if "ERROR" in line or "erroneous" in line]
        return (named or lines or ["without a word"])[0 if named else -1]
