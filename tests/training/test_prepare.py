"""Prepared data: nothing is on two sides of a split, everything dropped is accounted for, work is done once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("msgspec")

from scenery import dataset_of, scenery

from convert.datasets import Dataset, read_dataset
from edge.errors import MienError
from training.data.duplicates import find_duplicates
from training.data.prepare import Options, clean_and_split, prepare


def write_arrays(folder: Path, **extra: Any) -> str:
    """60 pictures of three labels: 48 to train on, 12 to test on; three copies, one near copy, one constant."""
    images = scenery(60)
    images[0], images[1] = images[50], images[51]  # training pictures that are also test pictures
    images[2] = cv2.convertScaleAbs(images[52], alpha=0.8, beta=20)
    images[3] = 9
    images[4] = images[5]
    usage = np.repeat([0, 1], [48, 12]).astype(np.uint8)
    np.savez(folder / "faces.npz", images=images, labels=np.arange(60) % 3, usage=usage, **extra)
    return str(folder / "faces.npz")


def splits_of(dataset: Dataset, values: Any) -> dict[Any, set[str]]:
    found: dict[Any, set[str]] = {}
    for value, split in zip(values, dataset.splits, strict=True):
        found.setdefault(value, set()).add(str(split))
    return found


def test_what_leaks_is_dropped_and_accounted_for(tmp_path: Path) -> None:
    prepared = prepare([write_arrays(tmp_path)], cache=tmp_path / "cache")
    assert {reason: count for _, reason, count in prepared.report.dropped} == {
        "shows nothing: all pixels equal": 1,
        "pixel-identical to a held-out picture": 2,
        "the same photograph as a held-out picture": 1,
    }
    dataset = read_dataset(str(prepared.path))
    assert len(dataset) == 56
    assert {split: len(dataset.in_splits(split)) for split in set(dataset.splits)} == {
        "train": 39, "validation": 5, "public_test": 12,
    }  # fmt: skip
    clusters = find_duplicates(dataset.images).cluster
    assert all(len(splits) == 1 for splits in splits_of(dataset, clusters.tolist()).values())
    assert sum(sum(labels.values()) for labels in prepared.report.counts.values()) == 56


def test_held_out_pictures_are_left_as_they_are(tmp_path: Path) -> None:
    spec = write_arrays(tmp_path)
    before = read_dataset(f"{spec}@split=public_test")
    after = read_dataset(f"{prepare([spec], cache=tmp_path).path}@split=public_test")
    assert np.array_equal(before.images, after.images)
    assert np.array_equal(before.labels, after.labels)
    assert after.ids.tolist() == [f"faces/{name}" for name in before.ids]


def test_people_and_copies_stay_on_one_side_and_labels_are_spread() -> None:
    images = scenery(120)
    people = [f"S{i // 6}" for i in range(120)]
    images[7] = images[90]  # binds S1 and S15 together
    dataset = dataset_of(images, [i % 3 for i in range(120)], ["unsplit"] * 120, people)
    done = clean_and_split(dataset, Options(validation=0.2, test=0.2))
    assert len(done) == 120
    by_person = splits_of(done, done.subjects.tolist())
    assert all(len(splits) == 1 for splits in by_person.values())
    assert by_person["S1"] == by_person["S15"]
    for split in ("validation", "test"):
        assert done.in_splits(split).label_counts()[:3].tolist() == pytest.approx([8, 8, 8], abs=2)


def test_people_of_the_test_split_are_not_trained_on() -> None:
    people = ["A"] * 10 + ["B"] * 10 + ["C"] * 10
    splits = ["train"] * 25 + ["test"] * 5
    done = clean_and_split(dataset_of(scenery(30), [0, 1] * 15, splits, people), Options(validation=0.5))
    assert set(done.subjects[done.splits == "test"]) == {"C"}
    assert "C" not in set(done.subjects[done.splits != "test"])
    assert [(drop.reason, drop.count) for drop in done.dropped] == [("shows a person who is held out", 5)]


def test_a_validation_split_that_the_data_name_is_kept() -> None:
    splits = ["train"] * 20 + ["validation"] * 10
    done = clean_and_split(dataset_of(scenery(30), [0, 1] * 15, splits), Options())
    assert (done.splits == "validation").sum() == 10
    assert (done.splits == "train").sum() == 20


def test_preparing_is_done_once_and_again_when_anything_differs(tmp_path: Path) -> None:
    spec = write_arrays(tmp_path)
    first = prepare([spec], cache=tmp_path / "cache")
    again = prepare([spec], cache=tmp_path / "cache")
    assert (first.reused, again.reused) == (False, True)
    assert first.path == again.path
    assert first.report == again.report
    assert prepare([spec], options=Options(seed=1), cache=tmp_path / "cache").path != first.path
    assert prepare([f"{spec}@omit=fear"], cache=tmp_path / "cache").path != first.path


def test_the_same_input_gives_the_same_bytes_and_half_a_result_is_none(tmp_path: Path) -> None:
    spec = write_arrays(tmp_path)
    first = prepare([spec], cache=tmp_path / "a")
    content = first.path.read_bytes()
    first.path.unlink()  # what is left when the disk filled before the pictures were written
    again = prepare([spec], cache=tmp_path / "a")
    assert not again.reused
    assert again.path.read_bytes() == content


def test_votes_subjects_and_colours_survive(tmp_path: Path) -> None:
    votes = np.tile(np.array([0, 0, 0, 0, 7, 3, 0, 0, 0, 0], np.uint8), (60, 1))
    subject = np.array([f"P{i % 10}" if i < 48 else f"Q{i}" for i in range(60)])
    spec = write_arrays(tmp_path, ferplus_votes=votes, subject=subject)
    dataset = read_dataset(str(prepare([spec], options=Options(size_px=32, colour="bgr"), cache=tmp_path).path))
    assert dataset.images.shape == (56, 32, 32, 3)  # type: ignore[union-attr]
    assert np.allclose(dataset.soft_labels()[0], [0.7, 0.3, 0, 0, 0, 0, 0])
    assert "arrays/arrays/P1" in set(dataset.subjects)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(validation=0.0), "validation 0 and test 0"),
        (Options(validation=0.3, test=0.3), "leave half of the pictures"),
    ],
)
def test_shares_that_make_no_sense_are_refused(tmp_path: Path, options: Options, message: str) -> None:
    with pytest.raises(MienError, match=message):
        prepare([write_arrays(tmp_path)], options=options, cache=tmp_path)


def test_pictures_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    for number, face in enumerate(scenery(24)):
        folder = tmp_path / "faces" / ("happy", "sad")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(face, None, fx=1 + number % 2, fy=1 + number % 2))
    spec = str(tmp_path / "faces")
    with pytest.raises(MienError, match=r"pictures of 48x48, 96x96; .* --size 48"):
        prepare([spec], cache=tmp_path)
    prepared = prepare([spec], options=Options(size_px=48), cache=tmp_path)
    assert read_dataset(str(prepared.path)).images.shape == (24, 48, 48)  # type: ignore[union-attr]


def test_data_without_training_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="no picture to train on is left"):
        prepare([f"{write_arrays(tmp_path)}@split=public_test"], cache=tmp_path)
