"""Every bad input: one clear line, the documented exit code, no half bundle left behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from workshop import LABELS, Outcome, Workshop

from edge.contract.bundle import load_emotion_bundle

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow", reason="needs the convert extra: pip install 'mien[convert]'")

from small_networks import SIZE_PX, make_network, save_faces  # noqa: E402

Run = Callable[..., Outcome]


def replaced(arguments: list[str], flag: str, value: str | None) -> list[str]:
    """The command line with another value of a flag, or without it."""
    at = arguments.index(flag)
    return arguments[:at] + ([flag, value] if value is not None else []) + arguments[at + 2 :]


def assert_refused(said: Outcome, code: int, *parts: str, out: Path) -> None:
    errors = [line for line in said.err.splitlines() if line.startswith("mien-convert: error: ")]
    assert said.code == code, said.err
    assert len(errors) == 1
    assert "Traceback" not in said.err
    for part in parts:
        assert part in errors[0]
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")]


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--labels", None, "--labels is missing"),
        ("--labels", "angry,happy,angry", "angry stands twice"),
        ("--labels", "/no/such/labels.txt", "--labels: /no/such/labels.txt"),
        ("--crop", None, "--crop is missing"),
        ("--crop", "round", "none, square[:MARGIN] or a JSON file"),
        ("--crop", "square:nine", "--crop: 'nine' is not a number"),
        ("--crop", "square:9", "--crop: 9 is not above 0 and up to 4"),
        ("--version", None, "--version is missing"),
        ("--version", "new", "--version: 'new' is not three numbers"),
        ("--licence", None, "--licence is missing"),
    ],
)
def test_what_the_manifest_demands_and_is_not_said_names_its_flag(
    workshop: Workshop, mien_convert: Run, tmp_path: Path, flag: str, value: str | None, message: str
) -> None:
    out = tmp_path / "out"
    assert_refused(mien_convert(*replaced(workshop.arguments(out), flag, value)), 2, message, out=out)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--scheme", "int4"), "--scheme: 'int4' is not one of int8, int16x8, float16, dynamic"),
        (("--scheme", "float16", "--io", "int8"), "--io: 'int8' is not one of float32, which --scheme float16"),
        (("--mean", "127"), "--mean without --scale"),
        (("--scale", "one"), "--scale: 'one' is not a number"),
        (("--scale", "1/0"), "--scale: '1/0' is not a number"),
        (("--color", "rgb"), "--color: rgb, but the model takes one channel"),
        (("--head", "tail"), "--head: 'tail' is not one of auto, logits, softmax"),
        (("--name", "My Model"), "--name: 'My Model'"),
    ],
)
def test_options_that_contradict_are_usage_errors(
    workshop: Workshop, mien_convert: Run, tmp_path: Path, extra: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    assert_refused(mien_convert(*workshop.arguments(out), *extra), 2, message, out=out)


def test_where_the_weights_come_from_is_a_commit_or_unknown(
    workshop: Workshop, mien_convert: Run, tmp_path: Path
) -> None:
    out, origin = tmp_path / "out", tmp_path / "origin.json"
    arguments = workshop.arguments(out)
    assert_refused(mien_convert(*arguments, "--git", "latest"), 2, "--git: 'latest' is not a commit", out=out)
    origin.write_text('{"git": "unreleased", "recipe": "mine", "datasets": []}')
    said = mien_convert(*arguments, "--trained-from", origin)
    assert_refused(said, 2, "origin.json: git: 'unreleased' is not a commit", out=out)
    said = mien_convert(*arguments, "--trained-from", tmp_path / "none.json")
    assert_refused(said, 2, "--trained-from", "none.json", out=out)
    origin.write_text('{"git": "unknown"}')
    assert_refused(mien_convert(*arguments, "--trained-from", origin), 2, "recipe", out=out)
    origin.write_text('{"git": "unknown", "recipe": "mine", "datasets": [{"name": "faces", "count": 9}]}')
    said = mien_convert(*arguments, "--trained-from", origin, "--git", "0123456789abcdef" * 2 + "01234567-dirty")
    assert said.code == 0, said.err
    found = load_emotion_bundle(out).manifest.trained_from
    assert (found.git[-6:], found.recipe, found.datasets[0].count) == ("-dirty", "mine", 9)


def test_a_missing_model_and_a_file_that_is_none(workshop: Workshop, mien_convert: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = workshop.arguments(out, model=tmp_path / "nothing.keras")
    assert_refused(mien_convert(*arguments), 78, "nothing.keras: no such file", out=out)
    for name in ("noise.keras", "noise.h5", "noise.tflite", "noise.onnx", "noise.txt"):
        (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(4000))
        assert_refused(mien_convert(*workshop.arguments(out, model=tmp_path / name)), 78, name, out=out)
    (tmp_path / "folder").mkdir()
    arguments = workshop.arguments(out, model=tmp_path / "folder")
    assert_refused(mien_convert(*arguments), 78, "a folder without saved_model.pb", out=out)


def test_a_truncated_or_garbled_tflite_never_crashes_this_process(
    workshop: Workshop, mien_convert: Run, small_bundle: Path, tmp_path: Path
) -> None:
    whole = (small_bundle / "model.tflite").read_bytes()
    garbled = bytearray(whole)
    for at in np.random.default_rng(2).integers(8, len(whole), 400):
        garbled[at] ^= 0xFF
    damaged = {"empty": b"", "head": whole[:16], "half": whole[: len(whole) // 2], "garbled": bytes(garbled)}
    for name, content in damaged.items():
        (tmp_path / f"{name}.tflite").write_bytes(content)
        said = mien_convert("inspect", tmp_path / f"{name}.tflite")
        assert said.code == 78, (name, said.err)
        assert f"{name}.tflite" in said.err


def test_a_quantized_tflite_is_not_quantized_again(
    workshop: Workshop, mien_convert: Run, small_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = workshop.arguments(out, model=small_bundle / "model.tflite")
    assert_refused(mien_convert(*arguments), 78, "int8; the float model is needed", out=out)


def test_models_of_another_form_are_refused(workshop: Workshop, mien_convert: Run, tmp_path: Path) -> None:
    import keras

    def refuse(model: object, *parts: str) -> None:
        out, path = tmp_path / "out", tmp_path / "other.keras"
        model.save(path)  # type: ignore[attr-defined]
        assert_refused(mien_convert(*workshop.arguments(out, model=path), "--scale", "1"), 78, *parts, out=out)

    first, second = keras.Input((SIZE_PX, SIZE_PX, 1)), keras.Input((SIZE_PX, SIZE_PX, 1))
    rows = keras.layers.Dense(7)(keras.layers.Flatten()(keras.layers.Add()([first, second])))
    refuse(keras.Model([first, second], rows), "2 inputs and 1 outputs")
    wide = keras.Input((SIZE_PX, 2 * SIZE_PX, 1))
    refuse(keras.Model(wide, keras.layers.Dense(7)(keras.layers.Flatten()(wide))), "a face crop is square")
    refuse(keras.Model(first, keras.layers.Conv2D(7, 3)(first)), "wanted (1, classes)")
    vector = keras.Input((64,))
    refuse(keras.Model(vector, keras.layers.Dense(7)(vector)), "wanted (batch, height, width, 1 or 3)")


def test_labels_that_do_not_match_the_outputs(workshop: Workshop, mien_convert: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = replaced(workshop.arguments(out), "--labels", LABELS + ",contempt")
    assert_refused(mien_convert(*arguments), 78, "8 labels", "but 7 outputs", out=out)


def test_nan_in_the_weights_is_found_before_anything_is_quantized(
    workshop: Workshop, mien_convert: Run, tmp_path: Path
) -> None:
    network = make_network()
    kernel, bias = network.get_layer("second").get_weights()
    kernel[1, 1, 2, 3] = np.nan
    network.get_layer("second").set_weights([kernel, bias])
    network.save(tmp_path / "nan.keras")
    out = tmp_path / "out"
    said = mien_convert(*workshop.arguments(out, model=tmp_path / "nan.keras"))
    assert_refused(said, 78, "1 of 1152 weights are NaN or infinite", out=out)


def test_data_that_cannot_calibrate(workshop: Workshop, mien_convert: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = workshop.arguments(out)
    save_faces(tmp_path / "no_fear.npz", 140, seed=61, without="fear")
    said = mien_convert(*replaced(arguments, "--calibrate", str(tmp_path / "no_fear.npz")))
    assert_refused(said, 78, "no picture of fear", out=out)
    said = mien_convert(*replaced(arguments, "--calibrate", str(tmp_path / "nowhere")))
    assert_refused(said, 78, "nowhere: no such file or folder", out=out)
    (tmp_path / "empty" / "happy").mkdir(parents=True)
    assert_refused(mien_convert(*replaced(arguments, "--calibrate", str(tmp_path / "empty"))), 78, "empty", out=out)
    (tmp_path / "words" / "happy").mkdir(parents=True)
    (tmp_path / "words" / "happy" / "one.png").write_text("not a picture")
    assert_refused(mien_convert(*replaced(arguments, "--calibrate", str(tmp_path / "words"))), 78, "one.png", out=out)
    np.savez(tmp_path / "unlabelled.npz", images=np.zeros((4, 24, 24), np.uint8))
    said = mien_convert(*replaced(arguments, "--evaluate", str(tmp_path / "unlabelled.npz")))
    assert_refused(said, 78, "labels", out=out)


def test_pictures_of_the_wrong_kind_are_named(workshop: Workshop, mien_convert: Run, tmp_path: Path) -> None:
    out, labels = tmp_path / "out", np.arange(7, dtype=np.uint8)
    arguments = workshop.arguments(out)
    wrong = {
        "floats": np.zeros((7, 24, 24), np.float32),
        "flat": np.zeros((7, 576), np.uint8),
        "five_channels": np.zeros((7, 24, 24, 5), np.uint8),
        "empty": np.zeros((0, 24, 24), np.uint8),
    }
    for name, images in wrong.items():
        path = tmp_path / f"{name}.npz"
        np.savez(path, images=images, labels=labels[: len(images)])
        for flag in ("--calibrate", "--evaluate"):
            assert_refused(mien_convert(*replaced(arguments, flag, str(path))), 78, f"{name}.npz", out=out)


def test_a_truncated_float_tflite_is_refused_before_anything_is_read_into_this_process(
    workshop: Workshop, mien_convert: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    whole = tf.lite.TFLiteConverter.from_keras_model(make_network()).convert()
    for share in (0.02, 0.5, 0.99):
        (tmp_path / "cut.tflite").write_bytes(whole[: int(share * len(whole))])
        said = mien_convert(*workshop.arguments(out, model=tmp_path / "cut.tflite"))
        assert_refused(said, 78, "cut.tflite", out=out)


def test_a_place_that_cannot_be_written_is_known_before_the_work(
    workshop: Workshop, mien_convert: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    said = mien_convert(*workshop.arguments(tmp_path / "file" / "out"))
    assert said.code == 1
    assert said.err.splitlines() == [
        f"mien-convert: error: {tmp_path}/file/out: {tmp_path}/file is no folder; nothing was begun"
    ]


def test_help_keeps_what_stands_in_brackets(mien_convert: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = mien_convert("quantize", "--help").out
    for part in ("[FORM:]PATH[@KEY=V,…]", "square[:MARGIN]", "[default: 0]"):
        assert part in said


def test_a_full_disk_leaves_nothing_behind(workshop: Workshop, small_bundle: Path, tmp_path: Path) -> None:
    """On a real file system that is too small, in a mount namespace of the child's own."""
    room_kib = sum(file.stat().st_size for file in small_bundle.iterdir()) // 2048
    disk, script = tmp_path / "disk", tmp_path / "run.sh"
    disk.mkdir()
    script.write_text(
        'disk=$1 room=$2; shift 2\nmount -t tmpfs -o size="$room" tmpfs "$disk" || exit 99\n'
        '"$@"; code=$?\necho "left: $(ls -A "$disk")"\nexit $code\n'
    )
    namespace = ["unshare", "--mount", "--map-root-user", "sh", str(script), str(disk), f"{room_kib}k"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("needs mount namespaces: util-linux' unshare, and a kernel that lets this user have them")
    command = [*namespace, sys.executable, "-m", "convert", *workshop.arguments(disk / "small")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=170, cwd=Path(__file__).parents[2])
    errors = [line for line in said.stderr.splitlines() if "error: " in line]
    assert said.returncode == 1, said.stderr
    assert len(errors) == 1
    assert "small: no space left for it; nothing was written" in errors[0]
    assert said.stdout.splitlines()[-1] == "left: "


def test_a_report_that_cannot_be_written_is_one_line(workshop: Workshop, mien_convert: Run, tmp_path: Path) -> None:
    out, blocked = tmp_path / "out", tmp_path / "report.json"
    blocked.mkdir()
    said = mien_convert(*workshop.arguments(out), "--json", blocked)
    assert said.code == 1
    assert "--json: " in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert load_emotion_bundle(out).manifest.status == "passed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.report", "report.json"]
