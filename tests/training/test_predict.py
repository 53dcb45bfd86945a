"""``mien-train predict``: what a model sees in any picture, said and drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from test_cut import photo_folders, photograph
from test_data_commands import mien_train

import edge
from convert.datasets.face_cut import cut_faces
from training.evaluate.models import load_evaluated_model
from training.evaluate.predict import predict_picture


def test_photographs_are_said_and_drawn_in_one_command(tmp_path: Path) -> None:
    photo_folders(tmp_path / "photos")
    done = mien_train(tmp_path, "predict", "photos")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert "photos/happy/wall.png: no face found" in lines
    assert sum("face at " in line for line in lines) == 4
    for name in ("coelho", "hopper"):
        drawn = cv2.imread(str(tmp_path / "predicted" / f"{name}.png"))
        assert drawn.shape == (300, 500, 3)
        assert (drawn != photograph(name)).any()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "predicted" / "wall.png")), np.full((300, 500, 3), 128))


@pytest.mark.parametrize("name", ["hopper", "coelho"])
def test_a_bundle_says_what_the_device_says(name: str) -> None:
    picture = photograph(name)
    (said,) = predict_picture(load_evaluated_model("emotion-ferplus"), picture)
    with edge.FaceReader(settings={"emotion.mirror": False}) as reader:
        (seen,) = reader.read(picture)
    assert said.xywh == pytest.approx(seen.xywh, abs=0.5)
    np.testing.assert_allclose(said.scores, list(seen.scores.values()), atol=0.02)


def test_a_cut_face_is_taken_whole() -> None:
    (face,) = cut_faces(photograph("hopper"))
    small = cv2.resize(face.image, (48, 48), interpolation=cv2.INTER_AREA)
    model = load_evaluated_model("emotion-ferplus")
    (said,), (again,) = predict_picture(model, photograph("hopper")), predict_picture(model, small)
    assert again.whole
    assert not said.whole
    assert again.xywh == (0, 0, 48, 48)
    np.testing.assert_allclose(again.scores, said.scores, atol=0.02)


def test_a_picture_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "not.jpg").write_text("no picture")
    done = mien_train(tmp_path, "predict", "not.jpg")
    assert done.returncode == 78
    assert "not.jpg" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_picture_is_drawn_over_one_that_is_read(tmp_path: Path) -> None:
    folder = photo_folders(tmp_path / "photos") / "happy"
    before = (folder / "coelho.png").read_bytes()
    done = mien_train(folder, "predict", ".", "--out", ".")
    assert done.returncode == 2
    assert "is a picture that is read; use another folder" in done.stderr
    assert (folder / "coelho.png").read_bytes() == before
