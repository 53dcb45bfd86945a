"""Every form of data that people have on disk is read into the same record, and bad input ends in one clear line."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from convert.datasets import Dataset, DatasetSpec, hash_datasets, read_dataset, read_datasets
from convert.datasets.ferplus import COLUMNS, majority_labels, plurality_labels, vote_distributions
from edge.contract.crop import crop_face
from edge.contract.labels import LABELS
from edge.errors import DataError, MienError, UsageError

RNG = np.random.default_rng(11)
FACES = RNG.integers(0, 256, (6, 48, 48), dtype=np.uint8)
EMOTIONS = (0, 3, 6, 1, 3, 5)
USAGES = ("Training", "Training", "Training", "Training", "PublicTest", "PrivateTest")
VOTES = [
    [0, 0, 0, 0, 8, 2, 0, 0, 0, 0],  # angry
    [0, 9, 0, 0, 0, 0, 0, 0, 0, 1],  # happy; the single vote for not-a-face is an outlier
    [4, 0, 0, 4, 0, 0, 0, 2, 0, 0],  # no majority; neutral leads
    [0, 0, 0, 0, 2, 0, 0, 8, 0, 0],  # contempt
    [0] * 10,  # FER+ has no row for it
    [0, 0, 6, 0, 0, 0, 4, 0, 0, 0],  # surprise
]


def write_fer2013(folder: Path, *, header: str = "emotion,pixels,Usage", order: str = "epu") -> Path:
    rows = [header]
    for face, emotion, usage in zip(FACES, EMOTIONS, USAGES, strict=True):
        fields = {"e": str(emotion), "p": " ".join(map(str, face.ravel())), "u": usage}
        rows.append(",".join(fields[key] for key in order))
    path = folder / "fer2013.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def write_votes(folder: Path, votes: list[list[int]], usages: tuple[str, ...] = USAGES) -> Path:
    path = folder / "fer2013new.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Usage", "Image name", *COLUMNS])
        for row, (usage, counts) in enumerate(zip(usages, votes, strict=False)):
            writer.writerow([usage, f"fer{row:07d}.png", *counts])
    return path


def write_picture(path: Path, image: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def make_ckplus(folder: Path) -> Path:
    for name, label in (("S010_004_00000017", "angry"), ("S010_004_00000018", "angry"), ("S502_001_00000015", "sad")):
        write_picture(folder / label / f"{name}.png", FACES[0])
    write_picture(folder / "contempt" / "S138_008_00000007.png", FACES[1])
    return folder


def test_fer2013_csv_is_read_with_its_splits_in_our_order(tmp_path: Path) -> None:
    dataset = read_dataset(str(write_fer2013(tmp_path)))
    assert np.array_equal(dataset.images, FACES)
    assert dataset.labels.tolist() == list(EMOTIONS)
    assert dataset.splits.tolist() == ["train"] * 4 + ["public_test", "private_test"]
    assert dataset.ids[0] == "fer2013.csv:2"
    assert dataset.votes is None
    assert set(dataset.subjects) == {""}


def test_the_columns_of_the_csv_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path, header="emotion, Usage, pixels", order="eup")
    assert np.array_equal(read_dataset(str(path)).images, FACES)


def test_a_folder_with_fer2013_csv_is_recognised(tmp_path: Path) -> None:
    write_fer2013(tmp_path)
    assert len(read_dataset(str(tmp_path))) == 6


def test_ferplus_votes_beside_the_csv_are_read_row_for_row(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path)
    write_votes(tmp_path, VOTES)
    dataset = read_dataset(str(path))
    assert dataset.votes is not None
    assert dataset.votes[:4].tolist() == VOTES[:4]
    assert set(dataset.votes[4]) == {255}


def test_ferplus_labels_keep_pictures_with_a_majority_and_say_what_was_dropped(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path)
    write_votes(tmp_path, VOTES)
    dataset = read_dataset(f"{path}@labels=ferplus")
    assert [LABELS[label] for label in dataset.labels] == ["angry", "happy", "surprise"]
    assert dataset.ids.tolist() == ["fer2013.csv:2", "fer2013.csv:3", "fer2013.csv:7"]
    assert [(record.reason, record.count) for record in dataset.dropped] == [("no ferplus label among ours", 3)]


def test_ferplus_plurality_also_keeps_pictures_without_majority(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path)
    write_votes(tmp_path, VOTES)
    dataset = read_dataset(f"{path}@labels=ferplus_plurality")
    assert [LABELS[label] for label in dataset.labels] == ["angry", "happy", "neutral", "surprise"]
    assert np.allclose(dataset.soft_labels()[2], [0, 0, 0, 0, 0.5, 0, 0.5])


def test_the_majority_rule_ignores_single_votes_and_needs_more_than_half() -> None:
    votes = np.array([[5, 5, 0, 0, 0, 0, 0, 0, 0, 0], [6, 4, 0, 0, 0, 0, 0, 0, 0, 0], [1] * 10], np.uint8)
    assert majority_labels(votes).tolist() == [-1, LABELS.index("neutral"), -1]
    assert plurality_labels(votes).tolist() == [LABELS.index("neutral"), LABELS.index("neutral"), -1]


def test_vote_distributions_sum_to_one_or_zero() -> None:
    votes = np.array([VOTES[0], VOTES[3], [255] * 10, [0, 0, 0, 0, 0, 0, 0, 10, 0, 0]], np.uint8)
    shares = vote_distributions(votes)
    assert np.allclose(shares[0], [0.8, 0.2, 0, 0, 0, 0, 0])
    assert shares.sum(axis=1).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_soft_labels_without_votes_are_the_label_and_can_be_of_fewer_classes(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path)
    write_votes(tmp_path, [*VOTES[:3], [0] * 10, *VOTES[4:]])
    dataset = read_dataset(f"{path}@omit=disgust")
    six = tuple(label for label in LABELS if label != "disgust")
    targets = dataset.soft_labels(six)
    assert targets.shape == (5, 6)
    assert np.allclose(targets[0], [1, 0, 0, 0, 0, 0])  # 8 angry, 2 disgust: disgust's share is gone
    assert np.allclose(targets[3], np.eye(6)[six.index("happy")])  # no votes: its own label


def test_soft_labels_refuse_a_picture_whose_label_is_not_among_the_classes(tmp_path: Path) -> None:
    dataset = read_dataset(str(write_fer2013(tmp_path)))
    with pytest.raises(DataError, match="disgust is not one of angry, happy"):
        dataset.soft_labels(("angry", "happy", "surprise", "neutral"))


@pytest.mark.parametrize(
    ("folder_names", "prefixes"),
    [
        (("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"), True),
        (("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"), False),
    ],
)
def test_both_namings_of_the_kaggle_folder_copies_are_read(
    tmp_path: Path, folder_names: tuple[str, ...], prefixes: bool
) -> None:
    for number, name in enumerate(folder_names):
        train, test = (f"Training_{number}", f"PrivateTest_{number}") if prefixes else (f"im{number}", f"im{number}")
        write_picture(tmp_path / "train" / name / f"{train}.png", FACES[number % 6])
        write_picture(tmp_path / "test" / name / f"{test}.jpg", FACES[number % 6])
    dataset = read_dataset(str(tmp_path))
    assert dataset.label_counts().tolist() == [2] * 7
    assert set(dataset.splits) == {"train", "private_test" if prefixes else "test"}
    first = dataset.in_splits("train").select(np.array([0]))
    assert first.ids.tolist() == [f"train/angry/{'Training_0' if prefixes else 'im0'}.png"]
    assert np.array_equal(first.images[0], FACES[0])


def test_asking_for_test_means_the_public_and_the_private_test_of_fer2013(tmp_path: Path) -> None:
    path = write_fer2013(tmp_path)
    assert len(read_dataset(f"{path}@split=test")) == 2
    assert len(read_dataset(f"{path}@split=PublicTest")) == 1
    assert len(read_dataset(f"{path}@split=train+private_test")) == 5


def test_ckplus_gives_subject_and_sequence_out_of_the_names(tmp_path: Path) -> None:
    dataset = read_dataset(f"{make_ckplus(tmp_path / 'CK+48')}@contempt=drop")
    assert dataset.subjects.tolist() == ["ckplus/S010", "ckplus/S010", "ckplus/S502"]
    assert dataset.sequences.tolist() == ["ckplus/S010_004", "ckplus/S010_004", "ckplus/S502_001"]
    assert [(record.reason, record.count) for record in dataset.dropped] == [("class contempt dropped", 1)]


def test_contempt_is_never_dropped_silently(tmp_path: Path) -> None:
    folder = make_ckplus(tmp_path)
    with pytest.raises(DataError, match=r"'contempt'.*contempt=drop or contempt=LABEL"):
        read_dataset(str(folder))
    assert LABELS[read_dataset(f"{folder}@contempt=disgust").labels[2]] == "disgust"


def test_jaffe_gives_subject_and_emotion_out_of_the_names(tmp_path: Path) -> None:
    face = RNG.integers(0, 256, (256, 256), dtype=np.uint8)
    for name in ("KA.AN1.39.tiff", "KA.NE2.27.tiff", "YM.SU3.60.tiff"):
        write_picture(tmp_path / name, face)
    dataset = read_dataset(str(tmp_path))
    assert [LABELS[label] for label in dataset.labels] == ["angry", "neutral", "surprise"]
    assert dataset.subjects.tolist() == ["jaffe/KA", "jaffe/KA", "jaffe/YM"]
    assert np.array_equal(dataset.images[0], face)


def test_numbered_class_folders_are_read_when_each_number_is_mapped(tmp_path: Path) -> None:
    for number in ("1", "2", "3"):
        write_picture(tmp_path / "train" / number / "x.png", FACES[int(number)])
    with pytest.raises(DataError, match="class '1', '2', '3': not one of"):
        read_dataset(str(tmp_path))
    dataset = read_dataset(f"folders:{tmp_path}@1=surprise,2=Happiness,3=drop")
    assert [LABELS[label] for label in dataset.labels] == ["surprise", "happy"]


def test_pictures_of_different_sizes_and_colours_become_one_array_of_model_inputs(tmp_path: Path) -> None:
    colour = np.zeros((60, 90, 3), np.uint8)
    colour[:, 15:75] = (255, 0, 0)  # blue in the centred square
    write_picture(tmp_path / "happy" / "a.png", FACES[0])
    write_picture(tmp_path / "sad" / "b.png", colour)
    dataset = read_dataset(str(tmp_path))
    assert isinstance(dataset.images, tuple)
    grey, rgb = dataset.model_inputs(size_px=48), dataset.model_inputs(size_px=32, colour="rgb")
    assert np.array_equal(grey[0, :, :, 0], FACES[0])
    assert np.all(grey[1] == 29)  # ITU-R BT.601 luma of pure blue
    assert rgb.shape == (2, 32, 32, 3)
    assert rgb[1, 5, 5].tolist() == [0, 0, 255]
    assert dataset.model_inputs(size_px=32, colour="bgr")[1, 5, 5].tolist() == [255, 0, 0]


def test_model_inputs_are_what_the_device_makes_of_the_same_crop() -> None:
    frame = RNG.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    on_device = np.empty((48, 48), np.uint8)
    crop_face(frame, (0.0, 0.0, 100.0, 100.0), margin=1.0, size_px=48, out=on_device, grey=True)
    empty, one = np.array([""]), np.array(["one"])
    dataset = Dataset("made", frame[np.newaxis], np.array([3]), one, empty, empty, one, one, None, "")
    assert np.array_equal(dataset.model_inputs(size_px=48)[0, :, :, 0], on_device)


def test_arrays_are_read_with_and_without_class_names(tmp_path: Path) -> None:
    usage = np.array([0, 0, 0, 0, 1, 2], np.uint8)
    np.savez(tmp_path / "a.npz", images=FACES, labels=np.array(EMOTIONS, np.uint8), usage=usage)
    np.savez(tmp_path / "b.npz", images=FACES[..., None], labels=np.array([0, 1, 0, 1, 0, 1]), classes=["sad", "Anger"])
    plain, named = read_dataset(str(tmp_path / "a.npz")), read_dataset(str(tmp_path / "b.npz"))
    assert plain.labels.tolist() == list(EMOTIONS)
    assert plain.splits.tolist() == ["train"] * 4 + ["public_test", "private_test"]
    assert [LABELS[label] for label in named.labels] == ["sad", "angry"] * 3
    assert np.array_equal(named.images, FACES)
    assert set(named.splits) == {"unsplit"}


def test_mosaics_are_cut_into_their_tiles_in_order(tmp_path: Path) -> None:
    tiles = RNG.integers(0, 256, (576, 48, 48), dtype=np.uint8)
    mosaic = tiles.reshape(24, 24, 48, 48).swapaxes(1, 2).reshape(1152, 1152)
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    encoded = cv2.imencode(".webp", cv2.cvtColor(mosaic, cv2.COLOR_GRAY2BGR), lossless)[1].ravel()
    np.savez(
        tmp_path / "m.npz",
        mosaics_webp=encoded,
        offsets=np.array([0, len(encoded)]),
        count=570,
        labels=np.zeros(570, np.uint8),
    )
    dataset = read_dataset(str(tmp_path / "m.npz"))
    assert np.array_equal(dataset.images, tiles[:570])


def test_a_mix_of_forms_is_one_data_set_and_its_subjects_stay_apart(tmp_path: Path) -> None:
    write_fer2013(tmp_path)
    write_votes(tmp_path, VOTES)
    mixed = read_datasets([str(tmp_path / "fer2013.csv"), f"{make_ckplus(tmp_path / 'ck')}@contempt=drop"])
    assert len(mixed) == 9
    assert mixed.sources.tolist() == ["fer2013"] * 6 + ["ck"] * 3
    assert mixed.subjects[6] == "ckplus/S010"
    assert mixed.votes is not None
    assert set(mixed.votes[8]) == {255}
    assert np.allclose(mixed.soft_labels()[8], np.eye(7)[LABELS.index("sad")])


def test_two_parts_of_one_file_are_decoded_once(tmp_path: Path) -> None:
    path, held = write_fer2013(tmp_path), {}
    first = read_datasets([f"{path}@split=train"], held=held)
    path.write_text(path.read_text().replace("PublicTest", "Training"))
    second = read_datasets([f"{path}@split=public_test"], held=held)
    assert len(held) == 1
    assert set(first.splits) == {"train"}
    assert set(second.splits) == {"public_test"}


def test_the_hash_follows_content_and_wishes_but_not_the_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        write_fer2013(folder)
    base = hash_datasets([str(first / "fer2013.csv")])
    assert base == read_dataset(str(first / "fer2013.csv")).sha256 == hash_datasets([str(second / "fer2013.csv")])
    assert base != hash_datasets([f"{first / 'fer2013.csv'}@split=train"])
    text = (second / "fer2013.csv").read_text()
    (second / "fer2013.csv").write_text(text.replace("PublicTest", "PrivateTest"))
    assert base != hash_datasets([str(second / "fer2013.csv")])
    both = [str(first / "fer2013.csv"), str(second / "fer2013.csv")]
    assert hash_datasets(both) == read_datasets(both).sha256


def edit_fer2013(old: str, new: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        path = write_fer2013(folder)
        path.write_text(path.read_text().replace(old, new, 1))
        return str(path)

    return make


def broken_picture(folder: Path) -> str:
    write_picture(folder / "happy" / "a.png", FACES[0])
    (folder / "happy" / "b.png").write_bytes((folder / "happy" / "a.png").read_bytes()[:20])
    return str(folder)


def empty_picture(folder: Path) -> str:
    (folder / "happy").mkdir()
    (folder / "happy" / "b.png").touch()
    return str(folder)


def loose_picture(folder: Path) -> str:
    write_picture(folder / "happy" / "a.png", FACES[0])
    write_picture(folder / "a.png", FACES[0])
    return str(folder)


def savez(**arrays: Any) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        np.savez(folder / "x.npz", **arrays)
        return str(folder / "x.npz")

    return make


def no_zip(folder: Path) -> str:
    (folder / "x.npz").write_bytes(b"PK\x03\x04 not really")
    return str(folder / "x.npz")


def votes_too_short(folder: Path) -> str:
    write_votes(folder, VOTES[:5])
    return str(write_fer2013(folder))


def votes_of_other_rows(folder: Path) -> str:
    write_votes(folder, VOTES, ("Training", "PublicTest", *USAGES[2:]))
    return str(write_fer2013(folder))


PIXELS = " ".join(map(str, FACES[0].ravel()))
AFTER_FIRST = PIXELS[PIXELS.index(" ") :]
SIX = np.zeros(6, np.int64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (edit_fer2013("\n0,", "\n9,"), "line 2: emotion: '9' is not in 0..6"),
        (edit_fer2013("PublicTest", "Publictest2"), "line 6: Usage: 'Publictest2' is not"),
        (edit_fer2013(PIXELS, PIXELS + " 7"), "line 2: pixels: 2305 values; wanted 2304"),
        (edit_fer2013(PIXELS, "256" + AFTER_FIRST), "line 2: pixels: value 1 is '256', not in 0..255"),
        (edit_fer2013(PIXELS, "x" + AFTER_FIRST), "line 2: pixels: value 1 is 'x', not in 0..255"),
        (edit_fer2013(",Training", ""), "line 2: 2 fields; the header has 3"),
        (edit_fer2013("emotion,", "feeling,"), "no column 'emotion'|not recognised"),
        (broken_picture, "b.png: 20 bytes that are no picture"),
        (empty_picture, "b.png: 0 bytes that are no picture"),
        (loose_picture, "a.png: lies in no class folder"),
        (no_zip, "no readable .npz"),
        (savez(images=FACES), "no array 'labels'"),
        (savez(labels=np.zeros(3)), "no array 'images'"),
        (savez(images=FACES.astype(np.float32), labels=SIX), "images: float32 .* wanted uint8"),
        (savez(images=FACES, labels=SIX[:5]), r"labels: \(5,\) does not fit 6 images"),
        (savez(images=FACES, labels=np.array([0, 1, 2, 3, 4, 7])), r"labels\[5\]: 7 is not in 0..6"),
        (savez(images=FACES, labels=SIX, usage=SIX + 3), r"usage\[0\]: 3 is not in 0..2"),
        (savez(images=FACES, labels=SIX, split=["x"] * 6), r"split\[0\]: 'x' is not one of"),
        (votes_too_short, "5 rows; fer2013.csv has 6"),
        (votes_of_other_rows, "line 3: Usage: 'PublicTest', but fer2013.csv has train"),
        (lambda folder: str(folder / "nothing"), "nothing: no such file or folder"),
        (lambda folder: str(folder), "not recognised"),
        (lambda folder: f"folders:{folder}", "no picture in any folder"),
        (lambda folder: f"{write_fer2013(folder)}@labels=ferplus", "no FER\\+ votes"),
        (lambda folder: f"{write_fer2013(folder)}@split=validation", "no picture left of 6 in .*split=validation"),
        (lambda folder: f"{make_ckplus(folder)}@contemp=drop", "contemp=drop: no such class; there are angry"),
        (lambda folder: f"{make_ckplus(folder)}@contempt=bored", "'bored' is neither 'drop' nor one of"),
        (lambda folder: f"{write_fer2013(folder)}@split=first", "split=first: not one of"),
        (lambda folder: f"{write_fer2013(folder)}@labels=mine", "labels=mine: not one of"),
        (lambda folder: f"{write_fer2013(folder)}@omit=bored", "omit=bored: not one of"),
        (lambda folder: f"{write_fer2013(folder)}@omit=sad,omit=fear", "omit is given twice"),
        (lambda folder: f"movies:{write_fer2013(folder)}", "'movies' is unknown; there are"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file_and_what_is_allowed(
    tmp_path: Path, make: Callable[[Path], str], message: str
) -> None:
    with pytest.raises(MienError, match=message) as caught:
        read_dataset(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DataError | UsageError)


def test_a_path_that_looks_like_options_is_taken_as_it_stands_when_it_exists(tmp_path: Path) -> None:
    odd = tmp_path / "faces@split=x"
    write_picture(odd / "happy" / "a.png", FACES[0])
    assert DatasetSpec.parse(str(odd)).path == odd
    assert len(read_dataset(str(odd))) == 1


def test_the_readers_need_neither_tensorflow_nor_keras() -> None:
    code = "import sys, convert.datasets.reading as r; [r._load_reader(k) for k in r.READERS]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "PIL", "matplotlib"} & set(loaded)


@pytest.fixture(scope="session")
def unpacked(shared_data: Path) -> Any:
    """The tool that wrote the shared data in the forms people have."""
    pytest.importorskip("PIL", reason="pip install pillow")
    spec = importlib.util.spec_from_file_location("unpack_data", shared_data.parent / "tools" / "unpack_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.data
def test_the_real_fer2013_and_its_ferplus_majorities_agree_with_the_reference(shared_data: Path, unpacked: Any) -> None:
    reference = unpacked.read_fer2013()
    dataset = read_dataset(str(shared_data / "fer2013.npz"))
    assert np.array_equal(dataset.images, reference["images"])
    assert np.array_equal(dataset.labels, reference["labels"])
    assert dataset.votes is not None
    assert np.array_equal(majority_labels(dataset.votes), unpacked.ferplus_majority(reference["ferplus_votes"]))
    assert len(read_dataset(f"{shared_data / 'fer2013.npz'}@labels=ferplus,split=public_test")) == 3186


@pytest.mark.data
def test_the_written_forms_of_real_data_give_the_same_pictures_and_labels(
    shared_data: Path, unpacked: Any, tmp_path: Path
) -> None:
    whole = unpacked.read_fer2013()
    rows = np.r_[0:400, 28709:28909]
    few = {key: value[rows] if len(value) == len(whole["labels"]) else value for key, value in whole.items()}
    unpacked.write_csv(few, tmp_path)
    unpacked.write_folders(few, tmp_path)
    unpacked.write_ckplus(tmp_path)
    table = read_dataset(f"{tmp_path / 'fer2013.csv'}")
    folders = read_dataset(f"{tmp_path / 'fer2013_folders'}")
    assert np.array_equal(table.images, few["images"])
    order = np.argsort([int(name.rsplit("_")[-1].removesuffix(".png")) for name in folders.ids])
    assert np.array_equal(np.asarray(folders.images)[order], few["images"])
    assert np.array_equal(folders.labels[order], few["labels"])
    assert np.array_equal(folders.splits[order], table.splits)
    ckplus = read_dataset(f"{tmp_path / 'CK+48'}@contempt=drop")
    packed = read_dataset(f"{shared_data / 'ckplus48.npz'}@contempt=drop")
    assert sorted(zip(ckplus.sequences, ckplus.labels, strict=True)) == sorted(
        (f"ckplus/{sequence.split('/')[1]}", label)
        for sequence, label in zip(packed.sequences, packed.labels, strict=True)
    )
