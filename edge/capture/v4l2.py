"""Cameras of the Linux kernel (USB webcams and others with a /dev/video node), read through OpenCV."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Annotated, ClassVar

import cv2
from msgspec import Meta

from edge.capture.base import SourceRequest, capture_time_ns
from edge.capture.opencv import OpencvCamera, OpencvCapture
from edge.config.schema import Section
from edge.errors import SourceBusyError, SourceError, SourceNotFoundError, SourcePermissionError

LINKS = Path("/dev/v4l")
"""udev's stable names: ``by-id`` (the device's own) and ``by-path`` (the socket it sits in)."""

# linux/videodev2.h: struct v4l2_capability, and struct v4l2_format whose union is aligned to a pointer
_CAPABILITY_BYTES = 104
_FORMAT_BYTES = 204 if struct.calcsize("P") == 4 else 208
_QUERYCAP = 0x8000_0000 | _CAPABILITY_BYTES << 16 | ord("V") << 8 | 0
_G_FMT = 0xC000_0000 | _FORMAT_BYTES << 16 | ord("V") << 8 | 4
_S_FMT = 0xC000_0000 | _FORMAT_BYTES << 16 | ord("V") << 8 | 5
_CAP_VIDEO_CAPTURE, _CAP_VIDEO_CAPTURE_MPLANE, _CAP_DEVICE_CAPS = 0x1, 0x1000, 0x8000_0000


class Options(Section, frozen=True):
    """``camera.options`` of a V4L2 camera."""

    fourcc: Annotated[
        str, Meta(pattern=r"^[\x20-\x7e]{4}$", description="pixel format asked for; MJPG spares the USB bus")
    ] = "MJPG"
    buffers: Annotated[int, Meta(ge=1, le=10, description="of the driver; fewer: less delay, more drops")] = 2


class V4l2Source(OpencvCamera):
    """A camera under ``/dev``."""

    corrupt_bound: ClassVar[int] = 30

    @classmethod
    def open(cls, request: SourceRequest) -> V4l2Source:
        """Open a camera and ask for format, size and rate; the driver gives the nearest that it has.

        Raises:
            SourceNotFoundError: no such camera; the message lists those that there are.
            SourcePermissionError: this user may not open it.
            SourceBusyError: another process reads it.
            SourceError: no camera, or the driver refuses.
            ConfigError: an unknown or wrong option.
        """
        options = request.options(Options)
        device = Path(os.path.realpath(request.target))
        check_device(device, name=request.name)
        capture = OpencvCapture.open(str(device), backend=cv2.CAP_V4L2)
        if capture is None:
            raise SourceError(request.name, "OpenCV cannot open the camera")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, options.buffers)
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.fourcc))  # before the size: it bounds it
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, request.config.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, request.config.height)
        capture.set(cv2.CAP_PROP_FPS, request.config.fps)
        return cls(
            request,
            capture=capture,
            lost="the camera delivers no frames any more",
            identity=find_identity(request.target),
        )

    def stamp_ns(self) -> int:
        """Return the driver's time where it is monotonic, else the arrival."""
        now_ns = self._clock()
        return capture_time_ns(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6, now_ns=now_ns)


def find_identity(device: str, *, links: Path = LINKS) -> str:
    """Return the most stable name of a camera: its link in ``by-id``, else in ``by-path``, else as written."""
    target = os.path.realpath(device)
    if Path(device).is_relative_to(links):
        return device
    for folder in (links / "by-id", links / "by-path"):
        names = sorted(folder.iterdir()) if folder.is_dir() else []
        for link in names:
            if os.path.realpath(link) == target:
                return str(link)
    return device


def list_cameras(*, links: Path = LINKS, devices: Path = Path("/dev")) -> list[str]:
    """All cameras by their most lasting names."""
    nodes = sorted(devices.glob("video*"), key=lambda node: (len(node.name), node.name))
    return list(dict.fromkeys(find_identity(str(node), links=links) for node in nodes))


def check_device(device: Path, *, name: str) -> None:
    """Raise unless a path is a camera that this process may read now.

    OpenCV says no more than that opening failed; the kernel knows why.

    Raises:
        SourceNotFoundError: no such node.
        SourcePermissionError: this user may not open it.
        SourceBusyError: another process reads it.
        SourceError: it is no camera.
    """
    try:
        mode = device.stat().st_mode
        if not stat.S_ISCHR(mode):
            raise SourceError(name, f"{device} is not a camera")
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_capabilities(handle, device, name)
            _check_free(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _device_error(error, device, name) from None


def _check_capabilities(handle: int, device: Path, name: str) -> None:
    answer = bytearray(_CAPABILITY_BYTES)
    fcntl.ioctl(handle, _QUERYCAP, answer)
    capabilities, own = struct.unpack_from("=II", answer, 84)
    flags = own if capabilities & _CAP_DEVICE_CAPS else capabilities
    if not flags & (_CAP_VIDEO_CAPTURE | _CAP_VIDEO_CAPTURE_MPLANE):
        raise SourceError(name, f"{device} delivers no pictures; another node of the same camera may")


def _check_free(handle: int) -> None:
    """Set the format that is set already: drivers refuse that while another process streams."""
    wanted = bytearray(_FORMAT_BYTES)
    struct.pack_into("=I", wanted, 0, 1)  # V4L2_BUF_TYPE_VIDEO_CAPTURE
    try:
        fcntl.ioctl(handle, _G_FMT, wanted)
        fcntl.ioctl(handle, _S_FMT, wanted)
    except OSError as error:
        if error.errno != errno.EINVAL:  # multi-planar devices have no such format
            raise


def _device_error(error: OSError, device: Path, name: str) -> SourceError:
    """Return the error of the tree for a failed system call on a camera."""
    if isinstance(error, SourceError):
        return error
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO):
        others = ", ".join(list_cameras()) or "none at all"
        return SourceNotFoundError(name, f"there is no camera {device}; there are: {others}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return SourcePermissionError(
            name, f"this user may not open {device}: usermod -aG video USER, then log in again"
        )
    if error.errno == errno.EBUSY:
        return SourceBusyError(name, f"another process is using {device}; fuser -v {device} says which")
    if error.errno in (errno.ENOTTY, errno.EINVAL):
        return SourceError(name, f"{device} is not a camera")
    return SourceError(name, f"{device}: {error.strerror or error}")
