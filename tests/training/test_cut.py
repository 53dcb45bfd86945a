"""``mien-train cut`` and ``@cut=faces``: whole photographs become the crops that the device would see."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert.datasets import read_dataset
from convert.datasets.face_cut import cut_faces, find_faces
from convert.datasets.pictures import read_picture
from convert.evaluation.detection import pairwise_iou
from edge.contract.crop import MEASURED_MARGIN, crop_face
from edge.errors import DataError, UsageError
from training.data.cut import cut_photographs

PORTRAITS = Path(__file__).parents[2] / "edge" / "capture" / "portraits"


def photo_folders(folder: Path) -> Path:
    """Two class folders of portraits on a wide canvas, as photographs with a small face, and one without a face."""
    for label, names in (("happy", ("collins", "coelho")), ("neutral", ("hopper", "giunchedi"))):
        (folder / label).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(folder / label / f"{name}.png"), photograph(name))
    cv2.imwrite(str(folder / "happy" / "wall.png"), np.full((300, 500, 3), 128, np.uint8))
    return folder


def photograph(name: str) -> np.ndarray:
    picture = read_picture(PORTRAITS / f"{name}.jpg")
    scale = 200 / picture.shape[0]
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((300, 500, 3), 90, np.uint8)
    canvas[50 : 50 + picture.shape[0], 150 : 150 + picture.shape[1]] = picture[:, :350]
    return canvas


def test_photographs_become_data_with_a_face_each_and_a_page_that_says_what_was_left_out(tmp_path: Path) -> None:
    photos = photo_folders(tmp_path / "photos")
    (photos / "happy" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    report = cut_photographs([photos], out=tmp_path / "faces", every=False, min_px=24)
    assert report.counts() == {"cut": 4, "left out: no face found": 1, "unreadable": 1}
    data = read_dataset(str(tmp_path / "faces"))
    assert len(data) == 4
    assert all(image.shape[0] == image.shape[1] for image in data.images)
    sheet = report.page.read_text()
    assert "no face found" in sheet
    assert "wall.png" in sheet
    assert "broken.jpg" in sheet


@pytest.mark.parametrize("colour", ["grey", "bgr"])
def test_a_network_learns_from_the_pixels_that_the_device_shows_it(tmp_path: Path, colour: str) -> None:
    photos = photo_folders(tmp_path / "photos")
    cut_photographs([photos / "neutral"], out=tmp_path / "faces" / "neutral", every=False, min_px=24)
    data = read_dataset(str(tmp_path / "faces"))
    learned = data.model_inputs(size_px=48, colour="grey" if colour == "grey" else "bgr")
    for name, pixels in zip(("giunchedi", "hopper"), learned, strict=True):
        image = read_picture(photos / "neutral" / f"{name}.png")
        box = max(find_faces(image).xywh, key=lambda xywh: xywh[3])
        shown = np.empty((48, 48) if colour == "grey" else (48, 48, 3), np.uint8)
        x, y, w, h = map(float, box)
        crop_face(image, (x, y, w, h), margin=MEASURED_MARGIN, size_px=48, out=shown, grey=colour == "grey")
        np.testing.assert_array_equal(pixels.reshape(shown.shape), shown)


def test_cut_faces_of_a_data_set_are_those_that_the_command_writes(tmp_path: Path) -> None:
    photos = photo_folders(tmp_path / "photos")
    cut_photographs([photos], out=tmp_path / "faces", every=False, min_px=24)
    written, read = read_dataset(str(tmp_path / "faces")), read_dataset(f"{photos}@cut=faces")
    np.testing.assert_array_equal(written.model_inputs(size_px=48), read.model_inputs(size_px=48))
    assert list(written.labels) == list(read.labels)
    assert [(drop.reason, drop.count) for drop in read.dropped] == [("no face found", 1)]
    assert read.sha256 != read_dataset(str(photos)).sha256


def test_the_largest_face_alone_has_the_photographs_label_unless_all_are_asked_for() -> None:
    wide = np.hstack([photograph("hopper"), photograph("coelho")])
    one, every = cut_faces(wide), cut_faces(wide, every=True)
    assert [face.state for face in every] == ["cut", "cut"]
    assert [face.state for face in one] == ["cut", "left out"]
    assert one[1].reason == "not the largest face of its picture"
    assert one[0].image.shape[0] >= one[1].image.shape[0]
    assert [face.reason for face in cut_faces(wide, min_px=290)] == ["a face lower than 290 px"] * 2


def test_a_cut_face_stays_whole() -> None:
    (face,) = cut_faces(photograph("hopper"))
    (again,) = cut_faces(cv2.resize(face.image, (200, 200)))
    (small,) = cut_faces(cv2.resize(face.image, (48, 48)))
    assert (again.state, small.state) == ("whole", "whole")
    assert again.image.shape[:2] == (200, 200)


def test_what_is_there_is_not_written_into_nor_read_as_photographs(tmp_path: Path) -> None:
    photos = photo_folders(tmp_path / "photos")
    with pytest.raises(UsageError, match="lies in"):
        cut_photographs([photos], out=photos / "faces", every=False, min_px=24)
    with pytest.raises(UsageError, match="not empty"):
        cut_photographs([photos], out=photos, every=False, min_px=24)
    with pytest.raises(DataError, match="no such file or folder"):
        cut_photographs([tmp_path / "none"], out=tmp_path / "faces", every=False, min_px=24)
    with pytest.raises(DataError, match="no face was cut"):
        cut_photographs([photos / "happy" / "wall.png"], out=tmp_path / "faces", every=False, min_px=24)
    with pytest.raises(UsageError, match="cut=eyes: not one of faces"):
        read_dataset(f"{photos}@cut=eyes")


def test_pictures_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(PORTRAITS / "hopper.jpg", tmp_path / folder / "one.jpg")
    cut_photographs([tmp_path / "a", tmp_path / "b"], out=tmp_path / "faces", every=False, min_px=24)
    assert len(list((tmp_path / "faces").glob("*.png"))) == 2


def test_95_of_100_faces_of_32_px_are_found(shared_data: Path) -> None:
    folder = shared_data / "faces_boxes"
    found = there = 0
    for picture in json.loads((folder / "boxes.json").read_text())["images"]:
        boxes = [face["xywh"] for face in picture["faces"] if min(face["xywh"][2:]) >= 32]
        there += len(boxes)
        faces = find_faces(read_picture(folder / "images" / picture["file"])).xywh.astype(np.float64)
        if boxes and len(faces):
            found += int((pairwise_iou(np.array(boxes, np.float64), faces).max(axis=1) >= 0.5).sum())
    assert there > 50
    assert found / there >= 0.95
