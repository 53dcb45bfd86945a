"""A real network interface that goes down in the middle of the work: a namespace and a pair of virtual interfaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from brokers import Mosquitto, Subscriber, wait_until
from integration.daemon_process import DaemonProcess, Place, told_places
from tools import require_tool

pytestmark = pytest.mark.broker


@dataclass(frozen=True)
class Cable:
    """Between this network and a namespace.

    Attributes:
        ip: the program.
        name: of the namespace and of our end.
        address: of our end.
    """

    ip: str
    name: str
    address: str

    def run(self, *arguments: str, check: bool = True) -> bool:
        return subprocess.run([self.ip, *arguments], check=check, capture_output=True).returncode == 0

    def set(self, state: str) -> None:
        """``up`` or ``down``."""
        self.run("link", "set", self.name, state)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a command at the other end."""
        return (self.ip, "netns", "exec", self.name)


@pytest.fixture
def cable() -> Iterator[Cable]:
    ip = require_tool("ip", "apt-get install iproute2")
    number = os.getpid() % 250 + 1
    laid = Cable(ip, f"mien{os.getpid()}", f"10.213.{number}.1")
    if os.geteuid() != 0 or not laid.run("netns", "add", laid.name, check=False):
        pytest.skip("no network namespace may be made here: that needs root")
    try:
        ours, theirs = (laid.name, "eth0")
        if not laid.run(*("link", "add", ours, "type", "veth", "peer", theirs, "netns", laid.name), check=False):
            pytest.skip("no virtual interface may be made here")
        laid.run("address", "add", f"{laid.address}/24", "dev", ours)
        laid.run("-n", laid.name, "address", "add", f"10.213.{number}.2/24", "dev", theirs)
        laid.run("-n", laid.name, "link", "set", theirs, "up")
        laid.set("up")
        yield laid
    finally:
        laid.run("netns", "delete", laid.name)


def test_a_network_that_goes_down_twice_in_the_middle_of_the_work_loses_no_event(
    cable: Cable,
    start_daemon: Callable[..., DaemonProcess],
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[..., Subscriber],
) -> None:
    broker = mosquitto("allow_anonymous true", f"listener 18830 {cable.address}")
    subscriber = subscribe(broker.port)
    daemon = start_daemon(18830, host=cable.address, prefix=cable.prefix)
    for round_number in range(2):
        subscriber.wait_for("availability", b"online", count=round_number + 1)
        daemon.wait_made(len(daemon.made()) + 5)
        cable.set("down")
        daemon.wait_made(len(daemon.made()) + 5)
        subscriber.wait_for("availability", b"offline", count=round_number + 1)
        daemon.wait_status("mqtt: un")  # unreachable
        cable.set("up")
    subscriber.wait_for("availability", b"online", count=3)

    def missing() -> set[Place]:
        told = told_places(subscriber.on("event") + subscriber.on("history"))
        return set(daemon.made()) - set(told)

    before = set(daemon.made())
    wait_until(lambda: not before & missing(), what=lambda: f"{sorted(missing())}", timeout_s=60)
    daemon.stop()
    stored = set(daemon.stored())
    wait_until(lambda: missing() <= stored, what=lambda: f"{sorted(missing() - stored)}", timeout_s=60)
    live = told_places(subscriber.on("event"))
    assert live == sorted(set(live))
    assert subscriber.on("availability")[-1] == b"offline"
