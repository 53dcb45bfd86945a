"""The installer where nothing is installed: what it runs, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tools import ROOT

INSTALLER = ROOT / "systemd" / "install"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which ``systemctl`` does nothing."""
    stand_in = tmp_path / "bin" / "systemctl"
    stand_in.parent.mkdir()
    stand_in.write_text("#!/bin/sh\nexit 0\n")
    stand_in.chmod(0o755)
    return f"{stand_in.parent}:{os.environ['PATH']}"


def run(*arguments: str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(INSTALLER), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("module", ["ensurepip", "venv", "numpy", "importlib", "sys", "pip"])
def test_nothing_out_of_the_current_folder_is_run(module: str, tmp_path: Path, path: str) -> None:
    """Anybody may write to /tmp; the installer runs as root."""
    ran = tmp_path / "ran"
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / f"{module}.py").write_text(f"open({str(ran)!r}, 'w')\n")
    done = run("--dry-run", "front", folder=folder, path=path)
    assert done.returncode == 0, done.stderr
    assert "would run: install" in done.stdout
    assert not ran.exists()


@pytest.mark.parametrize("name", ["../etc", "a b", "bundles", "a;b", "ä"])
def test_a_name_that_is_no_name_of_a_unit_is_refused(name: str, tmp_path: Path, path: str) -> None:
    done = run("--dry-run", name, folder=tmp_path, path=path)
    assert done.returncode == 1
    assert done.stderr.startswith("mien: error: NAME: ")
    assert done.stderr.count("\n") == 1
