"""No password shows up anywhere: everything that comes out is searched, process lists and files included."""

from __future__ import annotations

import contextlib
import json
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from brokers import Mosquitto, Subscriber
from daemons import toml_for
from tools import require_tool

Start = Callable[..., subprocess.Popen[str]]

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

MQTT_PASSWORD, CAMERA_PASSWORD = "swordfish/4711", "trout:0815"
SECRETS = [form for secret in (MQTT_PASSWORD, CAMERA_PASSWORD) for form in (secret, quote(secret, safe=""))]


def search(text: str | bytes, where: str) -> None:
    data = text.encode() if isinstance(text, str) else text
    for secret in SECRETS:
        assert secret.encode() not in data, f"{secret} in {where}"


def process_list(pid: int) -> bytes:
    """What others see of a process and its children: command lines, and the environments."""
    found = b""
    for folder in [Path(f"/proc/{pid}"), *Path("/proc").glob("[1-9]*")]:
        with contextlib.suppress(OSError):  # it ended
            if folder.name == str(pid) or f"\nPPid:\t{pid}\n" in (folder / "status").read_text():
                found += (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    return found


@pytest.fixture
def broker(mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> Mosquitto:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    tool = require_tool("mosquitto_passwd", "apt-get install mosquitto")
    subprocess.run([tool, "-b", str(passwords), "anna", MQTT_PASSWORD], check=True, capture_output=True)
    return mosquitto("allow_anonymous false", f"password_file {passwords}")


@pytest.mark.parametrize("camera", ["address", "file"])
def test_a_daemon_with_passwords_shows_them_nowhere(
    camera: str, broker: Mosquitto, run: Start, subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    (tmp_path / "mqtt").write_text(f"{MQTT_PASSWORD}\n")
    (tmp_path / "camera").write_text(f"{CAMERA_PASSWORD}\n")
    subscriber = subscribe(broker.port, username="anna", password=MQTT_PASSWORD)
    login = f"ben:{quote(CAMERA_PASSWORD, safe='')}@" if camera == "address" else ""
    options = f'options = {{ username = "ben", password_file = "{tmp_path}/camera" }}\n' if camera == "file" else ""
    state = tmp_path / "state"
    toml = toml_for(f"rtsp://{login}127.0.0.1:1/live", port=broker.port, loop=False, extra=(
        f'username = "anna"\npassword_file = "{tmp_path}/mqtt"\noutbox_dir = "{state}"\nrequests = true\n'
        '[publish]\nsinks = ["mqtt", "jsonl"]\nhealth_s = 1\n[homeassistant]\nenabled = true\n[log]\nlevel = "debug"\n'
    )).replace('name = "front"\n', f'name = "front"\n{options}')  # fmt: skip
    child = run(toml, "--debug")
    file = tmp_path / "mien-0.toml"
    subscriber.wait_for("camera", b"lost")
    subscriber.wait_for("availability", b"online")
    for verb in ("reload", "selftest", "explode"):
        subscriber.publish(f"mien/pi/front/request/{verb}", b"")
        subscriber.wait_for(verb, count=2)
    assert b"mien-0.toml" in process_list(child.pid)
    search(process_list(child.pid), "the process list")
    doctor = subprocess.run(
        [sys.executable, "-m", "edge", "--debug", "doctor", "--config", str(file), "--json"],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    search(doctor.stdout + doctor.stderr, "doctor's report")
    assert {"camera", "broker"} <= {row["check"] for row in json.loads(doctor.stdout)["findings"]}
    file.write_text(toml.replace('name = "front"', "name = 5"))
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGTERM)
    output, errors = child.communicate(timeout=30)
    assert child.returncode == 0
    assert '"kind":"info"' in output
    assert "camera" in errors
    search(output, "standard output")
    search(errors, "the log")
    for message in subscriber.messages:
        search(message.payload + message.topic.encode(), message.topic)
    for path in state.rglob("*"):
        search(path.read_bytes(), str(path))
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) or path.suffix == ".topic", path


def test_a_password_of_the_environment_does_not_reach_a_child(
    broker: Mosquitto, run: Start, subscribe: Callable[..., Subscriber]
) -> None:
    require_tool("gst-launch-1.0", "apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base")
    subscriber = subscribe(broker.port, username="anna", password=MQTT_PASSWORD)
    extra = 'username = "anna"\npassword_env = "BROKER_PASSWORD"\n'
    source = "gstreamer:videotestsrc is-live=true ! videoconvert"
    child = run(toml_for(source, port=broker.port, extra=extra, loop=False), BROKER_PASSWORD=MQTT_PASSWORD)
    subscriber.wait_for("camera", b"live")
    environments = [
        (status.parent / "environ").read_bytes()
        for status in Path("/proc").glob("[1-9]*/status")
        if f"\nPPid:\t{child.pid}\n" in status.read_text()
    ]
    assert environments
    assert not [found for found in environments if MQTT_PASSWORD.encode() in found]


@pytest.mark.parametrize("command", [("config", "check"), ("run", "--config"), ("doctor", "--config")], ids=" ".join)
def test_a_mistake_beside_a_password_does_not_show_it(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "mien.toml"
    for line in (
        f'camera.source = ["rtsp://ben:{quote(CAMERA_PASSWORD, safe="")}@host/"]',
        f'camera.source = "ftp://ben:{quote(CAMERA_PASSWORD, safe="")}@host/"',
        f'mqtt.password = "{MQTT_PASSWORD}"',
    ):
        file.write_text(f"{line}\n")
        done = subprocess.run(
            [sys.executable, "-m", "edge", *command, str(file)], capture_output=True, timeout=60, check=False
        )
        assert done.returncode in (1, 78)
        search(done.stdout + done.stderr, f"{command} on {line}")
