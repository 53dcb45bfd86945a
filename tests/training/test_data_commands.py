"""``mien-train data``, ``prepare`` and ``evaluate`` as a person calls them: in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from faces import write_faces

from training.recipe import load_recipe

ROOT = Path(__file__).parents[2]


def mien_train(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        capture_output=True, text=True, timeout=150, cwd=folder,
        env={**os.environ, "COLUMNS": "160", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")},
    )  # fmt: skip


def test_data_prints_the_counts_and_writes_page_and_json(tmp_path: Path) -> None:
    write_faces(tmp_path)
    done = mien_train(tmp_path, "data", "faces.npz", "--out", "page.html", "--json", "report.json")
    assert done.returncode == 0, done.stderr
    assert "public_test" in done.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pictures"] == 84
    assert report["vote_agreement"] == 1.0


def test_prepare_prints_the_path_of_data_that_every_other_command_takes(tmp_path: Path) -> None:
    write_faces(tmp_path, count=140)
    first = mien_train(tmp_path, "prepare", "faces.npz", "--validation", "0.2")
    again = mien_train(tmp_path, "prepare", "faces.npz", "--validation", "0.2")
    assert first.returncode == again.returncode == 0, first.stderr
    assert first.stdout == again.stdout
    assert "prepared now" in first.stderr
    assert "found in the cache" in again.stderr
    prepared = Path(first.stdout.strip())
    assert prepared.parent == tmp_path / "cache" / "mien"
    audited = mien_train(tmp_path, "data", prepared, "--json", "report.json")
    assert audited.returncode == 0, audited.stderr
    leaks = json.loads((tmp_path / "report.json").read_text())["leaks"]
    assert len(leaks) == 6
    assert all(leak["near"] == 0 for leak in leaks)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("data", "nothing.csv"), 78, "mien-train: error: nothing.csv: no such file or folder"),
        (("data", "faces.npz@split=third"), 2, "split=third: not one of train, validation"),
        (("prepare", "faces.npz", "--validation", "0.9"), 2, "leave half of the pictures to train on"),
        (("evaluate", "no-such-bundle", "-d", "faces.npz"), 78, "no such bundle"),
        (("evaluate", "no-such-bundle"), 2, "evaluate: no data"),
        (("data", "faces.npz", "--out", "faces.npz/page.html"), 78, "page.html: cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_the_documented_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    write_faces(tmp_path)
    done = mien_train(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_says_what_follows_the_path_of_data_and_swallows_no_brackets(tmp_path: Path) -> None:
    for command in ("data", "evaluate", "fit"):
        said = " ".join(mien_train(tmp_path, command, "--help").stdout.replace("│", " ").split())
        assert "@labels=ferplus" in said, command
    assert "[distill] table" in " ".join(mien_train(tmp_path, "distill", "--help").stdout.split())


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    write_faces(tmp_path)
    done = mien_train(tmp_path, "prepare", "faces.npz", "--seed", "-1")
    assert done.returncode == 2
    assert "--seed" in done.stderr
    (tmp_path / "mine.toml").write_text('description = "x"\n[model]\narchitecture = "resnet"\n[train]\nseed = -1\n')
    done = mien_train(tmp_path, "fit", "mine.toml", "--data", "faces.npz", "--out", "run")
    assert done.returncode == 78, done.stderr
    assert "train.seed" in done.stderr
    assert "Traceback" not in done.stderr


def test_brackets_and_names_that_are_no_utf8_are_printed_as_they_are(tmp_path: Path) -> None:
    write_classes(tmp_path / "odd", stem=b"\xff")
    page = tmp_path / "my [red] page.html"
    done = mien_train(tmp_path, "data", "odd", "--out", page, "--json", "report.json")
    assert done.returncode == 0, done.stderr
    assert "my [red] page.html" in done.stdout.replace("\n", "")
    assert page.is_file()
    assert json.loads((tmp_path / "report.json").read_text())["pictures"] == 6
    prepared = mien_train(tmp_path, "prepare", "odd", "--validation", "0.3")
    assert prepared.returncode == 0, prepared.stderr


def test_pictures_that_are_not_read_are_counted_and_said(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine")
    picture = next(folder.rglob("*.png"))
    (folder / "happy" / "scan.picture").write_bytes(picture.read_bytes())
    (folder / "happy" / "nosuffix").write_bytes(picture.read_bytes())
    (tmp_path / "more").mkdir()
    (folder / "sad-too").symlink_to(tmp_path / "more")
    done = mien_train(tmp_path, "data", "mine")
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "left out of mine: 1 (linked folders, not followed)" in said
    assert "1 (pictures with the suffix .picture, not read)" in said
    assert "1 (pictures without suffix, not read)" in said


def test_pictures_under_another_name_cannot_calibrate_their_own_evaluation(tmp_path: Path) -> None:
    write_faces(tmp_path)
    (tmp_path / "other.npz").write_bytes((tmp_path / "faces.npz").read_bytes())
    done = mien_train(
        tmp_path, "evaluate", "emotion-nano", "-d", "faces.npz@split=public_test", "--calibrate", "other.npz"
    )
    assert done.returncode == 2, done.stderr
    assert "among those of --data" in done.stderr


def test_a_recipe_that_needs_votes_names_one_that_does_not(tmp_path: Path) -> None:
    write_faces(tmp_path, votes=False)
    done = mien_train(tmp_path, "fit", "emotion", "--data", "faces.npz", "--out", "run")
    assert done.returncode == 78
    assert "a recipe for own labels is finetune" in done.stderr
    assert load_recipe("finetune").data.targets == ("own",)


def write_classes(folder: Path, *, stem: bytes = b"p") -> Path:
    """Three pictures each of happy and sad, in class folders; ``stem`` begins their names."""
    rng = np.random.default_rng(1)
    for label in ("happy", "sad"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            encoded = cv2.imencode(".png", rng.integers(0, 255, (16, 16)).astype(np.uint8))[1]
            (folder / label / os.fsdecode(stem + b"%d.png" % number)).write_bytes(encoded.tobytes())
    return folder
