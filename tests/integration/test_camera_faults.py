"""What cameras do in real life, against the real daemon: a state with a name each time, and faces again afterwards."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from brokers import Mosquitto, Subscriber, wait_until
from cameras import NetworkCamera, encode, face_picture
from clips import free_faces
from daemons import decoded, ended, faces_there, wait_events

Start = Callable[..., subprocess.Popen[str]]
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def camera() -> Iterator[NetworkCamera]:
    yield (served := NetworkCamera([encode(face_picture(free_faces()[0]))]))
    served.close()


def toml(camera: NetworkCamera, broker: Mosquitto, *, device: str = "pi") -> str:
    return (
        f'device = "{device}"\n[camera]\nname = "front"\nsource = "{camera.url}"\nstale_after_ms = 500\n'
        "options = { read_timeout_s = 2, open_timeout_s = 5 }\n"
        f"[publish]\nhealth_s = 1\n[mqtt]\nport = {broker.port}\n"
    )


def test_a_camera_that_is_unplugged_and_comes_back(
    run: Start, camera: NetworkCamera, broker: Mosquitto, heard: Subscriber
) -> None:
    """Every face leaves with the reason, the state says that nobody knows, and the faces come again."""
    child = run(toml(camera, broker))
    (seen,) = wait_events(heard, "face_appeared", 1)
    camera.unplug()
    heard.wait_for("camera", b"lost")
    (left,) = wait_events(heard, "face_left", 1)
    assert (left["track"], left["reason"]) == (seen["track"], "camera_lost")
    wait_until(lambda: decoded(heard.on("state"))[-1]["faces"] is None, what="a state without knowledge of faces")
    camera.plug_in()
    heard.wait_for("camera", b"live", count=2)
    wait_events(heard, "face_appeared", 2)
    assert heard.on("availability") == [b"online"]
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


def test_a_camera_that_is_missing_at_start_is_waited_for(
    run: Start, camera: NetworkCamera, broker: Mosquitto, heard: Subscriber
) -> None:
    camera.unplug()
    child = run(toml(camera, broker))
    heard.wait_for("camera", b"lost")
    heard.wait_for("availability", b"online")
    camera.plug_in()
    wait_events(heard, "face_appeared", 1)
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


def test_a_frozen_camera_is_stale_then_lost_and_is_opened_anew(
    run: Start, camera: NetworkCamera, broker: Mosquitto, heard: Subscriber
) -> None:
    """The connection stands and nothing comes: the read is broken out of."""
    child = run(toml(camera, broker))
    wait_events(heard, "face_appeared", 1)
    watched = camera.streams
    camera.frozen = True
    heard.wait_for("camera", b"stale")
    heard.wait_for("camera", b"lost")
    camera.frozen = False
    wait_events(heard, "face_appeared", 2)
    assert camera.streams > watched
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


def test_black_corrupt_and_resized_frames_end_nothing(
    run: Start, camera: NetworkCamera, broker: Mosquitto, heard: Subscriber
) -> None:
    """Broken pictures between good ones are left out; another size and a black picture are frames like others."""
    child = run(toml(camera, broker))
    wait_events(heard, "face_appeared", 1)
    good = camera.jpegs[0]
    black = encode(np.zeros((480, 640, 3), np.uint8))
    for bad in ([good[: len(good) // 3]], [b"\xff\xd8\xff\xe0nothing"], [b""], [black], [black, good[:2000]]):
        camera.jpegs = [*bad, good, good]
        before = len(decoded(heard.on("health")))
        wait_until(lambda seen=before: len(heard.on("health")) >= seen + 2, what="health", timeout_s=60)  # type: ignore[misc]
    camera.jpegs = [encode(face_picture(free_faces()[1], size_wh)) for size_wh in ((320, 240), (800, 600), (640, 480))]
    before = len(heard.on("health"))
    wait_until(lambda: len(heard.on("health")) >= before + 2, what="health", timeout_s=60)
    for shown, count in ((good, 1), (black, 0), (good, 1)):
        camera.jpegs = [shown]
        wait_until(lambda count=count: faces_there(heard) == count, what=f"{count} faces", timeout_s=60)  # type: ignore[misc]
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0, errors
    assert "Traceback" not in errors
