"""The README's three commands, word for word on a clean Debian, and every boot after them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import wait_until
from device.container import Container
from device.service import Service
from tools import ROOT

pytestmark = [pytest.mark.device, pytest.mark.timeout(600)]

# What a Debian without extras lacks, and a person at the keyboard.
SUDO = '#!/bin/sh\nexec "$@"\n'
NANO = """#!/bin/sh
sed -i 's/^# device = .*/device = "pi"/; s/^# source = "0"/source = "demo"/; s/^# name = "camera"/name = "front"/' "$1"
"""
LISTENER = """[Unit]
After=mosquitto.service
Before=mien@front.service
[Service]
ExecStart=mosquitto_sub -q 1 -t mien/# -v
StandardOutput=append:/var/log/heard
Restart=always
RestartSec=100ms
[Install]
WantedBy=multi-user.target
"""
OFFLINE = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels/present /wheels/backend")


@pytest.fixture
def disk() -> Iterator[Path]:
    """What outlives a boot; some 300 MB, not to be kept with the other files of a test."""
    with tempfile.TemporaryDirectory(prefix="mien-disk-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def readme_commands() -> list[str]:
    """The first shell block of ``systemd/README.md``, without its comments."""
    block = re.search(r"```sh\n(.*?)```", (ROOT / "systemd" / "README.md").read_text(), re.DOTALL)
    assert block is not None
    return [line.partition("#")[0].strip() for line in block[1].splitlines()]


def heard(container: Container, topic: str) -> list[str]:
    lines = container.run("cat", "/var/log/heard", check=False).stdout.splitlines()
    return [payload for name, _, payload in (line.partition(" ") for line in lines) if name == f"mien/pi/front/{topic}"]


def test_the_three_commands_make_a_service_that_is_there_after_every_boot(
    boot: Callable[..., Container], disk: Path
) -> None:
    container = boot(disk=disk)
    container.write("/usr/local/bin/sudo", SUDO, mode="755")
    container.write("/usr/local/bin/nano", NANO, mode="755")
    container.write("/etc/systemd/system/listener.service", LISTENER)
    container.run("systemctl", "enable", "--now", "mosquitto", "listener")
    commands = readme_commands()
    assert len(commands) == 3
    for command in commands:
        container.run(*OFFLINE, "sh", "-c", f"cd /src && {command}", timeout_s=300)
    wait_past_commit(container)
    assert heard(container, "availability") == ["online"]
    container.run("sync")
    container.close()

    for _ in range(2):
        container = boot(disk=disk)
        before = len(heard(container, "event"))
        wait_past_commit(container, since=before)
        first = json.loads(heard(container, "event")[before])
        print(f"first event {first['mono_ms'] / 1e3 - userspace_began_s(container):.1f} s after PID 1 began")
        assert heard(container, "availability")[-1] == "online"
        info = json.loads(heard(container, "info")[-1])
        assert info["previous"]["boot_id"] != info["boot_id"]
        assert container.run("systemctl", "show", "mien@front", "--property=NRestarts").stdout == "NRestarts=0\n"
        container.close()


def wait_past_commit(container: Container, *, since: int = 0) -> None:
    """Waits until events came for longer than the outbox waits to write: only then does a boot know the one before."""

    def span_ms() -> int:
        moments = [json.loads(event)["mono_ms"] for event in heard(container, "event")[since:]]
        return moments[-1] - moments[0] if moments else 0

    wait_until(lambda: span_ms() > 2000, what=lambda: service_log(container), timeout_s=60)


def service_log(container: Container) -> str:
    return container.run("journalctl", "-u", "mien@front", "-u", "listener", "-o", "cat").stdout


def userspace_began_s(container: Container) -> float:
    """When PID 1 began, of the machine's monotonic clock, which is the one of events too."""
    value = container.run("systemctl", "show", "--property=UserspaceTimestampMonotonic", "--value").stdout
    return int(value) / 1e6


def test_a_service_that_dies_again_and_again_is_started_again_and_again(service: Service) -> None:
    """systemd gives up after five starts in ten seconds unless it is told not to."""
    dies = "[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=200ms\n"
    service.configure(dropin=dies)
    service.start(check=False)
    wait_until(lambda: int(service.show("NRestarts")) > 8, what=lambda: service.show("NRestarts"), timeout_s=60)
    service.configure(dropin="[Service]\nRestartSec=200ms\n")
    service.wait_for("ActiveState", "active")
