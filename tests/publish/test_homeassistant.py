"""Home Assistant's discovery: its rules, its templates on what we publish, and a real broker."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from brokers import Mosquitto, Subscriber, wait_until
from homeassistant_rules import SCHEMA, TOPIC, expand, render
from hypothesis import given
from hypothesis import strategies as st
from publish_samples import ORIGIN, a_face, an_event, an_info, initial_messages, moment

from edge.config.loader import make_config
from edge.config.schema import Config, PublishConfig
from edge.contract.labels import LABELS
from edge.errors import ConfigError, config_context
from edge.publish import check_sinks
from edge.publish.base import make_message
from edge.publish.encode import Vitals, dominant_emotion, encode, make_event
from edge.publish.mqtt.backoff import Backoff
from edge.publish.mqtt.homeassistant import Discovery
from edge.publish.mqtt.owned import OwnedTopics
from edge.publish.mqtt.sink import MqttSink
from edge.publish.payloads import CameraState
from edge.publish.publisher import Publisher
from edge.records import EventType, Reason

Brokers = Callable[..., Mosquitto]
Subscribe = Callable[..., Subscriber]

CONFIG = make_config({"device": "pi", "camera": {"name": "front"}, "homeassistant": {"enabled": True}})
DISCOVERY = Discovery.of(CONFIG)
[TOPIC_OF_IT] = DISCOVERY.topics


def message(discovery: Discovery = DISCOVERY) -> dict[str, Any]:
    [data] = discovery.messages(an_info()).values()
    decoded: dict[str, Any] = json.loads(data)
    return decoded


def entities(discovery: Discovery = DISCOVERY) -> dict[str, dict[str, Any]]:
    components: dict[str, dict[str, Any]] = expand(message(discovery))["components"]
    return components


def health_payload(*, temperature_c: float | None) -> bytes:
    vitals = Vitals(
        uptime_s=9, fps=14.9, frame_age=None, stages={}, drops=3, reconnects=0, counts={},
        sinks={"mqtt": ("connected", {"queued": 2})}, temperature_c=temperature_c, rss_bytes=104857600,
    )  # fmt: skip
    publisher = Publisher(PublishConfig(), origin=ORIGIN, max_frame_age_ms=1000)
    return publisher.health(vitals, moment=moment())[0].data


def problems_payload(*problems: str) -> bytes:
    publisher = Publisher(PublishConfig(), origin=ORIGIN, max_frame_age_ms=1000)
    return publisher.problems(problems, moment=moment())[0].data


names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp", "Cn")), min_size=1, max_size=64).filter(
    lambda name: not set(name) & set("/+#")
)


@given(device=names, camera=names)
def test_whatever_device_and_camera_are_called_the_message_keeps_the_rules(device: str, camera: str) -> None:
    try:
        config = make_config({"device": device, "camera": {"name": camera}})
    except ConfigError:
        return  # characters that MQTT does not have either
    discovery = Discovery.of(config)
    prefix, _, rest = discovery.topics[0].partition("/")
    match = TOPIC.fullmatch(rest)
    assert prefix == "homeassistant"
    assert match is not None
    assert match.groupdict() == {"component": "device", "node_id": None, "object_id": discovery.device_id}
    payload = expand(message(discovery))
    jsonschema.validate(payload, SCHEMA)
    assert payload["device"]["identifiers"] == [discovery.device_id]
    unique = [entity["unique_id"] for entity in payload["components"].values()]
    assert len(set(unique)) == len(unique)
    assert all(each.startswith(discovery.device_id) for each in unique)


def test_a_device_keeps_its_id_and_shares_it_with_no_other() -> None:
    def device_id(device: str, camera: str, prefix: str = "mien") -> str:
        raw = {"device": device, "camera": {"name": camera}, "mqtt": {"prefix": prefix}}
        return Discovery.of(make_config(raw)).device_id

    assert device_id("pi", "front") == "mien_pi_front_" + device_id("pi", "front")[-8:]
    assert device_id("pi", "front") == device_id("pi", "front")
    others = [
        ("pi", "front", "x"),
        ("pi", "back"),
        ("a_b", "c"),
        ("a", "b_c"),
        ("a-b", "c"),
        ("日本", "a"),
        ("本", "a"),
    ]
    assert len({device_id(*other) for other in others}) == len(others)


def test_the_entities_are_those_that_the_readme_promises() -> None:
    found = {name: (entity["platform"], entity.get("device_class")) for name, entity in entities().items()}
    assert found == {
        "count": ("sensor", None),
        "emotion": ("sensor", "enum"),
        "event": ("event", None),
        "camera": ("binary_sensor", "connectivity"),
        "camera_state": ("sensor", "enum"),
        "problem": ("binary_sensor", "problem"),
        "occupancy": ("binary_sensor", "occupancy"),
        "fps": ("sensor", None),
        "frame_age": ("sensor", "duration"),
        "memory": ("sensor", "data_size"),
        "temperature": ("sensor", "temperature"),
        "drops": ("sensor", None),
        "queue": ("sensor", None),
    }


def test_the_event_entity_never_comes_back_with_its_last_event() -> None:
    without = {name for name, entity in entities().items() if "availability_topic" not in entity}
    assert without == {"event"}


@pytest.mark.parametrize(("told", "state"), [(b"unknown", "None"), (b"0", "OFF"), (b"1", "ON"), (b"12", "ON")])
def test_somebody_is_there_nobody_is_there_or_it_is_not_known(told: bytes, state: str) -> None:
    assert render(entities()["occupancy"]["value_template"], told) == state


def test_diagnostics_are_what_the_health_report_says_and_unknown_where_it_does_not() -> None:
    report = health_payload(temperature_c=None)
    shown = {
        key: render(entity["value_template"], report)
        for key, entity in entities().items()
        if entity.get("state_topic", "").endswith("/health")
    }
    assert shown == {
        "fps": "14.9", "frame_age": "None", "memory": "104857600", "temperature": "None", "drops": "3", "queue": "2",
    }  # fmt: skip
    assert {entity["expire_after"] for entity in entities().values() if "expire_after" in entity} == {91}


def test_faces_are_attributes_and_null_while_they_are_not_known() -> None:
    template = entities()["count"]["json_attributes_template"]
    state = {"faces": [{"track": "a", "emotion": "happy", "confidence": 0.9, "since": "t", "reason": None}]}
    shown = [
        json.loads(render(template, json.dumps(each).encode())) for each in (state, {"faces": []}, {"faces": None})
    ]
    assert shown == [
        {"faces": [{"track": "a", "emotion": "happy", "since": "t"}]},
        {"faces": []},
        {"faces": None},
    ]


def test_the_device_says_where_it_stands_and_where_its_page_is() -> None:
    raw = {"homeassistant": {"area": "Hall"}, "page": {"enabled": True, "url": "http://pi:8089"}}
    device = message(Discovery.of(make_config(raw)))["dev"]
    assert (device["sa"], device["cu"]) == ("Hall", "http://pi:8089")
    assert not {"sa", "cu"} & message()["dev"].keys()
    off = make_config({"page": {"url": "http://pi:8089"}})
    assert "cu" not in message(Discovery.of(off))["dev"], "a page that is not served is no link"


def test_a_message_for_each_entity_says_the_same_as_one_for_the_device() -> None:
    raw = {"device": "pi", "camera": {"name": "front"}, "homeassistant": {"per_component": True}}
    discovery = Discovery.of(make_config(raw))
    messages = {topic: json.loads(data) for topic, data in discovery.messages(an_info()).items()}
    assert list(messages) == discovery.topics
    found = {}
    for topic, payload in messages.items():
        prefix, _, rest = topic.partition("/")
        match = TOPIC.fullmatch(rest)
        assert prefix == "homeassistant"
        assert match is not None
        assert match["node_id"] == discovery.device_id
        shared = {key: payload.pop(key) for key in ("dev", "o", "qos")}
        assert shared == {key: message()[key] for key in shared}
        found[match["object_id"]] = payload | {"p": match["component"]}
    assert found == message()["cmps"]


def test_a_switch_and_a_button_are_there_where_requests_are_carried_out() -> None:
    config = make_config({"device": "pi", "camera": {"name": "front"}, "mqtt": {"requests": True}})
    found = message(Discovery.of(config))["cmps"]
    assert (found["active"]["p"], found["active"]["cmd_t"]) == ("switch", "mien/pi/front/active/set")
    assert (found["selftest"]["p"], found["selftest"]["cmd_t"]) == ("button", "mien/pi/front/request/selftest")


@pytest.mark.parametrize("name", ["count", "emotion"])
def test_unknown_is_no_state_for_home_assistant(name: str) -> None:
    template = entities()[name]["value_template"]
    assert [render(template, told) for told in (b"unknown", b"0", b"happy")] == ["None", "0", "happy"]


@pytest.mark.parametrize("kind", list(EventType))
def test_the_event_entity_gets_json_with_one_of_its_event_types(kind: EventType) -> None:
    event = entities()["event"]
    face = a_face(reason=Reason.LOW_MARGIN if kind is EventType.FACE_LEFT else None)
    payload = encode(make_event(an_event(kind=kind, face=face), origin=ORIGIN, moment=moment()))
    rendered = json.loads(render(event["value_template"], payload))
    assert rendered.pop("event_type") == kind.value
    assert kind.value in event["event_types"]
    published = json.loads(payload)
    assert rendered == {name: published[name] for name in rendered}
    assert {"track", "emotion", "previous", "confidence"} <= rendered.keys()


def test_every_emotion_that_can_be_told_is_an_option() -> None:
    told = {dominant_emotion([(label, 0.9)]) for label in (*LABELS, "uncertain")} | {dominant_emotion([])}
    assert told == set(entities()["emotion"]["options"])


def test_camera_problem_and_availability_are_on_or_off_for_all_that_is_published() -> None:
    camera, problem = entities()["camera"]["value_template"], entities()["problem"]
    states = {state: render(camera, state.encode()) for state in get_args(CameraState)}
    assert states == {"opening": "OFF", "live": "ON", "stale": "OFF", "lost": "OFF", "paused": "OFF"}
    assert entities()["camera_state"]["options"] == list(states)
    bad = problems_payload("camera: lost", 'delegate: edgetpu: "x"')
    assert render(problem["value_template"], problems_payload()) == "OFF"
    assert render(problem["value_template"], bad) == "ON"
    attributes = json.loads(render(problem["json_attributes_template"], bad))
    assert attributes == {"problems": ["camera: lost", 'delegate: edgetpu: "x"']}
    assert "availability_template" not in expand(message())  # online and offline alone


def test_problems_are_told_when_they_change_and_not_more_often_than_once_a_second() -> None:
    publisher = Publisher(PublishConfig(), origin=ORIGIN, max_frame_age_ms=1000)
    told = [
        bool(publisher.problems(problems, moment=moment(at_s)))
        for at_s, problems in [
            (1.0, []),
            (1.1, ["a"]),
            (1.9, ["a"]),
            (2.1, ["a"]),
            (9.0, ["a"]),
            (9.5, []),
            (9.6, ["a"]),
        ]
    ]
    assert told == [True, False, False, True, False, True, False]


def test_discovery_without_mqtt_is_a_mistake() -> None:
    config = make_config({"homeassistant": {"enabled": True}, "publish": {"sinks": ["jsonl"]}})
    with (
        pytest.raises(ConfigError, match=r"^mien\.toml: homeassistant\.enabled: true, but mqtt is not among publish"),
        config_context("mien.toml"),
    ):
        check_sinks(config)


@pytest.fixture
def start_sink() -> Iterator[Callable[..., MqttSink]]:
    sinks: list[MqttSink] = []

    def start(port: int, config: Config = CONFIG, *, state: Path | None = None, **mqtt: Any) -> MqttSink:
        config = make_config(
            {
                "device": "pi",
                "camera": {"name": "front"},
                "mqtt": {"host": "127.0.0.1", "port": port} | mqtt,
                "homeassistant": msgspec.to_builtins(config.homeassistant),
            }
        )
        sink = MqttSink(
            config.mqtt,
            device="pi",
            camera="front",
            discovery=Discovery.of(config) if config.homeassistant.enabled else None,
            owned=OwnedTopics.load(state, camera="front", owner=""),
            backoff=Backoff(base_s=0.05, cap_s=0.2, rng=random.Random(1)),
        )
        sinks.append(sink)
        sink.start()
        return sink

    yield start
    for sink in sinks:
        sink.stop(timeout_s=2)


def configs(subscriber: Subscriber) -> list[bytes]:
    return [message.payload for message in list(subscriber.messages) if message.topic == TOPIC_OF_IT]


@pytest.mark.broker
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_discovery_is_retained_and_sent_again_when_home_assistant_or_the_broker_comes_back(
    version: str, mosquitto: Brokers, subscribe: Subscribe, start_sink: Callable[..., MqttSink]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port, version=version)
    for message in initial_messages():
        sink.send(message)
    subscriber.wait_for("availability", b"online")
    assert configs(subscriber) == [DISCOVERY.messages(an_info())[TOPIC_OF_IT]]
    late = subscribe(broker.port, TOPIC_OF_IT)
    late.wait_for("config")
    assert late.messages[0].retain
    for word in (b"offline", b"online", b"nonsense", b"online" * 500):
        subscriber.publish("homeassistant/status", word)
    wait_until(lambda: len(configs(subscriber)) == 2, what="discovery, sent again")
    subscriber.expect_reconnect()
    broker.kill()
    broker.start()
    subscriber.wait_subscribed()
    wait_until(lambda: len(configs(subscriber)) >= 3, what="discovery after a reconnect")
    subscriber.wait_quiet()
    assert set(configs(subscriber)) == {DISCOVERY.messages(an_info())[TOPIC_OF_IT]}
    assert sink.problems() == []


@pytest.mark.broker
def test_without_being_asked_to_it_tells_home_assistant_nothing(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Callable[..., MqttSink]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port, Config())
    for message in initial_messages():
        sink.send(message)
    subscriber.wait_for("availability", b"online")
    assert all(message.topic.startswith("mien/") for message in subscriber.messages)
    assert "SUBSCRIBE from mien-" not in broker.log


@pytest.mark.broker
def test_a_refused_discovery_is_a_problem_that_is_published_and_hinders_nothing(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Callable[..., MqttSink], tmp_path: Path
) -> None:
    (tmp_path / "acl").write_text("topic readwrite mien/#\ntopic read homeassistant/status\n")
    broker = mosquitto("allow_anonymous true", f"acl_file {tmp_path / 'acl'}")
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    for message in initial_messages():
        sink.send(message)
    subscriber.wait_for("availability", b"online")
    wait_until(lambda: sink.problems(), what="the refusal")
    assert sink.problems() == [f"{TOPIC_OF_IT} refused: Not authorized"]
    sink.send(make_message("count", "3"))
    subscriber.wait_for("count", b"3")


@pytest.mark.broker
def test_what_home_assistant_was_told_is_taken_back_when_it_is_switched_off_or_renamed(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Callable[..., MqttSink], tmp_path: Path
) -> None:
    broker = mosquitto()

    def restart(config: Config) -> MqttSink:
        sink = start_sink(broker.port, config, state=tmp_path)
        for message in initial_messages():
            sink.send(message)
        wait_until(lambda: "connected" in sink.status(), what=sink.status)
        sink.stop(timeout_s=10)  # sends what waits
        return sink

    def told() -> list[str]:
        subscriber = subscribe(broker.port, "+/device/+/config")
        subscriber.wait_quiet()
        return [message.topic for message in subscriber.messages if message.payload]

    restart(CONFIG)
    restart(CONFIG)
    assert told() == [TOPIC_OF_IT]
    renamed = make_config({"homeassistant": {"enabled": True, "discovery_prefix": "ha"}})
    restart(renamed)
    assert told() == [TOPIC_OF_IT.replace("homeassistant", "ha")]
    restart(Config())
    assert told() == []
