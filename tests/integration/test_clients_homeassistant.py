"""What a real Home Assistant makes of our messages: entities, unknown states, and no event of the past."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import Mosquitto, Subscriber
from homeassistants import HomeAssistant, say
from publish_samples import event_message, initial_messages

from edge.config.loader import make_config
from edge.config.schema import Config
from edge.publish.base import make_message
from edge.publish.mqtt.backoff import Backoff
from edge.publish.mqtt.homeassistant import Discovery
from edge.publish.mqtt.sink import MqttSink

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

FACE = "event.mien_pi_front_face"
EVENTS = "mien/pi/front/event"
NAIVE = {"alias": "naive", "triggers": [{"trigger": "state", "entity_id": FACE}], "actions": say("test/naive")}


def of_blueprint(name: str, **inputs: Any) -> dict[str, Any]:
    actions = say(f"test/{name}")
    return {"alias": name, "use_blueprint": {"path": f"mien/{name}.yaml", "input": inputs | {"actions": actions}}}


AUTOMATIONS = [
    NAIVE,
    {"alias": "started", "triggers": [{"trigger": "homeassistant", "event": "start"}], "actions": say("test/started")},
    of_blueprint("emotion", events=EVENTS, faces="sensor.mien_pi_front_faces", emotion="happy", seconds=1),
    of_blueprint("camera-away", camera="binary_sensor.mien_pi_front_camera", minutes=0),
    of_blueprint("nobody", occupancy="binary_sensor.mien_pi_front_occupancy", minutes=0),
]


class Heard:
    """What Home Assistant told."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    def changes(self, entity: str) -> list[tuple[str | None, str | None]]:
        """From which state to which an entity went, in order, as far as the broker was there to hear it."""
        told = [json.loads(data) for data in self._subscriber.on("state")]
        return [(each["old"], each["new"]) for each in told if each["entity"] == entity]

    def states(self, entity: str) -> list[str | None]:
        """The states of an entity, in order."""
        return [new for _, new in self.changes(entity)]

    def wait_quiet(self) -> None:
        self._subscriber.wait_quiet(quiet_s=3)

    def fired(self, name: str) -> int:
        return len(self._subscriber.on(name))

    def counts(self) -> dict[str, int]:
        return {name: self.fired(name) for name in ("emotion", "camera-away", "nobody")}


@pytest.fixture
def start_daemon_side() -> Iterator[Callable[[Config], MqttSink]]:
    """Starts what of a daemon speaks to the broker; it ends with the test."""
    sinks: list[MqttSink] = []

    def start(config: Config) -> MqttSink:
        backoff = Backoff(base_s=0.05, cap_s=0.2, rng=random.Random(1))
        sink = MqttSink(config.mqtt, device="pi", camera="front", discovery=Discovery.of(config), backoff=backoff)
        sinks.append(sink)
        sink.start()
        return sink

    yield start
    for sink in sinks:
        sink.stop(timeout_s=2)


@pytest.fixture
def homeassistant(tmp_path: Path) -> Iterator[Callable[..., HomeAssistant]]:
    started: list[HomeAssistant] = []

    def start(port: int) -> HomeAssistant:
        started.append(HomeAssistant(tmp_path / "ha", broker_port=port, automations=AUTOMATIONS))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


def greet(sink: MqttSink, *, camera: str = "live", count: str = "0") -> None:
    """The retained topics of a daemon that runs."""
    for message in initial_messages():
        if message.kind not in ("camera", "count"):
            sink.send(message)
    sink.send(make_message("camera", camera))
    sink.send(make_message("count", count))
    sink.send(make_message("active", "ON"))


def test_nothing_of_the_past_fires_and_unknown_stays_unknown(
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[..., Subscriber],
    homeassistant: Callable[..., HomeAssistant],
    start_daemon_side: Callable[[Config], MqttSink],
) -> None:
    broker = mosquitto()
    raw = {"device": "pi", "camera": {"name": "front"}, "homeassistant": {"enabled": True}}
    config = make_config(raw | {"mqtt": {"host": "127.0.0.1", "port": broker.port, "requests": True}})
    heard = Heard(subscribe(broker.port, "test/#", client_id="ears"))
    server = homeassistant(broker.port)
    sink = start_daemon_side(config)
    greet(sink, count="1")
    server.wait(lambda: "1" in heard.states("sensor.mien_pi_front_faces"), what="the entity")
    server.wait(lambda: heard.states(FACE), what="the event entity")
    sink.send(event_message(1))
    server.wait(lambda: heard.fired("emotion") == 1, what="the blueprint")
    heard.wait_quiet()
    first, fired, naive = heard.states(FACE)[-1], heard.counts(), heard.fired("naive")

    sink.stop(timeout_s=2)  # the daemon is restarted
    server.wait(lambda: heard.states("sensor.mien_pi_front_faces")[-1] == "unavailable", what="offline")
    sink = start_daemon_side(config)
    greet(sink, count="unknown", camera="opening")
    server.wait(lambda: heard.states("sensor.mien_pi_front_faces")[-1] == "unknown", what="unknown, not 0")
    assert heard.states("binary_sensor.mien_pi_front_occupancy")[-1] == "unknown"
    assert heard.states(FACE)[-1] == first, "the event entity stayed as it was"
    assert heard.fired("naive") == naive, "not even a simple automation fires"

    assert server.complaints == [], "of our discovery, templates or blueprints"
    broker.kill()
    broker.start()
    greet(sink, count="unknown", camera="opening")
    server.wait(lambda: heard.changes(FACE)[-1] == ("unavailable", first), what="back after the broker's restart")
    assert heard.fired("naive") > naive, "a simple automation takes it for an event: hence the blueprint"
    server.stop()
    started = heard.fired("started")
    server.start()
    server.wait(lambda: heard.fired("started") > started, what="its second start")
    heard.wait_quiet()
    after = heard.counts()
    assert (after["emotion"], after["nobody"]) == (fired["emotion"], fired["nobody"])
    assert "0" not in heard.states("sensor.mien_pi_front_faces"), "nobody was never said"
    assert "off" not in heard.states("binary_sensor.mien_pi_front_occupancy")

    greet(sink, count="0")
    server.wait(lambda: heard.fired("nobody") > fired["nobody"], what="nobody, while the camera is live")
    sink.send(event_message(2))
    server.wait(lambda: heard.fired("emotion") > fired["emotion"], what="the next event")


def test_a_message_for_each_entity_makes_the_same_entities(
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[..., Subscriber],
    homeassistant: Callable[..., HomeAssistant],
    start_daemon_side: Callable[[Config], MqttSink],
) -> None:
    broker = mosquitto()
    raw = {"device": "pi", "camera": {"name": "front"}, "homeassistant": {"enabled": True, "per_component": True}}
    config = make_config(raw | {"mqtt": {"host": "127.0.0.1", "port": broker.port, "requests": True}})
    heard = Heard(subscribe(broker.port, "test/#"))
    server = homeassistant(broker.port)
    sink = start_daemon_side(config)
    greet(sink, count="1")
    server.wait(lambda: "on" in heard.states("binary_sensor.mien_pi_front_occupancy"), what="occupancy")
    sink.send(event_message(1))
    server.wait(lambda: heard.fired("emotion") == 1, what="the blueprint")
    assert "on" in heard.states("switch.mien_pi_front_watching")
    assert server.complaints == []
