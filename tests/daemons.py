"""`mien run` as a process: configurations, and what came out; the fixtures are in ``integration/conftest.py``."""

from __future__ import annotations

import json
import subprocess

from brokers import Subscriber, wait_until

STOP_PATIENCE_S = 10
"""From SIGTERM to the end. Three seconds are promised; a machine that runs other tests meanwhile gets more."""


def toml_for(source: object, *, port: int, extra: str = "", loop: bool = True) -> str:
    options = "options = { loop = true }" if loop else ""
    return (
        f'device = "pi"\n[camera]\nsource = {json.dumps(str(source))}\nname = "front"\n{options}\n'
        f"[mqtt]\nport = {port}\n{extra}"
    )


def ended(child: subprocess.Popen[str], *, timeout_s: float = 20) -> tuple[int, str]:
    _, errors = child.communicate(timeout=timeout_s)
    return child.returncode, errors


def decoded(payloads: list[bytes]) -> list[dict[str, object]]:
    return [json.loads(payload) for payload in payloads]


def events(heard: Subscriber, kind: str) -> list[dict[str, object]]:
    return [event for event in decoded(heard.on("event")) if event["type"] == kind]


def wait_events(heard: Subscriber, kind: str, count: int) -> list[dict[str, object]]:
    wait_until(
        lambda: len(events(heard, kind)) >= count, what=lambda: f"{count} {kind}: {heard.on('event')}", timeout_s=60
    )
    return events(heard, kind)


def faces_there(heard: Subscriber) -> int:
    """How many faces have appeared and not left; unlike ``…/state`` never a second old."""
    return len(events(heard, "face_appeared")) - len(events(heard, "face_left"))
