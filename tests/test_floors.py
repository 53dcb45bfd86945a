"""The floors of the house: which package and which room may import which, and how full a root may be."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tools import ROOT

ROOT_FILES = 12


def test_imports_run_one_way_and_never_in_a_circle() -> None:
    """The contracts stand in pyproject.toml, ``[tool.importlinter]``."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", ["edge", "convert", "training"])
def test_the_root_of_a_package_holds_only_what_it_shares(package: str) -> None:
    assert len(list((ROOT / package).glob("*.py"))) <= ROOT_FILES
