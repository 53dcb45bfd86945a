"""USB cameras that are pulled, come back as another node, freeze or send rubbish: the real daemon on ``/dev/v4l``."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from brokers import Mosquitto, Subscriber, wait_until
from cameras import encode, face_picture
from clips import free_faces
from daemons import decoded, ended, events, faces_there, wait_events
from tools import require_tool
from v4l2 import CameraBay

Start = Callable[..., subprocess.Popen[str]]
pytestmark = pytest.mark.timeout(240)

FRONT = "usb-ACME_Front-video-index0"
OTHER = "usb-ACME_Other-video-index0"


@pytest.fixture
def bay(tmp_path: Path) -> Iterator[CameraBay]:
    compiler = require_tool("gcc", "apt-get install gcc libc6-dev")
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("a /dev of one's own needs root")
    (folder := tmp_path / "bay").mkdir()
    yield (made := CameraBay(folder, compiler=compiler))
    made.close()


@pytest.fixture
def daemon(run: Start, bay: CameraBay, broker: Mosquitto) -> Start:
    """Starts ``mien run``, on the camera with the identity `FRONT` unless told otherwise."""

    def start(source: str = f"/dev/v4l/by-id/{FRONT}") -> subprocess.Popen[str]:
        toml = (
            f'device = "pi"\n[camera]\nname = "front"\nsource = "{source}"\nstale_after_ms = 500\n'
            f"[publish]\nhealth_s = 1\n[mqtt]\nport = {broker.port}\n"
        )
        return run(toml, prefix=bay.prefix)

    return start


def portrait(index: int = 0, size_wh: tuple[int, int] = (640, 480)) -> bytes:
    return encode(face_picture(free_faces()[index], size_wh))


def assert_stops_cleanly(child: subprocess.Popen[str], heard: Subscriber) -> None:
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0, errors
    assert "Traceback" not in errors
    heard.wait_for("availability", b"offline")
    numbers = [event["seq"] for event in decoded(heard.on("event"))]
    assert numbers == list(range(1, len(numbers) + 1)), "nothing was lost"


@pytest.mark.parametrize("source", [f"/dev/v4l/by-id/{FRONT}", "/dev/video0", "0"])
def test_a_camera_that_comes_back_as_another_node_is_found_by_its_identity(
    source: str, daemon: Start, bay: CameraBay, heard: Subscriber
) -> None:
    """Its old node belongs to another camera by then, which shows nobody: that one must not be taken."""
    bay.plug_in("video0", identity=FRONT, content=portrait())
    child = daemon(source)
    wait_events(heard, "face_appeared", 1)
    bay.unplug("video0", identity=FRONT)
    heard.wait_for("camera", b"lost")
    (left,) = wait_events(heard, "face_left", 1)
    assert left["reason"] == "camera_lost"
    bay.plug_in("video0", identity=OTHER, content=encode(np.zeros((480, 640, 3), np.uint8)))
    bay.plug_in("video7", identity=FRONT, content=portrait())
    wait_events(heard, "face_appeared", 2)
    assert [state.decode() for state in heard.on("camera")[-3:]] == ["live", "lost", "live"]
    assert_stops_cleanly(child, heard)


def test_a_driver_whose_read_never_returns_is_left_behind_and_the_camera_opened_anew(
    daemon: Start, bay: CameraBay, heard: Subscriber
) -> None:
    bay.plug_in("video0", identity=FRONT, content=portrait())
    child = daemon()
    wait_events(heard, "face_appeared", 1)
    bay.freeze()
    heard.wait_for("camera", b"stale")
    heard.wait_for("camera", b"lost")
    (left,) = wait_events(heard, "face_left", 1)
    assert left["reason"] == "camera_lost"
    bay.thaw()
    wait_events(heard, "face_appeared", 2)
    wait_until(lambda: decoded(heard.on("health"))[-1]["counts"]["hung"] == 1, what="one reader that hung")  # type: ignore[index]
    assert_stops_cleanly(child, heard)


def test_a_frozen_driver_does_not_keep_the_daemon_from_stopping(
    daemon: Start, bay: CameraBay, heard: Subscriber
) -> None:
    bay.plug_in("video0", identity=FRONT, content=portrait())
    child = daemon()
    wait_events(heard, "face_appeared", 1)
    bay.freeze()
    heard.wait_for("camera", b"stale")
    assert_stops_cleanly(child, heard)
    assert events(heard, "face_left")[-1]["reason"] == "stopped"


def test_a_driver_that_stays_frozen_ends_the_process_for_systemd_to_start_a_new_one(
    daemon: Start, bay: CameraBay, heard: Subscriber
) -> None:
    bay.plug_in("video0", identity=FRONT, content=portrait())
    child = daemon()
    wait_events(heard, "face_appeared", 1)
    bay.freeze()
    code, errors = ended(child, timeout_s=120)
    assert (code, "readers hang in the driver" in errors) == (1, True), errors
    assert "Traceback" not in errors
    wait_until(lambda: heard.on("availability")[-1] != b"online", what="no stale online")
    assert heard.on("camera")[-1] == b"lost"


def test_pictures_that_are_broken_black_or_of_another_size_end_nothing(
    daemon: Start, bay: CameraBay, heard: Subscriber
) -> None:
    good, black = portrait(), encode(np.zeros((480, 640, 3), np.uint8))
    bay.plug_in("video0", identity=FRONT, content=good)
    child = daemon()
    wait_events(heard, "face_appeared", 1)

    def show_for_two_reports(content: bytes) -> None:
        bay.show("video0", content)
        there = len(heard.on("health"))
        wait_until(lambda: len(heard.on("health")) >= there + 2, what="health", timeout_s=60)

    for size_wh in ((320, 240), (1280, 720), (640, 480)):
        show_for_two_reports(portrait(1, size_wh))
    assert b"lost" not in heard.on("camera"), "another size is no fault"
    for rubbish in (good[: len(good) // 3], b"\xff\xd8\xff\xe0nothing", b""):
        show_for_two_reports(rubbish)
        show_for_two_reports(good)
    for shown, count in ((good, 1), (black, 0), (good, 1)):
        bay.show("video0", shown)
        wait_until(lambda count=count: faces_there(heard) == count, what=f"{count} faces", timeout_s=60)  # type: ignore[misc]
    assert_stops_cleanly(child, heard)
