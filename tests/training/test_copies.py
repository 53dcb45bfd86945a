"""Which test pictures are training pictures, and the list of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from convert.datasets import Dataset, read_dataset
from edge.errors import DataError
from training.data.copies import encode_copies, find_copies, read_copies


def faces(images: list[np.ndarray], folder: Path) -> Dataset:
    for row, image in enumerate(images):
        (folder / "happy").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "happy" / f"{row:03d}.png"), image)
    return read_dataset(str(folder))


def blobs(count: int, *, seed: int) -> list[np.ndarray]:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6), dtype=np.uint8)
    return [cv2.resize(each, (48, 48), interpolation=cv2.INTER_CUBIC) for each in coarse]


def test_identical_brighter_and_mirrored_training_pictures_are_copies_and_others_are_not(tmp_path: Path) -> None:
    trained = blobs(5, seed=1)
    brighter = np.clip(trained[1] * 0.6 + 60, 0, 255).astype(np.uint8)
    shown = [*blobs(2, seed=2), trained[0], brighter, np.ascontiguousarray(trained[2][:, ::-1]), trained[0]]
    tests = faces(shown, tmp_path / "tests")
    copied = find_copies(tests, faces(trained, tmp_path / "trained"))
    assert copied.tolist() == [False, False, True, True, True, True]


def test_copies_among_the_test_pictures_themselves_are_none(tmp_path: Path) -> None:
    shown = blobs(2, seed=2)
    tests = faces([*shown, shown[0]], tmp_path / "tests")
    assert not find_copies(tests, faces(blobs(3, seed=1), tmp_path / "trained")).any()


def test_a_list_finds_its_pictures_again_in_another_order_and_holds_no_pixels(tmp_path: Path) -> None:
    tests = faces(blobs(4, seed=3), tmp_path / "tests")
    file = tmp_path / "copies.txt"
    file.write_bytes(encode_copies(tests, np.array([True, False, False, True])))
    turned = tests.select(np.array([3, 2, 1, 0]))
    assert read_copies(file, turned)[0].tolist() == [True, False, False, True]
    assert len(file.read_bytes()) == 2 * 65


@pytest.mark.parametrize("content", [b"happy\n", b"\xff\xfe", b"0" * 63 + b"\n"])
def test_a_file_that_is_no_such_list_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    tests = faces(blobs(1, seed=3), tmp_path / "tests")
    (tmp_path / "copies.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"copies\.txt.*SHA-256"):
        read_copies(tmp_path / "copies.txt", tests)
