"""``mien-train`` as a person calls it: in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tools import ROOT

pytest.importorskip("keras", reason="pip install 'mien[training]'")

from faces import make_recipe, write_faces

from training.fit.run_folder import dump_recipe, load_run

pytestmark = pytest.mark.tensorflow


def mien_train(*arguments: object, backend: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", **({"KERAS_BACKEND": backend} if backend else {})}
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        capture_output=True, text=True, timeout=150, env=environment,
    )  # fmt: skip


def test_a_recipe_is_trained_and_its_run_folder_is_trained_again(tmp_path: Path) -> None:
    recipe, faces = tmp_path / "tiny.toml", write_faces(tmp_path)
    recipe.write_text(dump_recipe(make_recipe(input={"size_px": 16}, train={"epochs": 1})))
    first = mien_train("fit", recipe, "--data", faces, "--out", tmp_path / "first")
    assert first.returncode == 0, first.stderr
    assert "model.keras" in first.stdout
    pictures, epoch = first.stderr.splitlines()  # and no notices of the backend
    assert pictures.startswith("tiny: ")
    assert epoch.startswith("epoch 1/1")
    again = mien_train("fit", tmp_path / "first", "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    rows = [load_run(tmp_path / name)[1].best for name in ("first", "again")]
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[0].loss == rows[1].loss


def test_what_a_run_began_with_is_asked_for_again_and_looked_for_before_anything_is_made(tmp_path: Path) -> None:
    recipe, faces = tmp_path / "tiny.toml", write_faces(tmp_path)
    recipe.write_text(dump_recipe(make_recipe(input={"size_px": 16}, train={"epochs": 1})))
    fit = ("fit", recipe, "--data", faces, "--out")
    missing = mien_train(*fit, tmp_path / "none", "--weights", tmp_path / "no.keras")
    assert missing.returncode == 78
    assert "no.keras: no Keras file" in missing.stderr
    assert not (tmp_path / "none").exists()
    for arguments in ((*fit, tmp_path / "a"), (*fit, tmp_path / "b", "--weights", tmp_path / "a")):
        done = mien_train(*arguments)
        assert done.returncode == 0, done.stderr
    again = mien_train("fit", tmp_path / "b", "--out", tmp_path / "c")
    assert again.returncode == 2
    assert "the run began with model.keras; give it with --weights" in again.stderr
    other = mien_train("fit", tmp_path / "b", "--out", tmp_path / "c", "--weights", tmp_path / "b")
    assert other.returncode == 0, other.stderr
    assert "is not what the run began with" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["fit", "sequential6", "-o", "x"], 2, "mien-train: error: --data: at least one data set"),
        (["fit", "no-such", "-o", "x", "-d", "/no/such.csv"], 78, "mien-train: error: no-such: no such file, and no"),
        (["fit", "sequential6", "-o", "x", "-d", "/no/such.csv"], 78, "mien-train: error: /no/such.csv: no such file"),
        (["fit", "emotion_nano", "-o", "x", "-d", "y"], 2, "use mien-train distill"),
        (["distill", "emotion", "-o", "x", "-d", "y", "-t", "z"], 2, "use mien-train fit"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_one_line_and_its_exit_code(
    arguments: list[str], code: int, line: str
) -> None:
    done = mien_train(*arguments)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert line in done.stderr


def test_a_backend_that_is_unknown_or_not_installed_is_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(dump_recipe(make_recipe(input={"size_px": 16})))
    fit = ["fit", str(recipe), "--data", str(write_faces(tmp_path)), "--out", str(tmp_path / "run")]
    unknown = mien_train(*fit, backend="theano")
    assert unknown.returncode == 2
    assert "error: KERAS_BACKEND=theano: Keras computes with tensorflow, jax or torch" in unknown.stderr
    without = "import sys; sys.modules['keras'] = None; from training.cli import main; main()"
    missing = subprocess.run([sys.executable, "-c", without, *fit], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "error: training needs keras: " in missing.stderr
    assert not (tmp_path / "run").exists()


def test_the_recipes_are_listed_with_what_was_published() -> None:
    done = mien_train("recipes")
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if "cnn_512 " in line)
    assert "65.34 %" in row


def test_ctrl_c_says_how_to_go_on_and_the_run_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "tiny.toml"
    write_faces(tmp_path)
    recipe.write_text(dump_recipe(make_recipe(input={"size_px": 16}, train={"epochs": 500})))
    monkeypatch.chdir(tmp_path)
    started = subprocess.Popen(
        [sys.executable, "-m", "training", "fit", "tiny.toml", "-d", "faces.npz", "-o", "run"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where a shell starts us with &
    )  # fmt: skip
    assert started.stderr is not None
    lines = iter(started.stderr.readline, "")
    assert any(line.startswith("epoch 1/") for line in lines)
    started.send_signal(signal.SIGINT)
    rest = list(lines)
    assert started.wait(60) == 130
    assert "interrupted: the same command with --resume goes on from run\n" in rest
    assert not any("Traceback" in line for line in rest)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = mien_train("evaluate", tmp_path / "run", "-d", tmp_path / "faces.npz")
    assert done.returncode == 0, done.stderr


def test_a_fine_tune_on_some_of_the_classes_says_how(tmp_path: Path) -> None:
    """Somebody's own photographs seldom show all seven."""
    for label in ("happy", "neutral"):
        (tmp_path / "faces" / label).mkdir(parents=True)
        for number in range(16):
            picture = np.random.default_rng([number, len(label)]).integers(0, 255, (48, 48), np.uint8)
            cv2.imwrite(str(tmp_path / "faces" / label / f"{number}.png"), picture)
    command = [sys.executable, "-m", "training", "fit", "finetune", "--data", str(tmp_path / "faces"), "--epochs", "1"]
    weights = ["--weights", str(ROOT / "training" / "weights" / "emotion_ferplus.keras")]
    refused = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), *weights], capture_output=True, text=True, timeout=170, check=False
    )
    assert refused.returncode != 0
    assert "leave it out: --classes happy,neutral" in refused.stderr.replace("\n", " ")
    for classes, code in (("happy,neutral", 0), ("happy,joy", 78)):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / classes), *weights, "--classes", classes],
            capture_output=True, text=True, timeout=170, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
