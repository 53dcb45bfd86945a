"""A configuration is somebody's file: what only looks at it runs nothing that it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tools import require_tool

SOURCE = """
#include <stdio.h>
__attribute__((constructor)) static void run(void) { FILE *mark = fopen("%s", "w"); if (mark) fclose(mark); }
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a configuration whose library leaves ``mark`` where it is loaded."""
    gcc = require_tool("gcc", "apt-get install gcc libc6-dev")
    (tmp_path / "library.c").write_text(SOURCE % (tmp_path / "mark"))
    subprocess.run([gcc, "-shared", "-fPIC", "-o", tmp_path / "x.so", tmp_path / "library.c"], check=True)
    for name in ("external", "edgetpu"):
        section = f'[emotion]\ndelegate = "{name}"\noptions = {{ library = "{tmp_path}/x.so" }}\n'
        (tmp_path / f"{name}.toml").write_text(f'[camera]\nsource = "synthetic"\n{section}')
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((64, 64, 3), 127, np.uint8))
    return tmp_path


def mien(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("delegate", ["external", "edgetpu"])
@pytest.mark.parametrize(
    "command",
    [("config", "check"), ("doctor", "--config"), ("ha-preview", "--config"), ("replay", "picture.png", "-c")],
)
def test_a_library_is_not_run_by_what_only_looks(command: tuple[str, ...], delegate: str, hostile: Path) -> None:
    done = mien(hostile, *command, f"{delegate}.toml")
    assert not (hostile / "mark").exists()
    assert "Traceback" not in done.stderr
    if command[0] == "doctor":
        assert "x.so: not looked at" in done.stdout
    if command[0] == "replay":
        assert (done.returncode, "x.so is not loaded" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    "command", [("doctor", "--load-library", "-c"), ("replay", "picture.png", "--load-library", "-c")]
)
def test_it_is_run_where_that_is_asked_for(command: tuple[str, ...], hostile: Path) -> None:
    mien(hostile, *command, "external.toml")
    assert (hostile / "mark").exists()
