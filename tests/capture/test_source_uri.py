"""How a source is written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.capture import SOURCES, is_camera, parse_source
from edge.config.loader import make_config
from edge.errors import ConfigError, config_context
from edge.system.redact import redact

SECRETS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=20).map(
    lambda text: f"5ecr3t{text}5ecr3t"
)
ENCODED = st.text("abcXYZ019._~%-", min_size=1, max_size=20).map(lambda text: f"5ecr3t{text}5ecr3t")


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("0", "v4l2", "/dev/video0"),
        ("07", "v4l2", "/dev/video7"),
        (" 2 ", "v4l2", "/dev/video2"),
        ("/dev/video1", "v4l2", "/dev/video1"),
        ("/dev/v4l/by-id/usb-Cam-video-index0", "v4l2", "/dev/v4l/by-id/usb-Cam-video-index0"),
        ("v4l2:/tmp/camera", "v4l2", "/tmp/camera"),
        ("rtsp://camera/stream?x=1", "network", "rtsp://camera/stream?x=1"),
        ("HTTP://camera:8080/video", "network", "HTTP://camera:8080/video"),
        ("network:udp://239.0.0.1:1234", "network", "udp://239.0.0.1:1234"),
        ("picamera2:1", "picamera2", "1"),
        ("gstreamer:videotestsrc ! videoconvert", "gstreamer", "videotestsrc ! videoconvert"),
        ("synthetic", "synthetic", ""),
        ("a.mp4", "video", "a.mp4"),
        ("a.PNG", "pictures", "a.PNG"),
        ("video:synthetic", "video", "synthetic"),
        ("file:///srv/a%20b.mp4", "video", "/srv/a b.mp4"),
        ("12:30.mp4", "video", "12:30.mp4"),
    ],
)
def test_a_source_is_taken_apart(text: str, kind: str, target: str) -> None:
    spec = parse_source(text, kinds=SOURCES)
    assert (spec.kind, spec.target) == (kind, target)


def test_a_folder_is_pictures_whatever_it_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "a.mp4"
    folder.mkdir()
    assert parse_source(str(folder), kinds=SOURCES).kind == "pictures"


@pytest.mark.parametrize("text", ["", "  ", "ftp://host/a.mp4"])
def test_what_cannot_be_a_source_says_what_can(text: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"mien\.toml: camera\.source: .*rtsp://.*picamera2:…"),
        config_context("mien.toml"),
    ):
        parse_source(text, kinds=SOURCES)


@given(st.text())
@example("~0")
@example("a\0b")
@example(5000 * "a")
def test_every_text_is_a_source_of_a_known_kind_or_a_configuration_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_source(text, kinds=SOURCES).kind in SOURCES


@given(SECRETS)
def test_no_password_of_an_address_is_in_its_name(secret: str) -> None:
    for text in (f"rtsp://user:{secret}@camera:554/live", f"rtsp://{secret}@camera/live?a=b", f"http://c/v?x={secret}"):
        assert "5ecr3t" not in parse_source(text, kinds=SOURCES).name


@given(ENCODED)
def test_no_secret_in_a_path_or_a_pipeline_is_in_its_name(secret: str) -> None:
    for text in (
        f"rtsp://camera:554/user=admin&password={secret}&channel=1",
        f"gstreamer:rtspsrc location=rtsp://user:{secret}@camera/live user-pw={secret} ! decodebin",
        f'gstreamer:rtspsrc location="rtsp://user:{secret}@camera/live" user-pw="{secret} {secret}" ! decodebin',
        f"http://camera/token={secret}/video",
    ):
        assert "5ecr3t" not in parse_source(text, kinds=SOURCES).name


@pytest.mark.parametrize(
    "text",
    ["0", "/dev/video0", "rtsp://camera:554/live", "a.mp4", "gstreamer:videotestsrc pattern=ball ! videoconvert"],
)
def test_a_source_without_secrets_is_named_as_it_was_written(text: str) -> None:
    assert redact(text) == text


def test_a_redacted_address_still_says_which_camera() -> None:
    assert redact("rtsp://admin:pw@10.0.0.7:554/live?token=1") == "rtsp://…@10.0.0.7:554/live?…"


@pytest.mark.parametrize(
    ("source", "camera"),
    [
        ("0", True),
        ("rtsp://c/", True),
        ("picamera2:0", True),
        ("gstreamer:x", True),
        ("a.mp4", False),
        ("a.png", False),
    ],
)
def test_cameras_come_back_and_files_do_not(source: str, camera: bool) -> None:
    assert is_camera(make_config({"camera": {"source": source}}).camera) is camera
