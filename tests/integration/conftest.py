"""A clip and real daemons."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from brokers import Mosquitto, Subscriber
from clips import write_blinking_clip, write_clip
from integration.daemon_process import DaemonProcess

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "two.avi")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Start]:
    """Starts ``mien run`` with a configuration; whatever still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def start(toml: str, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
        file = tmp_path / f"mien-{len(children)}.toml"
        file.write_text(toml)
        command = [*prefix, sys.executable, "-m", "edge", "run", "--config", str(file), *arguments]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def broker(mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    return mosquitto()


@pytest.fixture
def heard(broker: Mosquitto, subscribe: Callable[..., Subscriber]) -> Subscriber:
    return subscribe(broker.port, "mien/pi/front/#")


@pytest.fixture(scope="session")
def blinking_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blinking_clip(tmp_path_factory.mktemp("clip") / "blinking.avi")


@pytest.fixture
def start_daemon(tmp_path: Path, blinking_clip: Path) -> Iterator[Callable[..., DaemonProcess]]:
    """Starts daemons that share one state folder: ``start_daemon(broker.port)``. They end with the test."""
    daemons: list[DaemonProcess] = []

    def start(port: int, **options: Any) -> DaemonProcess:
        folder = tmp_path / f"daemon-{len(daemons)}"
        daemons.append(DaemonProcess(folder, blinking_clip, port, **{"state": tmp_path / "state"} | options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()
