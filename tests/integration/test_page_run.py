"""The live page of a real daemon: what it shows follows what the broker gets."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import Mosquitto, Subscriber, wait_until
from daemons import STOP_PATIENCE_S, toml_for, wait_events

Start = Callable[..., subprocess.Popen[str]]

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str, *, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def samples(port: int) -> dict[str, float]:
    """Return the metrics, name with labels to value."""
    lines = ask(port, "/metrics")[1].decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_what_the_page_tells_is_what_the_broker_gets(
    mosquitto: Callable[..., Mosquitto], run: Start, subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    broker, port = mosquitto(), free_port()
    heard = subscribe(broker.port)
    control = tmp_path / "control"
    control.touch(mode=0o600)
    control.write_text("marlin\n")
    extra = f'[page]\nenabled = true\nlisten = "127.0.0.1:{port}"\ncontrol_token_file = "{control}"\n'
    child = run(toml_for("demo", port=broker.port, extra=extra, loop=False))
    wait_events(heard, "face_appeared", 2)
    wait_until(lambda: ask(port, "/healthz")[0] == 200, what=lambda: ask(port, "/healthz"), timeout_s=20)
    state = json.loads(ask(port, "/api/state")[1])
    assert state["boot_id"] == json.loads(heard.on("info")[-1])["boot_id"]
    told = {event["seq"]: event for event in json.loads(ask(port, "/api/events")[1])}
    on_broker = {event["seq"]: event for event in map(json.loads, heard.on("event"))}
    assert all(told[seq] == on_broker[seq] for seq in told.keys() & on_broker.keys())
    assert len(told.keys() & on_broker.keys()) >= 2

    wait_until(lambda: "mien_faces" in samples(port), what=lambda: samples(port), timeout_s=20)
    values = samples(port)
    assert values["mien_camera_up"] == 1
    assert values["mien_mqtt_connected"] == 1
    assert values["mien_frames_total"] > 0
    assert values['mien_step_seconds_count{stage="step"}'] > 0
    assert values["mien_faces"] == sum(v for key, v in values.items() if key.startswith("mien_faces_by_emotion"))
    assert values['mien_events_total{type="face_appeared"}'] >= 2
    ids = {state["boot_id"], *(event["track"] for event in told.values())}
    assert not [name for name in values if any(f'"{one}"' in name for one in ids)]

    def control_by(verb: str) -> int:
        return ask(port, f"/control/{verb}", method="POST", Authorization="Bearer marlin")[0]

    assert control_by("pause") == 202
    wait_until(lambda: heard.on("camera")[-1] == b"paused", what=lambda: heard.on("camera"), timeout_s=20)
    wait_until(lambda: "mien_faces" not in samples(port), what=lambda: samples(port), timeout_s=20)
    assert samples(port)["mien_camera_up"] == 0
    assert json.loads(ask(port, "/healthz")[1]) == {"status": "ok", "camera": "paused", "reasons": []}
    assert control_by("resume") == 202
    wait_until(lambda: heard.on("camera")[-1] == b"live", what=lambda: heard.on("camera"), timeout_s=20)

    broker.kill()
    wait_until(lambda: samples(port)["mien_mqtt_connected"] == 0, what=lambda: samples(port), timeout_s=20)
    child.send_signal(signal.SIGTERM)
    assert child.wait(STOP_PATIENCE_S) == 0


def test_a_port_that_is_in_use_is_told_and_the_service_runs(
    mosquitto: Callable[..., Mosquitto], run: Start, subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    heard = subscribe(broker.port)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        extra = f'[page]\nenabled = true\nlisten = "127.0.0.1:{port}"\n'
        child = run(toml_for("demo", port=broker.port, extra=extra, loop=False))
        wait_events(heard, "face_appeared", 1)
        problem: dict[str, Any] = {}

        def is_told() -> bool:
            nonlocal problem
            problem = json.loads(heard.on("problem")[-1]) if heard.on("problem") else {}
            return problem.get("problems") == [f"page: off, 127.0.0.1:{port}: the port is in use"]

        wait_until(is_told, what=lambda: problem, timeout_s=20)
        child.send_signal(signal.SIGTERM)
        assert child.wait(STOP_PATIENCE_S) == 0


def test_a_page_that_is_off_costs_no_module_and_no_thread() -> None:
    code = (
        "import sys, edge.service.daemon\n"
        "from edge.config.loader import make_config\nfrom edge.page import open_page\n"
        "assert open_page(make_config()) is None\n"
        "print([name for name in ('starlette', 'uvicorn', 'prometheus_client', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_page_open_to_others_without_a_token_does_not_start(run: Start) -> None:
    child = run(toml_for("demo", port=1, extra='[page]\nenabled = true\nlisten = "0.0.0.0:8089"\n', loop=False))
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 78
    assert "page.token_file: unset, but page.listen is 0.0.0.0:8089" in errors
    assert len(errors.strip().splitlines()) == 1
