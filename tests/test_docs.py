"""The documents say what is: every key, command, topic and exit code stands in it as the code has it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge import errors
from edge.cli import app
from edge.commands.schema import NAMES
from edge.config.reference import make_table
from edge.publish.topics import TOPICS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "edge" / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    path
    for folder in ("", "edge", "convert", "training", "training/weights", "systemd")
    for path in (ROOT / folder).glob("*.md")
)


def test_the_table_of_configuration_keys_is_the_one_that_the_types_give() -> None:
    assert make_table() in README, "run: python -m edge.config.reference, and put the table into edge/README.md"


def test_every_command_is_documented() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    names += [
        f"{group.name} {command.name}"
        for group in app.registered_groups
        if group.typer_instance
        for command in group.typer_instance.registered_commands
    ]
    documented = re.findall(r"`(mien [^`]*)`", README)
    for name in names:
        first, *rest = name.split()
        assert any(re.match(rf"mien {first}\b", text) and all(word in text for word in rest) for text in documented), (
            name
        )


def test_every_schema_can_be_printed_and_is_documented() -> None:
    for name in NAMES:
        printed = CliRunner().invoke(app, ["schema", name])
        assert printed.exit_code == 0
        assert json.loads(printed.output)["$schema"].startswith("https://json-schema.org/"), name
    assert isinstance(CliRunner().invoke(app, ["schema", "nothing"]).exception, errors.UsageError)
    row = next(line for line in README.splitlines() if line.startswith("| `mien schema"))
    assert set(re.findall(r"\w+", row.partition("`")[2].partition("`")[0])) == {"mien", "schema", *NAMES}


@pytest.mark.parametrize("name", list(TOPICS))
def test_every_topic_is_documented(name: str) -> None:
    assert f"`…/{name}`" in README


def test_every_exit_code_of_the_device_is_documented_with_its_meaning() -> None:
    said = re.search(r"Exit codes: (.+?)\. ", README.replace("\n", " "))
    assert said is not None
    meanings = dict(part.split(" ", 1) for part in said[1].split(" · "))
    assert meanings == {
        str(errors.EXIT_CLEAN): "clean",
        str(errors.EXIT_RUNTIME): "run-time failure",
        str(errors.EXIT_USAGE): "usage",
        str(errors.EXIT_CONFIG): "configuration error, or no bundle that verifies",
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_placeholder_is_left(path: Path) -> None:
    assert "<!--" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_local_file_that_is_named_or_linked_exists(path: Path) -> None:
    if path.name == "CHANGELOG.md":
        return  # history names files as they were
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:edge|convert|training|systemd|tests)/[\w./@-]+)`", text):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (path.parent / link).exists(), link


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


def test_links_within_a_document_lead_to_a_heading() -> None:
    for path in DOCUMENTS:
        for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if link.startswith("http"):
                continue
            target = (path.parent / link if link else path).read_text(encoding="utf-8")
            heads = [
                re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-")
                for head in re.findall(r"^#+ (.*)", target, re.M)
            ]
            assert anchor in heads, f"{path.name}: {link}#{anchor}"
