"""A real Home Assistant on this machine, without a browser: it tells over MQTT what its states and automations do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml
from brokers import free_port, wait_until
from tools import missing

from edge.commands.example import read_example

INSTALL = "make test-clients, with Python 3.13"
STATES = "test/state"
"""Topic on which it tells each change of a state."""

_ENTRY = {
    "created_at": "2026-01-01T00:00:00+00:00",
    "disabled_by": None,
    "discovery_keys": {},
    "domain": "mqtt",
    "entry_id": "01JTESTTESTTESTTESTTESTTES",
    "minor_version": 1,
    "modified_at": "2026-01-01T00:00:00+00:00",
    "options": {},
    "pref_disable_new_entities": False,
    "pref_disable_polling": False,
    "source": "user",
    "subentries": [],
    "title": "127.0.0.1",
    "unique_id": None,
    "version": 1,
}
_TELL = {
    "alias": "tell",
    "mode": "parallel",
    "max": 500,
    "triggers": [{"trigger": "event", "event_type": "state_changed"}],
    "conditions": "{{ trigger.event.data.entity_id.split('.')[0] not in ['automation', 'sun', 'zone', 'person'] }}",
    "actions": [
        {
            "action": "mqtt.publish",
            "data": {
                "topic": STATES,
                "qos": 1,
                "payload": "{{ {'entity': trigger.event.data.entity_id, 'old': trigger.event.data.old_state.state "
                "if trigger.event.data.old_state else None, 'new': trigger.event.data.new_state.state "
                "if trigger.event.data.new_state else None, 'attributes': trigger.event.data.new_state.attributes "
                "| default({}) | string} | to_json }}",
            },
        }
    ],
}


def say(topic: str) -> list[dict[str, Any]]:
    """Actions that tell a firing over MQTT."""
    return [{"action": "mqtt.publish", "data": {"topic": topic, "qos": 1, "payload": "fired"}}]


class HomeAssistant:
    """One with the MQTT integration set up, our blueprints, and automations of the test.

    Args:
        folder: its configuration; made.
        broker_port: of the broker on loopback.
        automations: as in YAML.
    """

    def __init__(self, folder: Path, *, broker_port: int, automations: list[dict[str, Any]]) -> None:
        program = os.environ.get("MIEN_HASS") or shutil.which("hass")
        if not program:
            missing("hass", INSTALL)
        self._program, self._folder = program, folder
        blueprints = folder / "blueprints" / "automation" / "mien"
        blueprints.mkdir(parents=True)
        for name in ("emotion", "camera-away", "nobody"):
            (blueprints / f"{name}.yaml").write_text(read_example(f"blueprint-{name}"))
        (folder / "configuration.yaml").write_text(
            yaml.safe_dump(
                {
                    "homeassistant": {"name": "Test", "time_zone": "UTC"},
                    "http": {"server_host": "127.0.0.1", "server_port": free_port()},
                    "automation": [_TELL, *automations],
                    "logger": {"default": "warning"},
                }
            )
        )
        storage = folder / ".storage"
        storage.mkdir()
        entry = _ENTRY | {"data": {"broker": "127.0.0.1", "port": broker_port}}
        entries = {"version": 1, "minor_version": 4, "key": "core.config_entries", "data": {"entries": [entry]}}
        (storage / "core.config_entries").write_text(json.dumps(entries))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            command = [self._program, "-c", str(self._folder), "--skip-pip", "--log-no-color"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """SIGTERM, as at an update: it keeps its states for its next start."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    @property
    def complaints(self) -> list[str]:
        """Lines in which its log speaks of MQTT or a blueprint as a warning or an error."""
        found = re.findall(r"^.*(?:WARNING|ERROR).*(?:mqtt|blueprint|automation|mien).*$", self.log, re.MULTILINE)
        return [line for line in found if "Failed to connect" not in line and "Disconnected" not in line]

    def wait(self, told: Any, *, what: str) -> None:
        wait_until(told, what=lambda: f"{what}: {self.log[-3000:]}", timeout_s=90)
