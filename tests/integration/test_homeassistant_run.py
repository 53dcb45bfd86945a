"""A daemon as Home Assistant sees it: discovery, states and problems over a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Mosquitto, Subscriber, wait_until
from daemons import decoded, ended, toml_for

Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.broker

ON = "[homeassistant]\nenabled = true\n"


def test_a_camera_appears_in_home_assistant_and_again_when_that_restarts(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    child = run(toml_for(clip, port=broker.port, extra=ON))
    subscriber.wait_for("count", b"2")
    late = subscribe(broker.port, "homeassistant/device/+/config")
    payload = json.loads(late.wait_for("config")[0])
    retained = subscribe(broker.port, "mien/#")
    for entity in payload["cmps"].values():
        if entity["p"] == "event":
            assert "avty_t" not in entity
        else:
            retained.wait_for(entity["avty_t"].rpartition("/")[2], b"online")
        if entity["p"] != "event" and "exp_aft" not in entity:
            retained.wait_for(entity["stat_t"].rpartition("/")[2])
    assert set(decoded(retained.wait_for("info"))[0]["labels"]) < set(payload["cmps"]["emotion"]["ops"])  # type: ignore[call-overload]
    events = [message for message in subscriber.messages if message.topic == payload["cmps"]["event"]["stat_t"]]
    assert events
    subscriber.publish("homeassistant/status", b"online")
    late.wait_for("config", count=2)
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0, errors
    assert "Home Assistant has started" in errors


def test_a_camera_that_is_lost_is_a_problem_until_the_daemon_ends(
    run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    run(toml_for("/dev/video77", port=broker.port, extra=ON, loop=False))
    wait_until(
        lambda: [problem["problems"] for problem in decoded(subscriber.on("problem"))][-1:] == [["camera: lost"]],
        what=lambda: f"the problem: {subscriber.on('problem')}",
    )
    assert decoded(subscriber.on("problem"))[-1]["schema"] == "mien.problem/1"


def test_a_delegate_that_is_not_there_is_a_problem_with_its_reason(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    run(toml_for(clip, port=broker.port, extra=f'{ON}[emotion]\ndelegate = "edgetpu"\n'))
    told = decoded(subscriber.wait_for("problem"))[0]["problems"]
    assert isinstance(told, list)
    assert told[0].startswith("delegate: edgetpu: ")


def test_the_preview_is_what_is_published(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "homeassistant/#")
    run(toml_for(clip, port=broker.port, extra=ON))
    published = subscriber.wait_for("config")[0]
    command = [sys.executable, "-m", "edge", "ha-preview", "--config", str(tmp_path / "mien-0.toml")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    topic, _, rest = printed.partition("\n")
    assert subscriber.messages[0].topic in topic
    assert json.loads(rest[: rest.rindex("}") + 1]) == json.loads(published)
