"""The chain of `make models`, on generated pictures and for one epoch each: from data to three bundles."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="pip install 'mien[training]'")

from faces import write_faces
from tools import require_tool

from edge.contract.bundle import load_emotion_bundle

pytestmark = pytest.mark.tensorflow
REPOSITORY = Path(__file__).resolve().parents[2]


def make(out: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [
        require_tool("make", "apt-get install make"),
        "-f",
        "training/models.mk",
        f"TRAIN={sys.executable} -m training",
        f"OUT={out}",
    ]
    command += [f"DATA={data}", "EPOCHS=1", "FORCE=1", *more]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "KERAS_BACKEND": "tensorflow"}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)  # three trainings: a minute alone, more beside other work
def test_the_chain_ends_in_three_bundles_and_does_nothing_twice(tmp_path: Path) -> None:
    data, out = write_faces(tmp_path, count=140), tmp_path / "models"
    done = make(out, data)
    assert done.returncode == 0, done.stderr[-2000:]
    copies = hashlib.sha256((out / "copies.txt").read_bytes()).hexdigest()
    recipes = {"ferplus": "emotion_second", "fer2013": "emotion_fer2013", "nano": "emotion_nano"}
    for name, recipe in recipes.items():
        manifest = load_emotion_bundle(out / "bundles" / f"emotion-{name}").manifest
        assert (manifest.name, manifest.copies_sha256) == (f"emotion-{name}", copies)
        assert manifest.trained_from.recipe.startswith(recipe)
    assert "Nothing to be done" in make(out, data).stdout


def test_a_step_that_fails_ends_the_chain_with_its_line(tmp_path: Path) -> None:
    failed = make(tmp_path / "models", tmp_path / "missing.csv")
    assert failed.returncode == 2
    assert "missing.csv" in failed.stderr
    assert not (tmp_path / "models" / "prepared.npz").exists()
