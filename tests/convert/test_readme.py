"""``convert/README.md`` says what is: every command, flag, scheme and exit code stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from convert.cli import app
from edge import errors

README = (Path(__file__).resolve().parents[2] / "convert" / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_flag_is_documented(command: str) -> None:
    assert f"mien-convert {command} " in README
    flags = {flag for option in COMMANDS[command].params for flag in option.opts if flag.startswith("--")}
    said = set(re.findall(r"--[a-z-]+", README))
    assert flags - {"--report", "--size", "--help"} <= said


def test_every_exit_code_is_documented() -> None:
    for code in (
        errors.EXIT_CLEAN, errors.EXIT_RUNTIME, errors.EXIT_USAGE, errors.EXIT_GATE_FAILED, errors.EXIT_UNDECIDED,
        errors.EXIT_CONFIG,
    ):  # fmt: skip
        assert re.search(rf"\b{code} (passed|failed|undecided|usage|run-time|broken)", README)


def test_every_scheme_is_documented_with_its_default_first() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)`", README, re.MULTILINE)
    assert rows == [("int8", "int8"), ("int16x8", "float32"), ("float16", "float32"), ("dynamic", "float32")]


def test_the_table_of_detectors_has_the_figures_of_their_manifests() -> None:
    from edge.bundles.locate import find_bundle
    from edge.contract.bundle import load_detect_bundle

    rows = re.findall(r"^\| `(yunet-\S+)` \| \.(\d+) → \.(\d+) \| \S+ \([^)]+\) \| (\w+) \|$", README, re.MULTILINE)
    assert len(rows) == 6
    for name, large, small, status in rows:
        manifest = load_detect_bundle(find_bundle(name)).manifest
        metric = next(metric for metric in manifest.metrics if metric.name == "average_precision_20px")
        assert (f"{metric.float32:.3f}"[2:], f"{metric.quantized:.3f}"[2:]) == (large, small)
        assert manifest.status == status
