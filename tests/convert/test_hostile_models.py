"""A model is somebody's file: nothing in it is run or followed, and reading it is bounded."""

from __future__ import annotations

import json
import os
import pickle
import signal
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from workshop import Outcome, Workshop

pytestmark = pytest.mark.tensorflow
pytest.importorskip("tensorflow", reason="needs the convert extra: pip install 'mien[convert]'")

from small_networks import SIZE_PX  # noqa: E402

from convert.classifier.load import Form, load_model  # noqa: E402
from convert.sandbox.checks import check_model_file  # noqa: E402
from convert.sandbox.process import Child  # noqa: E402
from edge.errors import ModelFileError  # noqa: E402


def rewritten(path: Path, out: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A ``.keras`` file with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as said:
        load_model(path, arithmetic=None)
    assert said.value.exit_code == 78
    return said.value.problem


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.tflite", "m.onnx", "saved"])
def test_a_pipe_a_device_or_a_file_without_end_is_not_opened(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    assert "is a pipe" in refused(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "is a device" in refused(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10 << 30)
    assert "10.7 GB; 2.1 GB are the most" in refused(path)


def test_the_command_says_it_in_one_line_before_the_data_are_read(
    workshop: Workshop, mien_convert: Callable[..., Outcome], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "m.keras")
    for extra in ((), ("--git", "unknown")):
        said = mien_convert(*workshop.arguments(tmp_path / "out", model=tmp_path / "m.keras"), *extra)
        assert said.code == 78
        assert said.err.splitlines() == [
            f"mien-convert: error: {tmp_path}/m.keras: is a pipe; a regular file is needed"
        ]
    os.mkfifo(tmp_path / "m.tflite")
    assert "is a pipe" in mien_convert("inspect", tmp_path / "m.tflite").err


def test_a_saved_model_folder_with_a_link_that_leaves_it_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    (folder / "variables" / "variables.index").symlink_to("/etc/passwd")
    assert "leads out of the folder" in refused(folder)


def test_an_archive_that_unpacks_to_too_much_or_out_of_itself_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    def deep(members: dict[str, bytes]) -> None:
        members["config.json"] = b'{"a":' * 100_000 + b"1" + b"}" * 100_000

    def slip(members: dict[str, bytes]) -> None:
        members["../../slip"] = b"x"

    def long(members: dict[str, bytes]) -> None:
        members["config.json"] += b" " * (17 << 20)

    assert "config.json is nested more than 200 deep" in refused(rewritten(workshop.keras, tmp_path / "a.keras", deep))
    assert "leads out of the archive" in refused(rewritten(workshop.keras, tmp_path / "b.keras", slip))
    assert "config.json unpacks to" in refused(rewritten(workshop.keras, tmp_path / "c.keras", long))
    bomb = tmp_path / "bomb.keras"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("weights", "w", force_zip64=True) as part,
    ):
        for _ in range(34):
            part.write(bytes(64 << 20))
    assert "unpacks to 2.3 GB" in refused(bomb)


def test_weights_that_lie_in_another_file_are_not_read(workshop: Workshop, tmp_path: Path) -> None:
    import h5py

    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))

    def elsewhere(members: dict[str, bytes]) -> None:
        held = BytesIO(members["model.weights.h5"])
        with h5py.File(held, "a") as file:
            file.create_dataset("more", (8,), "f4", external=[(str(secret), 0, 32)])
        members["model.weights.h5"] = held.getvalue()

    assert "lie in another file" in refused(rewritten(workshop.keras, tmp_path / "m.keras", elsewhere))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["linked"] = h5py.ExternalLink(str(secret), "/")
    assert "is a link to another file" in refused(tmp_path / "m.h5")
    (tmp_path / "p.h5").write_bytes(pickle.dumps(os.system))
    assert "not a Keras file" in refused(tmp_path / "p.h5")


def test_a_class_out_of_another_module_is_not_called(workshop: Workshop, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    def call_system(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        layer = config["config"]["layers"][1]
        layer.update(module="os", class_name="system", registered_name=None, config={"command": f"touch {mark}"})
        members["config.json"] = json.dumps(config).encode()

    assert "Keras cannot read it" in refused(rewritten(workshop.keras, tmp_path / "m.keras", call_system))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_code_in_a_file_is_run_only_for_trust(name: str, tmp_path: Path) -> None:
    import keras

    pixels = keras.Input((SIZE_PX, SIZE_PX, 1))
    x = keras.layers.Lambda(lambda values: values / 255, name="halve", output_shape=(SIZE_PX, SIZE_PX, 1))(pixels)
    keras.Model(pixels, keras.layers.Dense(7)(keras.layers.Flatten()(x))).save(tmp_path / name)
    said = refused(tmp_path / name)
    assert "the code of " in said
    assert "halve" in said
    assert said.endswith("or say --trust-code where you trust whoever made it")
    assert load_model(tmp_path / name, arithmetic=None, form=Form(trust_code=True)).classes == 7


def test_a_saved_model_that_writes_a_file_is_not_run(tmp_path: Path) -> None:
    import tensorflow as tf

    mark = tmp_path / "ran"

    class Writer(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 1), tf.float32)])  # type: ignore[untyped-decorator]
        def call(self, pixels: object) -> object:
            with tf.control_dependencies([tf.io.write_file(str(mark), "x")]):
                return tf.reshape(pixels, (1, 64))

    module = Writer()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.call.get_concrete_function())
    assert "WriteFile" in refused(tmp_path / "saved")
    assert not mark.exists()


@pytest.mark.parametrize("location", ["../secret", "/dev/zero", "inside"])
def test_external_data_of_an_onnx_file_stay_in_its_folder(location: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the onnx extra: pip install 'mien[onnx]'")
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(4096))
    (folder / "inside").symlink_to(tmp_path / "secret")
    weights = onnx.numpy_helper.from_array(np.zeros((7, 1, 8, 8), np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    make = onnx.helper
    graph = make.make_graph(
        [make.make_node("Conv", ["x", "w"], ["y"])], "g",
        [make.make_tensor_value_info("x", 1, [1, 1, 8, 8])], [make.make_tensor_value_info("y", 1, [1, 7, 1, 1])],
        [weights],
    )  # fmt: skip
    (folder / "m.onnx").write_bytes(make.make_model(graph).SerializeToString())
    said = refused(folder / "m.onnx")
    assert "out of the model's folder" in said or "leads out of the folder" in said


def test_a_layer_that_needs_more_memory_than_a_model_may_take_is_one_line(workshop: Workshop, tmp_path: Path) -> None:
    def grow(members: dict[str, bytes]) -> None:
        members["config.json"] = members["config.json"].replace(b'"units": 7', b'"units": 2000000000')

    said = refused(rewritten(workshop.keras, tmp_path / "m.keras", grow))
    assert "memory" in said.lower() or "units" in said or "shape" in said, said


def test_a_process_that_dies_or_hangs_is_told_and_ended(workshop: Workshop) -> None:
    check_model_file(workshop.keras)
    child = Child("convert.classifier.reading", workshop.keras)
    process = child._process
    with pytest.raises(ModelFileError, match="did not answer in time"):
        child.ask({"path": str(workshop.keras)}, bytes, timeout_s=0.0)
    assert process.poll() == -signal.SIGKILL
    child = Child("convert.classifier.reading", workshop.keras)
    child._process.kill()
    with pytest.raises(ModelFileError, match=r"ends the process that reads it \(signal SIGKILL"):
        child.ask({"path": str(workshop.keras)}, bytes, timeout_s=60.0)
