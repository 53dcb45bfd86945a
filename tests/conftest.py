"""What all tests share: where the research data is, which tools must be there, and a real broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from brokers import Link, Mosquitto, Subscriber
from hypothesis import HealthCheck, settings
from tools import ROOT, require_tool

pytest_plugins = ("device.fixtures",)

SHARED = ROOT.parent / "shared"
LONG = ("device", "training", "convert", "integration")


# How long an example takes says something about the machine, not about the code.
settings.register_profile("mien", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mien")
# Pictures in tests are small; OpenCV's pool beside those of other libraries in one process waits more than it works.
cv2.setNumThreads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders that last."""
    items.sort(key=lambda item: next((row for row, name in enumerate(LONG) if name in item.path.parts), len(LONG)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the research data, which is never part of the repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared research data is not here")
    return SHARED / "data"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Starts real brokers on free loopback ports: ``mosquitto("allow_anonymous true", …)``. They end with the test."""
    program = require_tool("mosquitto", "apt-get install mosquitto")
    brokers: list[Mosquitto] = []

    def start(*settings: str) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(brokers)}"
        broker = Mosquitto(program, folder, settings=settings or ("allow_anonymous true",))
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture
def link() -> Iterator[Callable[[int], Link]]:
    """Lays links to ports that can be cut: ``link(broker.port)``. They end with the test."""
    links: list[Link] = []

    def lay(port: int) -> Link:
        links.append(Link(port))
        return links[-1]

    yield lay
    for each in links:
        each.close()


@pytest.fixture
def subscribe() -> Iterator[Callable[..., Subscriber]]:
    """Connects subscribers that note everything: ``subscribe(broker.port, "#")``. They end with the test."""
    subscribers: list[Subscriber] = []

    def connect(port: int, topic: str = "#", **options: Any) -> Subscriber:
        subscribers.append(Subscriber(port, topic, **options))
        return subscribers[-1]

    yield connect
    for subscriber in subscribers:
        subscriber.close()
