"""What the command line says of itself."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from edge.cli import app

COMMANDS = [command for command in app.registered_commands if command.callback is not None]
NAMES = [command.name or command.callback.__name__.replace("_", "-") for command in COMMANDS if command.callback]
EXAMPLES = [
    example
    for command in COMMANDS
    for example in re.split(r"Examples?: |; ", str(command.epilog or ""))
    if "mien" in example
]


def mien(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edge", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", ["run", "replay --bogus x", "nonsense", "demo --seconds x"])
def test_a_usage_error_is_one_line_with_the_way_to_the_help(arguments: str) -> None:
    done = mien(*arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"mien: error: [^\n]+; see [^\n]+ --help\n", done.stderr)


@pytest.mark.parametrize("arguments", [[], ["bundle"]])
def test_nothing_said_is_answered_by_the_help(arguments: list[str]) -> None:
    done = mien(*arguments)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage" in done.stdout


def test_the_exit_code_of_a_command_is_the_program_s() -> None:
    assert mien("bundle", "verify", "/nowhere").returncode == 78
    assert mien("--version").returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_80_columns(name: str) -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_line_that_can_be_read(example: str) -> None:
    arguments = example.partition(">")[0].split()[1:]
    assert mien(*arguments, "--help").returncode == 0


def test_completion_is_mentioned() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output.split("Commands")[-1]
