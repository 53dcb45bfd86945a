"""Cameras as far as they can be tried without one: devices that are none, real streams over HTTP, stand-ins."""

from __future__ import annotations

import base64
import errno
import http.server
import socket
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from tools import ROOT

from edge.capture import open_source
from edge.capture import v4l2 as v4l2_module
from edge.capture.base import Source, capture_time_ns
from edge.capture.opencv import OpencvCapture
from edge.capture.picamera2 import bgr_from_nv12, bgr_from_yuv420
from edge.capture.v4l2 import V4l2Source, check_device, find_identity, list_cameras
from edge.config.loader import make_config
from edge.errors import (
    ConfigError,
    MissingDependencyError,
    SourceBusyError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
    SourcePermissionError,
)


def open_(source: str, **keys: Any) -> Source:
    camera = {"source": source, "width": 64, "height": 64, **keys}
    return open_source(make_config({"camera": camera}).camera, clock=time.monotonic_ns, paced=True)


# --- V4L2 ---------------------------------------------------------------------------------------------------------


def test_a_camera_number_without_a_camera_is_not_found_and_the_line_names_the_device() -> None:
    with pytest.raises(SourceNotFoundError, match=r"^87: there is no camera /dev/video87; there are: "):
        open_("87")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/ptmx"])
def test_a_device_that_is_no_camera_is_said_to_be_none(device: str) -> None:
    with pytest.raises(SourceError, match=f"{device} is not a camera"):
        open_(device)


def test_a_file_in_place_of_a_device_is_said_to_be_no_camera(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    with pytest.raises(SourceError, match="is not a camera"):
        open_(f"v4l2:{tmp_path / 'video0'}")


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EACCES, SourcePermissionError, "usermod -aG video"),
        (errno.EPERM, SourcePermissionError, "may not open"),
        (errno.ENODEV, SourceNotFoundError, "there is no camera"),
        (errno.EBUSY, SourceBusyError, "another process is using"),
        (errno.EIO, SourceError, "Input/output error"),
    ],
)
def test_why_a_device_cannot_be_opened_is_told_apart(
    number: int, kind: type[SourceError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, errno.errorcode[number] if number != errno.EIO else "Input/output error")

    monkeypatch.setattr(v4l2_module.os, "open", refuse)
    with pytest.raises(kind, match=words) as caught:
        check_device(Path("/dev/null"), name="front")
    assert str(caught.value).startswith("front: ")
    assert "\n" not in str(caught.value)


def answer_ioctls(monkeypatch: pytest.MonkeyPatch, *, device_caps: int, s_fmt: int = 0) -> None:
    """Answers as the kernel would for a device with these capabilities, ``s_fmt`` being VIDIOC_S_FMT's errno."""

    def ioctl(_: int, request: int, argument: bytearray) -> int:
        size = request >> 16 & 0x3FFF
        assert size == len(argument), "the request's number holds the size of its argument"
        if request == v4l2_module._QUERYCAP:
            argument[84:92] = (0x84A0_0001).to_bytes(4, sys.byteorder) + device_caps.to_bytes(4, sys.byteorder)
        if request == v4l2_module._S_FMT and s_fmt:
            raise OSError(s_fmt, "refused")
        return 0

    monkeypatch.setattr(v4l2_module.fcntl, "ioctl", ioctl)


def test_a_camera_that_another_process_streams_from_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_ioctls(monkeypatch, device_caps=0x0420_0001, s_fmt=errno.EBUSY)
    with pytest.raises(SourceBusyError, match="another process"):
        check_device(Path("/dev/null"), name="front")


def test_the_metadata_node_of_a_camera_is_told_from_its_picture_node(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_ioctls(monkeypatch, device_caps=0x04A0_0000)
    with pytest.raises(SourceError, match="delivers no pictures; another node"):
        check_device(Path("/dev/null"), name="front")


def test_a_free_camera_passes_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_ioctls(monkeypatch, device_caps=0x0420_0001)
    check_device(Path("/dev/null"), name="front")


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """Two equal cameras without serial number, which share one link in by-id, and one with its own."""
    for number in (0, 2, 10):
        (tmp_path / f"video{number}").touch()
    for folder, link, node in (
        ("by-id", "usb-A-video-index0", "video2"),
        ("by-path", "usb-1.1-video-index0", "video0"),
        ("by-path", "usb-1.2-video-index0", "video2"),
    ):
        (tmp_path / "v4l" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "v4l" / folder / link).symlink_to(f"../../{node}")
    return tmp_path / "v4l"


def test_the_identity_of_a_camera_is_its_id_then_its_socket_then_its_node(links: Path) -> None:
    nodes = links.parent
    by_id, by_path = links / "by-id/usb-A-video-index0", links / "by-path/usb-1.1-video-index0"
    assert find_identity(f"{nodes}/video2", links=links) == str(by_id)
    assert find_identity(f"{nodes}/video0", links=links) == str(by_path)
    assert find_identity(f"{nodes}/video10", links=links) == f"{nodes}/video10"
    assert find_identity(str(by_path), links=links) == str(by_path), "what the user chose is kept"
    assert list_cameras(links=links, devices=nodes) == [str(by_path), str(by_id), f"{nodes}/video10"]


class FakeDevice:
    """`OpencvCapture` over a camera that is lost after some frames; None is a frame that cannot be decoded."""

    def __init__(self, frames: list[np.ndarray | None], *, driver_ms: float = 0) -> None:
        self.frames, self.driver_ms, self.closed = frames, driver_ms, False

    def grab(self) -> bool:
        return bool(self.frames)

    def retrieve(self) -> np.ndarray | None:
        return self.frames.pop(0)

    def get(self, _: int) -> float:
        return self.driver_ms

    def set(self, *_: float) -> None: ...

    def close(self) -> None:
        self.closed = True


def fake_camera(monkeypatch: pytest.MonkeyPatch, device: FakeDevice) -> V4l2Source:
    monkeypatch.setattr(v4l2_module, "check_device", lambda *_, **__: None)
    monkeypatch.setattr(OpencvCapture, "open", classmethod(lambda *_, **__: device))
    camera = make_config({"camera": {"source": "0"}}).camera
    source = open_source(camera, clock=lambda: 5_000_000_000, paced=True)
    assert isinstance(source, V4l2Source)
    return source


PICTURE = np.zeros((4, 4, 3), np.uint8)


def test_corrupt_frames_are_left_out_and_a_lost_camera_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source = fake_camera(monkeypatch, FakeDevice([None, PICTURE, None, None, PICTURE]))
    frames = [source.read(), source.read()]

    assert [frame.number for frame in frames if frame] == [1, 4]
    with pytest.raises(SourceLostError, match="delivers no frames"):
        source.read()


def test_a_camera_whose_every_frame_is_corrupt_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceLostError, match="30 frames in a row"):
        fake_camera(monkeypatch, FakeDevice([None] * 40)).read()


@pytest.mark.parametrize(
    ("driver_ms", "expected_ns"),
    [(4_950, 4_950_000_000), (0, 5_000_000_000), (5_001, 5_000_000_000), (1_700_000_000_000, 5_000_000_000)],
    ids=["monotonic", "none", "from the future", "wall clock"],
)
def test_the_drivers_time_counts_where_it_is_of_the_monotonic_clock(
    monkeypatch: pytest.MonkeyPatch, driver_ms: float, expected_ns: int
) -> None:
    frame = fake_camera(monkeypatch, FakeDevice([PICTURE], driver_ms=driver_ms)).read()
    assert frame is not None
    assert frame.timestamp_ns == expected_ns


def test_a_driver_time_of_long_ago_is_not_believed() -> None:
    assert capture_time_ns(1, now_ns=10_000_000_000) == 10_000_000_000


def test_closing_while_another_thread_reads_leaves_the_release_to_that_thread() -> None:
    entered, leave, order = threading.Event(), threading.Event(), []

    class Device:
        def grab(self) -> bool:
            entered.set()
            leave.wait(20)
            order.append("read")
            return True

        def release(self) -> None:
            order.append("release")

    capture = OpencvCapture(Device())  # type: ignore[arg-type]
    reader = threading.Thread(target=capture.grab)
    reader.start()
    entered.wait(20)
    capture.close()
    assert order == []
    leave.set()
    reader.join(20)
    assert order == ["read", "release"]
    assert not capture.grab()


# --- network ------------------------------------------------------------------------------------------------------


class Camera(http.server.BaseHTTPRequestHandler):
    """An MJPEG camera over HTTP that asks for a password and ends its stream after ten pictures."""

    def do_GET(self) -> None:
        login = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
        if self.path.startswith("/secret") and login not in (b"user:5ecr3t", b"us@r:5e/:@cr3t"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        done, jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))
        assert done
        for _ in range(10):
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg.tobytes() + b"\r\n")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def camera_port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("path", ["127.0.0.1:{}/video", "user:5ecr3t@127.0.0.1:{}/secret"])
def test_a_network_camera_is_read_until_its_stream_ends(camera_port: int, path: str) -> None:
    source = open_("http://" + path.format(camera_port))
    frames = []
    with pytest.raises(SourceLostError, match="the stream ended") as caught:
        frames.extend(iter(source.read, None))
    source.close()

    assert source.live
    assert len(frames) >= 5
    assert all(frame.size_wh == (64, 48) and abs(int(frame.image.mean()) - 90) <= 3 for frame in frames)
    assert "5ecr3t" not in f"{caught.value} {source.name} {frames[0].source}"
    assert source.read() is None


def test_a_refused_password_is_one_line_that_does_not_show_it(
    camera_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SourceError, match="sends no video") as caught:
        open_(f"http://user:wr0ng@127.0.0.1:{camera_port}/secret")
    assert "wr0ng" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_network_camera_takes_its_password_out_of_a_file(camera_port: int, tmp_path: Path) -> None:
    password, url = tmp_path / "password", f"http://127.0.0.1:{camera_port}/secret"
    options = {"username": "us@r", "password_file": str(password)}
    password.write_text("5e/:@cr3t\n")
    source = open_(url, options=options)
    assert source.read() is not None
    assert "cr3t" not in source.name
    source.close()
    password.write_text("wr0ng\n")  # read anew at every opening
    with pytest.raises(SourceError, match="sends no video"):
        open_(url, options=options)


def test_a_network_camera_whose_login_cannot_be_meant_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("5ecr3t\n")
    (tmp_path / "empty").write_text("\n")
    both = {"username": "user", "password_file": str(tmp_path / "password")}
    for url, options, problem in (
        ("http://user:5ecr3t@host/", both, "is set, and camera.source names a user as well"),
        ("http://host/", {"username": "user"}, "username and password_file belong together"),
        ("http://host/", both | {"password_file": str(tmp_path / "none")}, "No such file or directory"),
        ("http://host/", both | {"password_file": str(tmp_path / "empty")}, "its first line is empty"),
    ):
        with pytest.raises(ConfigError, match=problem) as caught:
            open_(url, options=options)
        assert "5ecr3t" not in str(caught.value)


def test_a_network_camera_that_is_off_is_not_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SourceNotFoundError, match=rf"127\.0\.0\.1:{port}: Connection refused"):
        open_(f"rtsp://user:pw@127.0.0.1:{port}/live")


def test_a_host_that_answers_nothing_ends_in_the_time_that_was_given() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(SourceError, match="sends no video"),
    ):
        open_(f"http://127.0.0.1:{silent.getsockname()[1]}/", options={"open_timeout_s": 0.5})


def test_a_host_name_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(SourceNotFoundError, match=r"camera\.invalid: "):
        open_("rtsp://camera.invalid/live")


@pytest.mark.parametrize("address", ["rtsp://host:99999999/x", "http:///video", "rtsp://[::1/live"])
def test_an_address_that_is_none_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigError, match=r"camera\.source"):
        open_(address)


# --- picamera2 ----------------------------------------------------------------------------------------------------


def test_without_picamera2_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(MissingDependencyError, match=r"apt-get install python3-picamera2.*--system-site-packages"):
        open_("picamera2:0")


@pytest.mark.parametrize("padding", [0, 16])
def test_the_smaller_stream_is_converted_without_the_padding_of_its_rows(padding: int) -> None:
    gradient = np.linspace(40, 200, 48, dtype=np.uint8)
    picture = np.dstack([np.broadcast_to(gradient, (32, 48)), np.full((32, 48), 90), np.full((32, 48), 160)])
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    packed = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
    luma = np.pad(packed[:32], ((0, 0), (0, padding)))
    chroma = np.pad(packed[32:].reshape(2, 16, 24), ((0, 0), (0, 0), (0, padding // 2)))
    planes = np.vstack([luma, chroma.reshape(16, 48 + padding)])
    back = bgr_from_yuv420(planes, (48, 32))

    assert back.shape == (32, 48, 3)
    assert np.abs(back.astype(int) - picture).max() <= 12


def test_nv12_is_converted_to_the_picture_it_was_made_of() -> None:
    picture = cv2.imread(str(ROOT / "edge" / "capture" / "portraits" / "hopper.jpg"))
    picture = np.ascontiguousarray(picture[:160, :160])
    planar = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
    chroma = planar[160:].reshape(2, 80, 80)
    planes = np.vstack([planar[:160], np.stack(list(chroma), axis=-1).reshape(80, 160)])
    back = bgr_from_nv12(planes, (160, 160))
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture).mean() < 4


class FakePicamera2:
    """picamera2 as its manual documents it; a board is needed for the real one."""

    infos: ClassVar[list[dict[str, Any]]] = [{"Num": 1, "Id": "/base/i2c/imx708@1a", "Model": "imx708", "Location": 2}]
    open_error: Exception | None = None
    made: ClassVar[list[FakePicamera2]] = []

    def __init__(self, number: int) -> None:
        if self.open_error:
            try:
                raise self.open_error
            except RuntimeError:
                raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904 - as picamera2 does
        self.number, self.closed, self.started = number, False, False
        self.configuration: dict[str, Any] = {}
        self.made.append(self)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return cls.infos

    def create_video_configuration(self, **arguments: Any) -> dict[str, Any]:
        return arguments

    def configure(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration

    def camera_configuration(self) -> dict[str, Any]:
        return self.configuration

    def start(self) -> None:
        self.started = True

    def capture_request(self, *, wait: bool) -> str:
        assert not wait
        return "job"

    def wait(self, job: str, *, timeout: float) -> FakePicamera2:
        assert (job, timeout) == ("job", 5)
        return self

    def make_array(self, stream: str) -> np.ndarray:
        width, height = self.configuration[stream]["size"]
        shape = (height, width, 3) if stream == "main" else (height * 3 // 2, width + 32)
        return np.full(shape, 128, np.uint8)

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 30_000_000}

    def release(self) -> None: ...

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> type[FakePicamera2]:
    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=FakePicamera2))
    monkeypatch.setattr(FakePicamera2, "made", [])
    return FakePicamera2


def test_a_pi_camera_delivers_both_streams_with_the_sensors_time(picamera2: type[FakePicamera2]) -> None:
    source = open_("picamera2:1", options={"lores_width": 96, "lores_height": 64})
    before_ns = time.monotonic_ns()
    frame = source.read()
    source.close()

    assert frame is not None
    assert frame.size_wh == (64, 64)
    assert frame.lores is not None
    assert frame.lores.shape == (64, 96, 3)
    assert -40_000_000 < frame.timestamp_ns - before_ns < 0, "of the exposure, not of the arrival"
    assert source.identity == "picamera2:/base/i2c/imx708@1a"
    assert picamera2.made[0].closed
    assert picamera2.made[0].configuration["main"]["format"] == "RGB888"


def test_a_camera_that_has_only_nv12_is_converted(
    picamera2: type[FakePicamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    def adjusted(self: FakePicamera2, configuration: dict[str, Any]) -> None:  # as picamera2 does, without a word
        self.configuration = configuration | {"main": {"size": (96, 64), "format": "NV12"}}

    monkeypatch.setattr(picamera2, "configure", adjusted)
    monkeypatch.setattr(picamera2, "make_array", lambda self, _: np.full((96, 96), 128, np.uint8))
    frame = open_("picamera2:1").read()
    assert frame is not None
    assert frame.image.shape == (64, 96, 3)
    assert np.ptp(frame.image) == 0


def test_pixels_that_cannot_be_converted_are_refused_by_name(
    picamera2: type[FakePicamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    def adjusted(self: FakePicamera2, configuration: dict[str, Any]) -> None:
        self.configuration = configuration | {"main": {"size": (96, 64), "format": "MJPEG"}}

    monkeypatch.setattr(picamera2, "configure", adjusted)
    with pytest.raises(SourceError, match="delivers MJPEG; there are RGB888, YUV420, NV12"):
        open_("picamera2:1")
    assert picamera2.made[0].closed


def test_a_pi_camera_is_found_again_by_its_identity(picamera2: type[FakePicamera2]) -> None:
    open_("picamera2:/base/i2c/imx708@1a").close()
    assert picamera2.made[0].number == 1


def test_a_pi_camera_that_is_not_there_lists_those_that_are(picamera2: type[FakePicamera2]) -> None:
    with pytest.raises(SourceNotFoundError, match=r"no camera 0; there are: 1 \(imx708"):
        open_("picamera2:0")


def test_a_pi_camera_that_another_process_holds_is_busy(
    picamera2: type[FakePicamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = RuntimeError("Failed to acquire camera: Device or resource busy")
    monkeypatch.setattr(picamera2, "open_error", busy)
    with pytest.raises(SourceBusyError, match="another process holds the camera"):
        open_("picamera2:1")


def test_half_a_size_of_the_smaller_stream_is_a_configuration_error(picamera2: type[FakePicamera2]) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        open_("picamera2:1", options={"lores_width": 64})
