"""One camera's service in a container, and a subscriber that hears what it says."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from brokers import wait_until
from device.container import Container

SYNTHETIC = 'device = "pi"\n[camera]\nsource = "synthetic"\nname = "front"\n'


class Service:
    """``mien@NAME``.

    Args:
        container: where it is installed.
        name: of the camera.
        heard: file of ours that takes what a subscriber hears.
    """

    def __init__(self, container: Container, name: str, *, heard: Path) -> None:
        self.container, self.unit = container, f"mien@{name}.service"
        self._config, self._dropins = f"/etc/mien/{name}.toml", f"/etc/systemd/system/{self.unit}.d"
        self._password = f"/etc/mien/{name}.password"
        self._heard = heard
        self._subscriber: subprocess.Popen[bytes] | None = None
        self._since = container.run("date", "+%s.%N").stdout.strip()

    def configure(self, toml: str = SYNTHETIC, *, dropin: str = "", password: str | None = None) -> None:
        """Writes its configuration, a drop-in of the unit and the broker's password."""
        self.container.write(self._config, toml)
        if password is not None:
            self.container.write(self._password, password + "\n", mode="600")
        if dropin:
            self.container.write(f"{self._dropins}/test.conf", dropin)
            self.container.run("systemctl", "daemon-reload")

    def start(self, *, check: bool = True) -> int:
        """``systemctl start``, which comes back when the service is ready or failed."""
        return self.container.run("systemctl", "start", self.unit, check=check).returncode

    def stop(self) -> None:
        self.container.run("systemctl", "stop", self.unit)

    def kill(self, signal: str) -> None:
        """A signal to its main process."""
        self.container.run("systemctl", "kill", f"--signal={signal}", "--kill-whom=main", self.unit)

    def show(self, key: str) -> str:
        """A property of the unit."""
        return self.container.run("systemctl", "show", self.unit, f"--property={key}", "--value").stdout.strip()

    def wait_for(self, key: str, value: str, *, timeout_s: float = 30) -> None:
        """Waits until a property of the unit is this."""
        wait_until(
            lambda: self.show(key) == value, what=lambda: f"{key}={value}, is {self.show(key)}", timeout_s=timeout_s
        )

    @property
    def log(self) -> str:
        """Its journal since this test began."""
        return self.container.run("journalctl", "-u", self.unit, f"--since=@{self._since}", "-o", "cat").stdout

    def wait_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, what=lambda: f"{text!r} in {self.log}")

    def listen(self, *options: str) -> None:
        """From now on a subscriber writes down what it hears, one line a message."""
        command = ("mosquitto_sub", "-V", "5", "-q", "1", "-t", "mien/#", "-v", *options)
        self._subscriber = self.container.start(*command, output=self._heard)

    def heard(self, topic: str) -> list[str]:
        """Payloads heard on topics that end with this level, oldest first."""
        lines = self._heard.read_text(errors="replace").splitlines()
        pairs = (line.partition(" ")[::2] for line in lines)
        return [payload for name, payload in pairs if name.rpartition("/")[2] == topic]

    def wait_heard(self, topic: str, payload: str | None = None, *, count: int = 1, timeout_s: float = 30) -> None:
        """Waits until so many messages (with this payload) were heard."""
        wait_until(
            lambda: sum(payload in (None, each) for each in self.heard(topic)) >= count,
            what=lambda: f"{count} × {topic} {payload}: {self.heard(topic)}; {self.log}",
            timeout_s=timeout_s,
        )

    def remove(self) -> None:
        """Stops it and forgets its settings."""
        self.container.run("systemctl", "stop", self.unit, check=False)
        self.container.run("systemctl", "reset-failed", self.unit, check=False)
        self.container.run("rm", "-rf", self._dropins, self._password, self._config)
        self.container.run("systemctl", "daemon-reload")
        if self._subscriber is not None:
            with contextlib.suppress(ProcessLookupError):
                self._subscriber.terminate()
            self._subscriber.wait(10)
