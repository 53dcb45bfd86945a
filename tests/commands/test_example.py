"""`mien example`: every file is printed, read by the format's parser, and speaks of what Mien publishes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import require_tool
from typer.testing import CliRunner

from edge.cli import app
from edge.commands.example import FILES, read_example
from edge.contract.labels import LABELS
from edge.errors import UsageError
from edge.publish.topics import TOPICS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROMTOOL = ("promtool", "apt-get install prometheus")


class _Loader(yaml.SafeLoader):
    """YAML as Home Assistant has it: ``!input`` names an input of a blueprint."""


_Loader.add_constructor("!input", lambda loader, node: {"input": node.value})


def inputs_in(value: Any) -> set[str]:
    """Names that a blueprint's ``!input`` asks for."""
    if isinstance(value, dict):
        if set(value) == {"input"} and isinstance(value["input"], str):
            return {value["input"]}
        return {name for each in value.values() for name in inputs_in(each)}
    return {name for each in value for name in inputs_in(each)} if isinstance(value, list) else set()


@pytest.mark.parametrize("name", list(FILES))
def test_each_example_is_printed_as_it_is(name: str) -> None:
    assert CliRunner().invoke(app, ["example", name]).output == read_example(name)


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"example: 'x' is unknown; there are prometheus, .*blueprint-nobody"):
        read_example("x")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("blueprint")])
def test_a_blueprint_uses_exactly_the_inputs_that_it_asks_for(name: str) -> None:
    read = yaml.load(read_example(name), Loader=_Loader)
    asked = set(read.pop("blueprint")["input"])
    assert inputs_in(read) == asked
    assert read["triggers"]
    assert read["actions"]


def test_the_emotions_of_the_blueprint_are_those_of_the_models() -> None:
    read = yaml.load(read_example("blueprint-emotion"), Loader=_Loader)
    assert set(read["blueprint"]["input"]["emotion"]["selector"]["select"]["options"]) == set(LABELS)


def test_telegraf_reads_topics_that_there_are() -> None:
    inputs = tomllib.loads(read_example("telegraf"))["inputs"]["mqtt_consumer"]
    assert [each["topics"] for each in inputs] == [["mien/+/+/health"], ["mien/+/+/counts"]]
    assert all(each["topic_parsing"][0]["topic"] == each["topics"][0] for each in inputs)


def test_the_flow_s_wires_lead_to_nodes_and_who_leaves_is_filtered_out() -> None:
    nodes = {node["id"]: node for node in json.loads(read_example("node-red"))}
    for node in nodes.values():
        assert {target for wire in node.get("wires", []) for target in wire} <= nodes.keys()
        assert node.get("z", "mien-tab") in nodes
    topics = [node for node in nodes.values() if node["type"] == "mqtt in"]
    assert {node["topic"].rpartition("/")[2] for node in topics} <= TOPICS.keys()
    [after_events] = nodes["mien-events"]["wires"][0]
    told = [rule["v"] for rule in nodes[after_events]["rules"]]
    assert (nodes[after_events]["property"], told) == ("payload.type", ["face_appeared", "emotion_changed"])


def test_promtool_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    program = require_tool(*PROMTOOL)
    (tmp_path / "prometheus.yml").write_text(read_example("prometheus"))
    (tmp_path / "mien-rules.yml").write_text(read_example("prometheus-rules"))
    command = [program, "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"6 rules found", done.stdout)
