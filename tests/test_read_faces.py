"""The programming interface: faces of pictures and streams, from outside, with the real models."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras import NetworkCamera, encode, face_picture
from clips import free_faces, write_clip
from tools import ROOT

import edge
from edge import Event, FaceReader, MienError, read_faces, read_stream
from edge.contract.labels import LABELS
from edge.errors import BundleError, ConfigError, SourceError, UsageError


def run_example(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"edge.examples.{name}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("api") / "two.avi", seconds=1.5)


def test_importing_edge_loads_neither_opencv_nor_the_interpreter() -> None:
    code = "import edge, sys; print(sorted({'cv2', 'numpy', 'ai_edge_litert', 'msgspec'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    assert set(edge.__all__) <= set(dir(edge))
    assert all(getattr(edge, name).__doc__ for name in edge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'read_minds'"):
        edge.read_minds  # noqa: B018


def test_a_file_and_its_pixels_read_the_same() -> None:
    picture = free_faces()[0]
    (of_file,), (of_pixels,) = read_faces(picture), read_faces(cv2.imread(str(picture)))
    assert of_file.xywh == of_pixels.xywh
    assert of_file.scores == of_pixels.scores
    assert tuple(of_file.scores) == LABELS
    assert sum(of_file.scores.values()) == pytest.approx(1, abs=1e-3)
    assert of_file.landmarks.shape == (5, 2)


def test_pictures_stand_for_themselves_whatever_was_read_before() -> None:
    pictures = free_faces()[:3]
    with FaceReader() as reader:
        together = [reader.read(picture) for picture in (*pictures, *reversed(pictures))]
    assert [[face.scores for face in faces] for faces in together[:3]] == [
        [face.scores for face in faces] for faces in reversed(together[3:])
    ]


def test_a_grey_picture_is_read_as_its_three_equal_channels() -> None:
    grey = cv2.imread(str(free_faces()[1]), cv2.IMREAD_GRAYSCALE)
    spread = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    assert [face.scores for face in read_faces(grey)] == [face.scores for face in read_faces(spread)]


def test_a_face_that_the_edge_cuts_is_uncertain_and_a_whole_one_is_not() -> None:
    picture = cv2.imread(str(ROOT / "edge" / "capture" / "portraits" / "hopper.jpg"))
    (whole,) = read_faces(picture)
    assert whole.reason is None
    _, y, _, h = whole.xywh
    for share in (0.8, 0.7, 0.6, 0.5):
        (face,) = read_faces(picture[: round(y + share * h)])
        assert (face.emotion, face.reason) == ("uncertain", "cut_off")


def test_an_empty_scene_has_no_faces() -> None:
    assert read_faces(np.full((480, 640, 3), 90, np.uint8)) == []


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 (4, 4, 3)"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 (4, 4, 4)"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 (0, 4, 3)"),
        (np.zeros(9, np.uint8), "uint8 (9,)"),
    ],
)
def test_an_array_that_is_no_picture_is_refused_with_what_is_allowed(image: np.ndarray, problem: str) -> None:
    with pytest.raises(UsageError) as error:
        read_faces(image)
    assert problem in str(error.value)
    assert "uint8 (height, width, 3)" in str(error.value)


def test_a_file_that_is_missing_or_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    for name in ("nowhere.jpg", "notes.jpg"):
        with pytest.raises(SourceError, match=name):
            read_faces(tmp_path / name)


def test_a_kind_of_picture_that_cannot_be_read_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    with pytest.raises(SourceError, match="HEIC, which OpenCV does not read: save it as JPEG"):
        read_faces(tmp_path / "phone.jpg")


def test_of_a_folder_every_picture_stands_for_itself() -> None:
    """Not: nobody in any of them, because nobody is there for long enough."""
    steps = list(read_stream(free_faces()[0].parent))
    assert [len(step.faces or ()) for step in steps] == [1] * len(free_faces())
    assert [step.faces[0].emotion for step in steps if step.faces] == [
        read_faces(picture)[0].emotion for picture in free_faces()
    ]


def test_a_model_is_taken_by_name_and_by_folder(tmp_path: Path) -> None:
    picture = free_faces()[0]
    (by_name,) = read_faces(picture, model="emotion-nano")
    (by_folder,) = read_faces(picture, model=ROOT / "edge" / "models" / "emotion-nano")
    (by_default,) = read_faces(picture)
    assert by_name.scores == by_folder.scores != by_default.scores
    with pytest.raises(BundleError):
        read_faces(picture, model="emotion-nobody")


def test_a_closed_reader_says_so() -> None:
    reader = FaceReader()
    reader.close()
    reader.close()
    with pytest.raises(UsageError, match="is closed"):
        reader.read(free_faces()[0])


def test_several_threads_share_one_reader() -> None:
    pictures = free_faces()[:3]
    alone = [[face.scores for face in read_faces(picture)] for picture in pictures]
    seen: dict[int, list[Sequence[object]]] = {}

    def read(number: int) -> None:
        seen[number] = [[face.scores for face in read_faces(picture)] for picture in pictures for _ in range(3)]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert list(seen.values()) == [[scores for scores in alone for _ in range(3)]] * 4


def test_a_video_gives_every_frame_and_its_events_once(clip: Path) -> None:
    told: list[Event] = []
    steps = list(read_stream(clip, on_event=told.append))
    assert len(steps) == 22
    assert {step.camera for step in steps} == {"live"}
    assert len(steps[-1].faces or ()) == 2
    assert told == [event for step in steps for event in step.events]
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert [event.type for event in told][:2] == ["face_appeared", "face_appeared"]


def test_settings_and_a_configuration_apply(clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "mien.toml"
    file.write_text("[detect]\nmax_faces = 1\n")
    assert max(len(step.faces or ()) for step in read_stream(clip, config=file)) == 1
    with pytest.raises(ConfigError, match=r"smooth\.tau"):
        next(read_stream(clip, settings={"smooth.tau": 1}))
    with pytest.raises(SourceError, match="nowhere"):
        next(read_stream(tmp_path / "nowhere.avi"))


def test_a_lost_camera_is_told_as_unknown_not_as_nobody_and_is_waited_for() -> None:
    with closing(NetworkCamera([encode(face_picture(free_faces()[0]))])) as camera:
        steps = read_stream(camera.url, settings={"track.confirm_ms": 0, "camera.stale_after_ms": 500})
        with closing(steps):
            assert next(step for step in steps if step.faces).camera == "live"
            camera.unplug()
            lost = next(step for step in steps if step.camera == "lost")
            assert (lost.faces, lost.image, lost.age_ms) == (None, None, None)
            assert [(event.type, event.reason) for event in lost.events] == [("face_left", "camera_lost")]
            camera.plug_in()
            assert next(step for step in steps if step.faces).camera == "live"


def test_closing_the_iterator_closes_the_camera() -> None:
    with closing(NetworkCamera([encode(face_picture(free_faces()[0]))])) as camera:
        steps = read_stream(camera.url)
        next(step for step in steps if step.image is not None)
        steps.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "mien-camera"]


def test_example_picture() -> None:
    assert run_example("picture", str(free_faces()[0])).split()[0] in (*LABELS, "uncertain")


def test_example_stream(clip: Path) -> None:
    lines = run_example("stream", str(clip)).splitlines()
    assert len(lines) == 22
    assert lines[0].startswith("0.00 s [")


def test_example_events(clip: Path) -> None:
    assert run_example("events", str(clip)).splitlines()[0].startswith("#1 ")


def test_example_configured(clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "mien.toml"
    file.write_text("[detect]\nmax_faces = 1\n")
    assert run_example("configured", str(file), str(clip)) == "22 frames, 22 faces\n"


def test_example_model() -> None:
    output = run_example("model", str(free_faces()[0]), "emotion-ferplus", "emotion-nano")
    assert [line.split()[0] for line in output.splitlines()] == ["emotion-ferplus", "emotion-nano"]


def test_errors_are_one_kind() -> None:
    assert issubclass(SourceError, MienError)
    assert issubclass(ConfigError, MienError)


def test_the_reference_lists_the_names_that_stay_and_no_others() -> None:
    text = (ROOT / "edge" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Programming interface")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", section.split("| --- |", 1)[1], re.M)
    names = [name for row in rows for name in re.findall(r"`(\w+)", row)]
    assert sorted(names) == sorted(edge.__all__)


def test_the_five_lines_of_the_front_page_run(clip: Path, tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert block
    picture = tmp_path / "group.jpg"
    picture.write_bytes(free_faces()[0].read_bytes())
    program = block[1].replace('"0"', repr(str(clip)))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] in (*LABELS, "uncertain")
    assert any(line.startswith("Event(") for line in lines)
    assert any(line.startswith("live (Face(") for line in lines)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
