"""A real broker and a subscriber for tests; the fixtures of the same names are in ``conftest.py``."""

from __future__ import annotations

import contextlib
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
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


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

    def freeze(self) -> None:
        """SIGSTOP: it is there and does nothing; `kill` works all the same."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was frozen."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

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
    """An MQTT 5 client that notes what it receives, in order, and reconnects by itself.

    With a ``client_id`` its session lives on while it is away: the broker keeps its messages for it.
    """

    def __init__(
        self, port: int, topic: str, *, client_id: str = "", username: str | None = None, password: str | None = None
    ) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._subscribed = threading.Event()
        self._topic = topic
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.reconnect_delay_set(0.1, 0.2)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda client, userdata, message: self.messages.append(message)
        if username is not None:
            self._client.username_pw_set(username, password)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if client_id else 0
        self._client.connect("127.0.0.1", port, keepalive=10, properties=properties)
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

        wait_until(lambda: len(there()) >= count, what=lambda: f"{count} × {level} {payload!r}, have {self.on(level)}")
        return there()

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, reply: tuple[str, bytes] | None = None
    ) -> None:
        """Publishes, QoS 1, and waits until the broker has it; with response topic and correlation data."""
        properties = Properties(PacketTypes.PUBLISH)
        if reply is not None:
            properties.ResponseTopic, properties.CorrelationData = reply
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).wait_for_publish(20)

    def wait_quiet(self, *, quiet_s: float = 0.3) -> None:
        """Waits until nothing has come for a while: what lay in the sockets is read."""
        seen = -1
        while seen < len(self.messages):
            seen = len(self.messages)
            time.sleep(quiet_s)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Link:
    """A network between a client and a broker that can be cut, at any byte.

    Attributes:
        down: new connections are refused.
        mute: what the broker says does not arrive.
    """

    def __init__(self, target_port: int) -> None:
        self.down = self.mute = False
        self._target_port = target_port
        self._budget: int | None = None
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, after_bytes: int | None = None) -> None:
        """Cuts all connections, now or once so many bytes more went towards the broker. New ones work unless `down`."""
        with self._lock:
            self._budget = after_bytes
        if after_bytes is None:
            self._close()

    def close(self) -> None:
        self.down = True
        self._listener.close()
        self._close()

    def _close(self) -> None:
        with self._lock:
            sockets, self._sockets, self._budget = self._sockets, [], None
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.down:
                    client.close()
                    continue
                try:
                    broker = socket.create_connection(("127.0.0.1", self._target_port))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._sockets += [client, broker]
                threading.Thread(target=self._carry, args=(client, broker, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(broker, client, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, towards_broker: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                with self._lock:
                    cut = towards_broker and self._budget is not None and self._budget < len(data)
                    if cut:
                        data = data[: self._budget]
                    elif towards_broker and self._budget is not None:
                        self._budget -= len(data)
                if towards_broker or not self.mute:
                    target.sendall(data)
                if cut:
                    break
        self._close()


SILENT_PORT = 1 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Nobody listens there. One for each process of tests: a machine runs one daemon a base topic and broker."""


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


def restart_broker(broker: Mosquitto, subscriber: Subscriber, network: Link) -> None:
    """Kills a broker and starts it again; the link to it is up again once the subscriber is back.

    Until then it is down: what the broker gives to nobody is nobody's fault.
    """
    subscriber.expect_reconnect()
    network.down = True
    broker.kill()
    broker.start()
    subscriber.wait_subscribed()
    network.down = False


def wait_until(
    condition: Callable[[], object], *, what: str | Callable[[], str] = "the condition", timeout_s: float = 30
) -> None:
    """Waits for something that another thread or process does; fails when it does not happen."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what if isinstance(what, str) else what()}")
        time.sleep(0.01)
