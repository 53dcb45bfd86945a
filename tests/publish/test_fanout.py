from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from publish_samples import event_message

from edge.config.loader import make_config
from edge.config.schema import JsonlConfig
from edge.errors import ConfigError, PublishError, config_context
from edge.publish import Fanout, open_sinks
from edge.publish.base import Message
from edge.publish.jsonl import JsonlSink


class BadSink:
    """Breaks its promise: raises out of `send`."""

    def start(self) -> None: ...

    def send(self, message: Message) -> None:
        raise OSError("no such luck")

    def stop(self, *, timeout_s: float) -> None: ...

    def status(self) -> str:
        return "fine"

    def previous(self) -> tuple[str, int] | None:
        return None

    def counts(self) -> dict[str, int]:
        return {}


def test_one_sink_that_fails_hinders_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x"
    sinks = Fanout({"bad": BadSink(), "jsonl": JsonlSink(JsonlConfig(path=str(path)))})
    sinks.start()
    for seq in (1, 2):
        sinks.send(event_message(seq))
    sinks.stop(timeout_s=10)
    assert [json.loads(line)["payload"]["seq"] for line in path.read_bytes().splitlines()] == [1, 2]
    assert sinks.status() == "bad: failed: no such luck, jsonl: writing"
    assert sinks.counts() == {"jsonl.queued": 0, "jsonl.sent": 2, "jsonl.dropped": 0}


def test_a_sink_that_takes_all_its_time_to_stop_takes_none_from_the_others() -> None:
    together = threading.Barrier(2)

    class SlowSink(BadSink):
        def stop(self, *, timeout_s: float) -> None:
            together.wait(timeout_s)  # raises unless both are asked to stop at the same time
            given.append(timeout_s)

    given: list[float] = []
    Fanout({"a": SlowSink(), "b": SlowSink()}).stop(timeout_s=10)
    assert given == [10, 10]


def test_a_sink_that_cannot_start_stops_those_that_did(tmp_path: Path) -> None:
    good = JsonlSink(JsonlConfig(path=str(tmp_path / "x")))
    with pytest.raises(PublishError, match="Is a directory"):
        Fanout({"good": good, "bad": JsonlSink(JsonlConfig(path=str(tmp_path)))}).start()
    good.send(event_message(1))
    assert (tmp_path / "x").read_bytes() == b""


def test_an_unknown_sink_is_refused_with_the_valid_names() -> None:
    config = make_config({"publish": {"sinks": ["mqtt", "kafka"]}})
    with (
        pytest.raises(ConfigError, match=r"^mien\.toml: publish\.sinks: 'kafka' is unknown; there are mqtt, jsonl$"),
        config_context("mien.toml"),
    ):
        open_sinks(config)


def test_the_sinks_of_a_configuration_are_started_once_each(tmp_path: Path) -> None:
    path = tmp_path / "x"
    config = make_config({"publish": {"sinks": ["jsonl", "jsonl"]}, "jsonl": {"path": str(path)}})
    sinks = open_sinks(config)
    sinks.send(event_message(1))
    sinks.stop(timeout_s=10)
    assert len(path.read_bytes().splitlines()) == 1


def test_no_sink_at_all_is_allowed() -> None:
    sinks = open_sinks(make_config({"publish": {"sinks": []}}))
    sinks.send(event_message(1))
    sinks.stop(timeout_s=1)
    assert sinks.status() == ""
