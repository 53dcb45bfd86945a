"""A real broker and a subscriber for tests; the fixtures of the same names are in ``conftest.py``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


class Mosquitto:
    """A mosquitto process that can be killed and started again on its port."""

    def __init__(self, program: str, folder: Path, *, settings: Sequence[str]) -> None:
        self.folder, self.port = folder, free_port()
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        lines = [f"listener {self.port} 127.0.0.1", *settings]
        if os.geteuid() == 0:
            lines.append("user root")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [self._program, "-v", "-c", str(self.folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_until(lambda: accepts(self.port) or self._has_ended(), what="mosquitto's port")
        assert not self._has_ended(), self.log

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def reload(self) -> None:
        """SIGHUP: password and access files are read again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


class Subscriber:
    """An MQTT 5 client that notes what it receives, in order, and reconnects by itself."""

    def __init__(
        self, port: int, topic: str, *, username: str | None = None, password: str | None = None, version: int = 5
    ) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._subscribed = threading.Event()
        self._topic = topic
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion(version))
        self._client.reconnect_delay_set(0.1, 0.2)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda client, userdata, message: self.messages.append(message)
        if username is not None:
            self._client.username_pw_set(username, password)
        self._client.connect("127.0.0.1", port, keepalive=10)
        self._client.loop_start()
        self.wait_subscribed()

    def wait_subscribed(self) -> None:
        assert self._subscribed.wait(20), "the subscriber was not let in"

    def expect_reconnect(self) -> None:
        """To be called before the broker is killed: `wait_subscribed` then waits for the next subscription."""
        self._subscribed.clear()

    def on(self, level: str) -> list[bytes]:
        """Payloads received on topics that end with this level."""
        return [message.payload for message in list(self.messages) if message.topic.rpartition("/")[2] == level]

    def wait_for(self, level: str, payload: bytes | None = None, *, count: int = 1) -> list[bytes]:
        """Waits until so many messages (with this payload) have come on topics that end with the level."""

        def there() -> list[bytes]:
            return [data for data in self.on(level) if payload is None or data == payload]

        wait_until(lambda: len(there()) >= count, what=f"{count} × {level} {payload!r}, have {self.on(level)}")
        return there()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], object], *, what: str = "the condition", timeout_s: float = 30) -> None:
    """Waits for something that another thread or process does; fails when it does not happen."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.01)
