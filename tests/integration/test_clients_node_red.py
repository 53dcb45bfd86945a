"""Our flow in a real Node-RED: who is happy arrives, who leaves happy does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Mosquitto, Subscriber, free_port, wait_until
from publish_samples import a_face, an_event, moment
from tools import missing

from edge.commands.example import read_example
from edge.contract.labels import LABELS
from edge.publish.encode import Origin, encode, make_event
from edge.records import EventType

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


def test_the_flow_tells_of_who_becomes_happy_and_of_a_camera_that_is_away(
    mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    program = os.environ.get("MIEN_NODE_RED") or shutil.which("node-red")
    if not program:
        missing("node-red", "make test-clients, with npm")
    broker = mosquitto()
    publisher = subscribe(broker.port, "none")
    nodes = json.loads(read_example("node-red"))
    for node in nodes:
        if node["type"] == "mqtt-broker":
            node["port"] = str(broker.port)
        if node["type"] == "debug":
            node["console"] = True
    (tmp_path / "flows.json").write_text(json.dumps(nodes))
    log = tmp_path / "log"
    command = [program, "--userDir", str(tmp_path), "-p", str(free_port()), str(tmp_path / "flows.json")]
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)

    def told(name: str) -> int:
        return log.read_text(errors="replace").count(f"[debug:{name}]")

    def counts() -> tuple[int, int]:
        return told("camera away"), told("somebody is happy")

    def say(kind: EventType, emotion: str) -> None:
        origin = Origin(boot_id="b00t", camera="front", labels=LABELS, model="m@1", delegate="xnnpack")
        event = an_event(kind=kind, face=a_face(emotion=emotion))
        publisher.publish("mien/pi/front/event", encode(make_event(event, origin=origin, moment=moment())))

    try:
        wait_until(
            lambda: all(f"mien/+/+/{level} (QoS" in broker.log for level in ("event", "camera")),
            what=lambda: log.read_text(),
            timeout_s=60,
        )
        say(EventType.FACE_LEFT, "happy")
        say(EventType.EMOTION_CHANGED, "sad")
        say(EventType.EMOTION_CHANGED, "happy")
        say(EventType.FACE_APPEARED, "happy")
        publisher.publish("mien/pi/front/camera", b"live")
        publisher.publish("mien/pi/front/camera", b"lost")
        wait_until(lambda: counts() == (1, 2), what=lambda: log.read_text(), timeout_s=20)
        publisher.wait_quiet()
        assert counts() == (1, 2), log.read_text()
    finally:
        server.kill()
        server.wait()
