"""Cameras on the network: RTSP, MJPEG over HTTP and whatever else OpenCV's FFmpeg reads."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote, urlsplit

import cv2
from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.capture.interlaced import is_interlaced, is_suspicious, reopen_interlaced
from edge.capture.opencv import Capture, OpencvCamera, OpencvCapture
from edge.capture.stream_time import StreamClock
from edge.config.schema import Section
from edge.errors import ConfigError, SourceError, SourceNotFoundError
from edge.system.secrets import read_secret

_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


class Options(Section, frozen=True):
    """``camera.options`` of a network camera."""

    open_timeout_s: Annotated[float, Meta(ge=0.5, le=60, description="to connect and find the video")] = 10
    read_timeout_s: Annotated[float, Meta(ge=0.5, le=60, description="without a frame the camera is lost")] = 5
    transport: Annotated[Literal["tcp", "udp"], Meta(description="of RTSP's pictures")] = "tcp"
    username: Annotated[str | None, Meta(description="of the camera; unset: none")] = None
    password_file: Annotated[
        str | None, Meta(description="file whose first line is its password; under systemd: camera-password")
    ] = None


class NetworkSource(OpencvCamera):
    """A network camera."""

    corrupt_bound: ClassVar[int] = 60
    """Two key frame distances or so."""
    _stream_clock: StreamClock | None = None

    @classmethod
    def open(cls, request: SourceRequest) -> NetworkSource:
        """Connect.

        Raises:
            SourceNotFoundError: no such host, or nothing listens there.
            SourceError: the host answers, but sends no video.
            ConfigError: a wrong address or option.
        """
        options = request.options(Options)
        target = _with_login(request, options)
        _check_reachable(request, timeout_s=options.open_timeout_s)
        timeouts = (
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(options.open_timeout_s * 1000)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(options.read_timeout_s * 1000)),
        )
        with _ffmpeg_options(f"rtsp_transport;{options.transport}|fflags;nobuffer"):
            capture: Capture | None = OpencvCapture.open(target, backend=cv2.CAP_FFMPEG, parameters=timeouts)
        if not isinstance(capture, OpencvCapture):
            raise SourceError(request.name, "the host answers, but sends no video: wrong path, password or codec")
        if is_suspicious(capture) and is_interlaced(target):
            capture.close()
            av_options = {"rtsp_transport": options.transport, "fflags": "nobuffer"}
            capture = reopen_interlaced(target, name=request.name, options=av_options)
        lost = f"the stream ended or sent nothing for {options.read_timeout_s:g} s"
        source = cls(request, capture=capture, lost=lost, identity=None)
        if not _counts_its_frames(request.target, capture):
            source._stream_clock = StreamClock()
        return source

    def stamp_ns(self) -> int:
        """Return when the grabbed frame was made, by the stream's own time; its arrival where it has none."""
        arrival_ns = self._clock()
        if self._stream_clock is None:
            return arrival_ns
        return self._stream_clock.stamp_ns(arrival_ns, round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6))


def _counts_its_frames(target: str, capture: Capture) -> bool:
    """Return whether a stream's time is only a count of frames: MJPEG over HTTP has no time stamps."""
    codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False)
    return target.lower().startswith("http") and codec in (b"MJPG", b"\0\0\0\0")


@contextlib.contextmanager
def _ffmpeg_options(options: str) -> Iterator[None]:
    """Set what OpenCV hands to FFmpeg at every opening, unless the user did; there is one camera in a process."""
    if _FFMPEG_OPTIONS in os.environ:
        yield
        return
    os.environ[_FFMPEG_OPTIONS] = options
    try:
        yield
    finally:
        del os.environ[_FFMPEG_OPTIONS]


def _with_login(request: SourceRequest, options: Options) -> str:
    """Return the address with user name and password in it, which FFmpeg wants there; read anew at every opening."""
    if options.username is None and options.password_file is None:
        return request.target
    key = "camera.options.username"
    if options.username is None or options.password_file is None:
        raise ConfigError(key, "username and password_file belong together")
    try:
        address = urlsplit(request.target)
    except ValueError as error:
        raise ConfigError("camera.source", f"{request.name!r}: not an address: {error}") from None
    if "@" in address.netloc:
        raise ConfigError(key, "is set, and camera.source names a user as well")
    password = read_secret(options.password_file, key="camera.options.password_file")
    login = f"{quote(options.username, safe='')}:{quote(password, safe='')}"
    return address._replace(netloc=f"{login}@{address.netloc}").geturl()


def _check_reachable(request: SourceRequest, *, timeout_s: float) -> None:
    """Connect once by hand, because FFmpeg's reason for failing does not come through OpenCV."""
    try:
        address = urlsplit(request.target)
        host, port = address.hostname, address.port or PORTS.get(address.scheme.lower())
    except ValueError as error:
        raise ConfigError("camera.source", f"{request.name!r}: not an address: {error}") from None
    if port is None:
        return  # connectionless, or a protocol whose port only FFmpeg knows
    if not host:
        raise ConfigError("camera.source", f"{request.name!r}: no host in the address")
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except TimeoutError:
        raise SourceNotFoundError(request.name, f"no answer from {host}:{port} within {timeout_s:g} s") from None
    except socket.gaierror as error:
        raise SourceNotFoundError(request.name, f"{host}: {error.strerror}") from None
    except (OSError, UnicodeError) as error:
        raise SourceNotFoundError(request.name, f"{host}:{port}: {getattr(error, 'strerror', '') or error}") from None
