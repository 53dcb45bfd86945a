"""The table of topics against what reads it: the README, Home Assistant's discovery, the sinks."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from tools import ROOT

from edge.config.schema import Config, MqttConfig
from edge.contract.labels import LABELS
from edge.publish import SINKS
from edge.publish.base import Sink
from edge.publish.mqtt.homeassistant import Discovery
from edge.publish.mqtt.mailbox import RETAINED
from edge.publish.topics import TOPICS, VERSIONS, Delivery
from edge.registry import load_entry

README = (ROOT / "edge" / "README.md").read_text(encoding="utf-8")


def documented() -> dict[str, tuple[str, str]]:
    """Topic to its columns ``retained`` and ``QoS``."""
    found = {}
    for topics, retained, qos in re.findall(r"^\| ([^|]*`…/[^|]*) \| (yes|no) \| ([01]) \|", README, re.MULTILINE):
        for name in re.findall(r"`…/(\w+)`", topics):
            found[name] = (retained, qos)
    return found


@pytest.mark.parametrize("name", TOPICS)
def test_the_readme_says_of_each_topic_whether_it_is_retained_and_its_qos(name: str) -> None:
    topic = TOPICS[name]
    assert documented()[name] == ("yes" if topic.is_retained else "no", str(topic.qos))


def test_the_readme_names_no_topic_that_is_not_published() -> None:
    assert set(documented()) == set(TOPICS)


def test_home_assistant_reads_the_topics_that_are_marked_for_it() -> None:
    discovery = Discovery.of(Config(device="pi", mqtt=MqttConfig(requests=True)))
    described = json.dumps(discovery.describe(labels=LABELS, model="m"))
    read = set(re.findall(rf'"{discovery.base}/(\w+)"', described))
    assert read == {name for name, topic in TOPICS.items() if topic.homeassistant}


def test_what_is_retained_is_sent_after_a_connect_and_online_last_of_all() -> None:
    assert {*RETAINED, "availability"} - {"withdrawal", "discovery"} == {
        name for name, topic in TOPICS.items() if topic.delivery is Delivery.LATEST
    }


def test_every_schema_has_a_name_of_its_own() -> None:
    assert len(set(VERSIONS.values())) == len(VERSIONS)
    assert all(re.fullmatch(rf"mien\.{name}/\d+", tag) for name, tag in VERSIONS.items())


@pytest.mark.parametrize("name", SINKS)
def test_every_sink_keeps_the_contract(name: str) -> None:
    sink = load_entry(SINKS, name, what="sink")(Config(device="pi"))
    for verb, wanted in inspect.getmembers(Sink, inspect.isfunction):
        if not verb.startswith("_"):
            assert inspect.signature(getattr(type(sink), verb)).parameters == inspect.signature(wanted).parameters
    assert sink.problems() == []
    assert isinstance(sink.status(), str)
    assert set(sink.counts()) >= {"queued", "sent", "dropped"}
