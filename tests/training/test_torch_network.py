"""PyTorch's fused operations compute what Keras computes, and a run on it resumes exactly. Needs PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from faces import make_recipe, write_faces
from tools import ROOT

from training.fit.run_folder import dump_recipe, load_log

pytest.importorskip("torch", reason="pip install torch")
pytestmark = pytest.mark.timeout(900)  # up to five processes that import Keras

AGAINST_KERAS = """
import keras, numpy as np, torch
from training.architectures import ARCHITECTURES, make_model
from training.fit.losses import make_loss
from training.fit.torch_network import TorchStep, is_supported, make_predictor

class Exact(TorchStep):
    def train_on_batch(self, inputs, targets):
        with torch.autocast("cpu", enabled=False):
            loss = self._loss(torch.from_numpy(targets), self._forward(torch.from_numpy(inputs)))
        self._model.zero_grad(); loss.backward()
        return [variable.value.grad.numpy() for variable in self._model.trainable_variables]

options = {"resnet": {"stem": 4, "widths": [4, 8], "blocks": [1, 1], "dropout": 0.0},
           "tuned_cnn": {"filters": [4, 4, 8, 8], "dense": [16, 16, 8]}, "cnn_512": {}, "sequential": {"dropout": 0.0}}
rng = np.random.default_rng(0)
inputs = rng.integers(0, 256, (8, 48, 48, 1)).astype(np.float32)
targets = rng.dirichlet(np.ones(7), (8, 2)).astype(np.float32)
loss = make_loss(heads=2, classes=7)
for name, values in options.items():
    model = make_model(name, input_shape=(48, 48, 1), outputs=14, options=values)
    assert is_supported(model), name
    used = model.predict_on_batch(inputs)
    for bfloat16, near in ((True, 5e-2), (False, 1e-4)):
        found = make_predictor(model, bfloat16=bfloat16)(inputs)
        np.testing.assert_allclose(found, used, atol=near * np.abs(used).max(), err_msg=name)
    if any(isinstance(layer, keras.layers.Dropout) for layer in model.layers):
        continue
    found = Exact(model, loss).train_on_batch(inputs, targets)
    model.zero_grad()
    loss(torch.from_numpy(targets), model(torch.from_numpy(inputs), training=True)).backward()
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        expected = variable.value.grad.numpy()
        np.testing.assert_allclose(gradient, expected, atol=2e-3 * max(1e-3, np.abs(expected).max()), err_msg=name)
assert not is_supported(make_model("osnet", input_shape=(48, 48, 1), outputs=7, options={}))
"""


IS_USED = """
import sys, training.fit.torch_network
from training.cli import main
# A validation asks for the same predictor, of float32.
setattr(training.fit.torch_network, sys.argv.pop(1), lambda *_, bfloat16=True: bfloat16 and sys.exit("it is used"))
sys.argv[0] = "mien-train"
main()
"""


def run(*command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_gradients_are_those_of_keras() -> None:
    run("-c", AGAINST_KERAS)


def test_a_run_on_it_is_the_same_each_time_and_keeps_a_network_of_float32(tmp_path: Path) -> None:
    tiny = make_recipe(input={"size_px": 16}, train={"precision": "mixed_bfloat16"})
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(dump_recipe(tiny))
    fit = ("fit", str(recipe), "--data", str(write_faces(tmp_path, count=140)), "--out")
    assert "it is used" in run("-c", IS_USED, "TorchStep", *fit, str(tmp_path / "unused"), code=1).stderr
    run("-m", "training", *fit, str(tmp_path / "whole"))
    run("-m", "training", *fit, str(tmp_path / "again"))
    rows = [[(row.loss, row.accuracy) for row in load_log(tmp_path / name)] for name in ("whole", "again")]
    assert rows[0] == rows[1]
    kept = "import keras, sys; m = keras.models.load_model(sys.argv[1]); print({l.dtype_policy.name for l in m.layers})"
    assert run("-c", kept, str(tmp_path / "whole" / "model.keras")).stdout.strip() == "{'float32'}"


def test_teachers_judge_on_it(tmp_path: Path) -> None:
    tiny = {"input": {"size_px": 16}, "train": {"precision": "mixed_bfloat16", "epochs": 1}}
    teacher, student = tmp_path / "teacher.toml", tmp_path / "student.toml"
    teacher.write_text(dump_recipe(make_recipe(**tiny)))
    student.write_text(dump_recipe(make_recipe(**tiny, distill={"views": "augmented"})))
    data = ("--data", str(write_faces(tmp_path, count=140)), "--out")
    run("-m", "training", "fit", str(teacher), *data, str(tmp_path / "teacher"))
    distil = ("distill", str(student), "--teacher", str(tmp_path / "teacher"), *data)
    assert "it is used" in run("-c", IS_USED, "make_predictor", *distil, str(tmp_path / "unused"), code=1).stderr
    run("-m", "training", *distil, str(tmp_path / "taught"))
    assert len(load_log(tmp_path / "taught")) == 1
