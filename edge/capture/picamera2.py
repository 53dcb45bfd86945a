"""Raspberry Pi cameras through libcamera's picamera2, which the operating system brings. *Untried on hardware.*"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import cv2
import numpy as np
from msgspec import Meta

from edge.capture.base import SourceRequest, capture_time_ns
from edge.capture.shared_device import SharedDevice
from edge.config.schema import Section
from edge.errors import (
    ConfigError,
    MissingDependencyError,
    SourceBusyError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
)
from edge.records import Frame, Image

if TYPE_CHECKING:
    from picamera2 import Picamera2

INSTALL = "apt-get install python3-picamera2, and a virtual environment made with --system-site-packages"


class Options(Section, frozen=True):
    """``camera.options`` of a Raspberry Pi camera."""

    lores_width: Annotated[
        Annotated[int, Meta(ge=64, le=4096)] | None, Meta(description="second, smaller stream; unset: none")
    ] = None
    lores_height: Annotated[Annotated[int, Meta(ge=64, le=4096)] | None, Meta(description="of that stream")] = None
    hflip: Annotated[bool, Meta(description="mirror; deprecated: camera.flip")] = False
    vflip: Annotated[bool, Meta(description="upside down; deprecated: camera.rotate")] = False
    controls: Annotated[dict[str, Any], Meta(description="libcamera's, for example AfMode = 2")] = {}  # noqa: RUF012
    read_timeout_s: Annotated[float, Meta(ge=0.5, le=60, description="without a frame the camera is lost")] = 5


class Picamera2Source:
    """A Raspberry Pi camera. See `edge.capture.base.Source`."""

    reopens: ClassVar[bool] = True

    def __init__(self, request: SourceRequest, *, camera: Picamera2, identity: str, options: Options) -> None:
        self.name, self.live, self.identity = request.name, True, identity
        self._camera, self._clock, self._options = camera, request.clock, options
        self._has_lores = options.lores_width is not None
        self._device = SharedDevice(camera.close)
        self._number = 0

    @classmethod
    def open(cls, request: SourceRequest) -> Picamera2Source:
        """Open, configure and start a camera given by number or libcamera id.

        Raises:
            MissingDependencyError: picamera2 is not installed, or not for this numpy.
            SourceNotFoundError: no such camera; the message lists those that there are.
            SourceBusyError: another process holds it.
            SourceError: libcamera refuses.
            ConfigError: an unknown or wrong option.
        """
        options = request.options(Options)
        if (options.lores_width is None) != (options.lores_height is None):
            raise ConfigError("camera.options.lores_width", "lores_width and lores_height belong together")
        try:
            from picamera2 import Picamera2
        except (ImportError, ValueError) as error:  # ValueError: simplejpeg built for another numpy
            raise MissingDependencyError("a picamera2: source", f"picamera2 ({error})", INSTALL) from error
        number, identity = _find_camera(Picamera2.global_camera_info(), request)
        try:
            camera = Picamera2(number)
        except (RuntimeError, IndexError) as error:
            raise _open_error(request.name, error) from error
        try:
            camera.configure(_make_configuration(camera, request, options))
            _check_formats(camera, request.name)
            camera.start()
        except SourceError:
            camera.close()
            raise
        except (RuntimeError, ValueError, AttributeError) as error:
            camera.close()
            raise _open_error(request.name, error) from error
        return cls(request, camera=camera, identity=identity, options=options)

    def read(self) -> Frame | None:
        """Return the next frame: (height, width, 3) uint8 BGR, and ``lores`` where configured, of the same exposure.

        Raises:
            SourceLostError: no frame came in time.
        """
        with self._device.using() as usable:
            frame = self._capture() if usable else None
        return None if self._device.closed else frame

    def close(self) -> None:
        """Stop the camera; a read that is under way does so when it returns, in ``read_timeout_s`` at most."""
        self._device.close()

    def _capture(self) -> Frame:
        try:
            job = self._camera.capture_request(wait=False)
            request = self._camera.wait(job, timeout=self._options.read_timeout_s)
        except (TimeoutError, concurrent.futures.TimeoutError):  # two classes before Python 3.11
            problem = f"the camera delivered no frame for {self._options.read_timeout_s:g} s"
            raise SourceLostError(self.name, problem) from None
        except RuntimeError as error:
            raise SourceLostError(self.name, str(error)) from error
        now_ns = self._clock()
        try:
            main = self._picture(request, "main")
            lores = self._picture(request, "lores") if self._has_lores else None
            sensor_ns = int(request.get_metadata().get("SensorTimestamp", 0))
        finally:
            request.release()
        number, self._number = self._number, self._number + 1
        stamp_ns = capture_time_ns(sensor_ns - _asleep_ns() if sensor_ns else 0, now_ns=now_ns)
        return Frame(image=main, timestamp_ns=stamp_ns, number=number, source=self.name, lores=lores)

    def _picture(self, request: Any, stream: str) -> Image:
        """Return a stream's picture as BGR; libcamera may have put another format in place of the one asked for."""
        configured = self._camera.camera_configuration()[stream]
        width, height = configured["size"]
        return _CONVERSIONS[configured["format"]](request.make_array(stream), (width, height))


def bgr_from_yuv420(planes: Image, size_wh: tuple[int, int]) -> Image:
    """Convert what picamera2 makes of a YUV420 buffer.

    Args:
        planes: (height * 3 / 2, stride) uint8: Y, then U and V at half the stride; ``stride`` is the width rounded up
            to what the hardware likes (64 bytes on a Pi 4).
        size_wh: of the picture without the padding.

    Returns:
        (height, width, 3) uint8 BGR.
    """
    width, height = size_wh
    padded: Image = cv2.cvtColor(planes[: height * 3 // 2], cv2.COLOR_YUV2BGR_I420)  # type: ignore[assignment]
    return padded if padded.shape[1] == width else padded[:, :width].copy()


def bgr_from_nv12(planes: Image, size_wh: tuple[int, int]) -> Image:
    """Convert what picamera2 makes of an NV12 buffer: USB cameras and libcamera's virtual one have nothing else.

    Args:
        planes: (height * 3 / 2, width) uint8: Y, then rows of U and V by turns, the rows' padding cut off.
        size_wh: of the picture.

    Returns:
        (height, width, 3) uint8 BGR.
    """
    width, height = size_wh
    rows = np.ascontiguousarray(planes[: height * 3 // 2, :width])
    return cv2.cvtColor(rows, cv2.COLOR_YUV2BGR_NV12)  # type: ignore[return-value]


_CONVERSIONS: Final[dict[str, Callable[[Image, tuple[int, int]], Image]]] = {
    "RGB888": lambda pixels, _: pixels,  # libcamera's name for BGR in memory
    "YUV420": bgr_from_yuv420,
    "NV12": bgr_from_nv12,
}


def _check_formats(camera: Picamera2, name: str) -> None:
    """Refuse pixels that cannot be converted: libcamera takes another format without a word where it must.

    Raises:
        SourceError: a stream has such a format.
    """
    configuration = camera.camera_configuration()
    for stream in ("main", "lores"):
        chosen = (configuration.get(stream) or {}).get("format", "RGB888")
        if chosen not in _CONVERSIONS:
            raise SourceError(name, f"the camera delivers {chosen}; there are {', '.join(_CONVERSIONS)}")


def _find_camera(infos: list[dict[str, Any]], request: SourceRequest) -> tuple[int, str]:
    """Return number and stable name of the camera with a number or libcamera id."""
    wanted = request.target or "0"
    for info in infos:
        if wanted in (str(info["Num"]), info["Id"]):
            return int(info["Num"]), f"picamera2:{info['Id']}"
    there = ", ".join(f"{info['Num']} ({info['Model']}, {info['Id']})" for info in infos) or "none at all"
    raise SourceNotFoundError(request.name, f"libcamera knows no camera {wanted}; there are: {there}")


def _make_configuration(camera: Picamera2, request: SourceRequest, options: Options) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "main": {"size": (request.config.width, request.config.height), "format": "RGB888"},
        "controls": {"FrameRate": request.config.fps, **options.controls},
        "buffer_count": 4,
    }
    if options.lores_width is not None:  # before the Pi 5 this stream is YUV420 or nothing
        arguments["lores"] = {"size": (options.lores_width, options.lores_height), "format": "YUV420"}
    if options.hflip or options.vflip:
        from libcamera import Transform

        arguments["transform"] = Transform(hflip=options.hflip, vflip=options.vflip)
    configuration: dict[str, Any] = camera.create_video_configuration(**arguments)
    return configuration


def _open_error(name: str, error: Exception) -> SourceError:
    """Return libcamera's failure as an error; picamera2 hides the first one behind a general one."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__context__
    text = "; ".join(dict.fromkeys(part for part in chain if part))
    if "busy" in text.lower() or "acquire" in text.lower():
        return SourceBusyError(name, f"another process holds the camera ({text})")
    return SourceError(name, f"libcamera cannot open the camera: {text}")


def _asleep_ns() -> int:
    """Return how far CLOCK_BOOTTIME (of ``SensorTimestamp``) is ahead of the monotonic clock: time suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
