"""Lines that are written fit the schemas that are printed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
from publish_samples import event_message, initial_messages, state_message
from rich.console import Console
from tools import ROOT

from edge.commands.replay import replay_files
from edge.commands.schema import make_schema
from edge.config.schema import JsonlConfig
from edge.publish.jsonl import JsonlSink
from edge.publish.topics import TOPICS


def check(name: str, lines: list[str]) -> None:
    schema = make_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for line in lines:
        validator.validate(json.loads(line))
        broken = json.loads(line)
        broken.popitem()
        assert not validator.is_valid(broken)


def test_the_lines_of_a_replay_fit_their_schema(tmp_path: Path) -> None:
    portraits = next((ROOT / "edge").rglob("*.jpg")).parent
    out = tmp_path / "seen.jsonl"
    replay_files(
        str(portraits), config_file=None, overrides={}, out=out, render_to=None, trace=None, console=Console(quiet=True)
    )
    lines = out.read_text().splitlines()
    assert any(json.loads(line)["faces"] for line in lines)
    check("replay", lines)


def test_the_lines_of_the_jsonl_sink_fit_their_schema(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    sink = JsonlSink(JsonlConfig(path=str(path)))
    sink.start()
    for message in [*initial_messages(), event_message(1), state_message()]:
        sink.send(message)
    sink.stop(timeout_s=10)
    lines = path.read_text().splitlines()
    assert {json.loads(line)["kind"] for line in lines} <= {name for name, topic in TOPICS.items() if topic.recorded}
    assert any('"kind":"event"' in line for line in lines)
    check("jsonl", lines)
