"""The audit finds what was planted: copies, near copies, mirrored ones, contradictions, constants, shared people."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenery import dataset_of, scenery

from convert.datasets import Dataset
from edge.errors import DataError
from training.data.audit import audit
from training.data.audit_page import audit_command, render_page
from training.data.duplicates import find_duplicates
from training.files import write_file


@pytest.fixture
def planted() -> Dataset:
    images = scenery(12)
    images[6] = images[0]  # test copy of a training picture
    images[7] = cv2.convertScaleAbs(images[1], alpha=0.8, beta=20)  # another contrast
    images[8] = images[2][:, ::-1]  # mirrored
    images[9] = images[3]
    images[9][42:46, 20:44] = images[9][42:46, 20:44] // 2 + 120  # a watermark
    images[4] = images[5]  # within the training split, labelled otherwise
    images[10] = 17
    return dataset_of(images, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 6, 6], ["train"] * 6 + ["test"] * 6)


def test_every_planted_copy_is_found_and_nothing_else(planted: Dataset) -> None:
    found = find_duplicates(planted.images)
    assert [(int(row), int(original)) for row, original in enumerate(found.original) if row != original] == [
        (5, 4),
        (6, 0),
    ]
    assert sorted(map(tuple, found.pairs.tolist())) == [(1, 7), (2, 8), (3, 9)]
    assert found.mirrored[[tuple(pair) == (2, 8) for pair in found.pairs.tolist()]].all()
    assert found.mirrored.sum() == 1
    assert found.cluster.tolist() == [0, 1, 2, 3, 4, 4, 0, 1, 2, 3, 10, 11]


def test_pictures_are_compared_across_sizes_and_colours() -> None:
    grey = scenery(3)
    images = (grey[0], cv2.cvtColor(cv2.resize(grey[0], (96, 96)), cv2.COLOR_GRAY2BGR), grey[1], grey[2])
    assert find_duplicates(images).cluster.tolist() == [0, 0, 2, 3]


def test_blocks_of_the_comparison_leave_no_pair_out(monkeypatch: pytest.MonkeyPatch) -> None:
    images = scenery(50)
    images[49], images[30] = images[3], cv2.convertScaleAbs(images[17], alpha=0.9)
    whole = find_duplicates(images)
    monkeypatch.setattr("training.data.duplicates._BLOCK", 7)
    assert np.array_equal(find_duplicates(images).cluster, whole.cluster)
    assert whole.cluster[49] == 3
    assert whole.cluster[30] == 17


def test_the_report_counts_what_was_planted(planted: Dataset) -> None:
    report = audit(planted).report
    assert report.counts["train"] == dict.fromkeys(("angry", "disgust", "fear", "happy", "sad", "surprise"), 1) | {
        "neutral": 0
    }
    assert report.identical_groups == 2
    assert report.identical_copies == 2
    assert report.near_pairs == 3
    leak = report.leaks[0]
    assert (leak.splits, leak.identical, leak.near) == (("train", "test"), 1, 4)
    assert report.contradictions == 1
    assert report.contradicting[0].labels == ("sad", "surprise")
    assert report.constant_ids == ["row10"]


def test_people_on_both_sides_of_a_split_are_named() -> None:
    dataset = dataset_of(scenery(4), [0, 1, 2, 3], ["train", "train", "test", "test"], ["A", "B", "B", "C"])
    report = audit(dataset).report
    assert report.subjects == 3
    assert report.subjects_across == [("train", "test", ["B"])]


def test_constant_pictures_are_not_counted_as_copies_of_each_other() -> None:
    images = scenery(4)
    images[1:3] = 0
    report = audit(dataset_of(images, [0, 1, 2, 3], ["train"] * 4)).report
    assert (report.constant, report.identical_copies, report.contradictions) == (2, 0, 0)


def test_clean_data_gives_a_page_that_says_so() -> None:
    text = render_page(audit(dataset_of(scenery(3), [0, 1, 2], ["train"] * 3)))
    assert "There is one split only." in text
    assert "None of happy, sad, surprise, neutral." in text


def test_the_page_stands_alone_and_the_json_is_versioned(planted: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "made.npz", images=planted.images, labels=planted.labels, split=planted.splits)
    audit_command([str(tmp_path / "made.npz")], out=tmp_path / "deep" / "page.html", json_file=tmp_path / "r.json")
    text = (tmp_path / "deep" / "page.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    assert text.count("<section>") == text.count("</section>") == 7
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["schema"] == "mien.data/1"
    assert report["leaks"][0] == {"splits": ["train", "test"], "identical": 1, "near": 4}


def test_names_from_the_data_cannot_break_the_page() -> None:
    dataset = dataset_of(scenery(2), [0, 1], ["train", "train"])
    dataset.ids[0] = '"<i>'
    text = render_page(audit(dataset))
    assert '"<i>' not in text
    assert "&quot;&lt;i&gt; angry" in text


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(DataError, match="cannot be written"):
        write_file(tmp_path / "file" / "page.html", b"new")
    write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.data
def test_the_copies_of_ckplus_are_frames_of_one_sequence(shared_data: Path) -> None:
    from convert.datasets import read_dataset

    dataset = read_dataset(f"{shared_data / 'ckplus48.npz'}@contempt=drop")
    pairs = find_duplicates(dataset.images).pairs
    assert len(pairs) > 100
    same_person = dataset.subjects[pairs[:, 0]] == dataset.subjects[pairs[:, 1]]
    assert same_person.mean() > 0.99
