"""Cross-validation, the tuner and features on disk: each goes on where it stopped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="pip install 'mien[training]'")

import msgspec  # noqa: E402
from faces import make_recipe, write_faces  # noqa: E402
from scenery import scenery  # noqa: E402

from convert.datasets import read_dataset  # noqa: E402
from edge.contract.scores import softmax  # noqa: E402
from edge.errors import ConfigError, TrainingError, UsageError  # noqa: E402
from training.data.splits import load_training_data  # noqa: E402
from training.fit.distill import load_teachers  # noqa: E402
from training.fit.run_folder import EpochRow, dump_recipe, load_run  # noqa: E402
from training.fit.saved_models import load_keras_model  # noqa: E402
from training.fit.trainer import SilentReporter, fit, predict_logits  # noqa: E402
from training.recipe import Distill, load_recipe  # noqa: E402
from training.search.kfold import deal_folds, kfold, load_kfold  # noqa: E402
from training.search.tune import BEST, TRIALS, Parameter, Space, Trial, apply_values, load_space, tune  # noqa: E402

pytestmark = pytest.mark.tensorflow


class Counts(SilentReporter):
    """Counts the epochs that were trained."""

    def __init__(self) -> None:
        self.epochs = 0

    def epoch(self, row: EpochRow, *, epochs: int) -> None:
        """One more."""
        self.epochs += 1


def test_every_picture_is_judged_once_and_by_a_network_that_did_not_see_it(tmp_path: Path) -> None:
    recipe = make_recipe(input={"size_px": 16}, train={"epochs": 1})
    file = write_faces(tmp_path, count=105)
    report = kfold(recipe, [str(file)], folds=3, out=tmp_path / "k")
    assert sum(report.counts) == sum(map(sum, report.confusion)) == 105
    assert report.mean == pytest.approx(np.mean(report.accuracies))
    assert report.sd == pytest.approx(np.std(report.accuracies, ddof=1))
    assert report.pooled_accuracy == pytest.approx(sum(report.confusion[i][i] for i in range(7)) / 105)
    assert load_kfold(tmp_path / "k") == report
    for by in ("recall", "precision"):
        assert (tmp_path / "k" / f"confusion_{by}.png").read_bytes()[:4] == b"\x89PNG"
    counts = Counts()
    assert kfold(recipe, [str(file)], folds=3, out=tmp_path / "k", reporter=counts) == report
    assert counts.epochs == 0, "finished folds are not trained again"


def test_folds_of_another_split_recipe_or_data_are_never_averaged(tmp_path: Path) -> None:
    recipe = make_recipe(input={"size_px": 16}, train={"epochs": 1})
    file = write_faces(tmp_path, count=105)
    kfold(recipe, [str(file)], folds=2, out=tmp_path / "k")
    with pytest.raises(UsageError, match="made from something else: the training pictures"):
        kfold(recipe, [str(file)], folds=3, out=tmp_path / "k")
    other_split = make_recipe(input={"size_px": 16}, train={"epochs": 1}, data={"seed": 1})
    with pytest.raises(UsageError, match=r"data\.seed 2013, now 1"):
        kfold(other_split, [str(file)], folds=2, out=tmp_path / "k")
    longer = make_recipe(input={"size_px": 16}, train={"epochs": 2})
    with pytest.raises(UsageError, match=r"train\.epochs 1, now 2"):
        kfold(longer, [str(file)], folds=2, out=tmp_path / "k")
    write_faces(tmp_path, count=105, seed=6)
    with pytest.raises(UsageError, match="the training pictures"):
        kfold(recipe, [str(file)], folds=2, out=tmp_path / "k")


def test_near_copies_share_a_fold_and_the_test_figure_stands_beside_the_folds(tmp_path: Path) -> None:
    scenes = scenery(28)
    brighter = np.clip(scenes.astype(np.int64) + 3, 0, 255).astype(np.uint8)  # other pixels, same photograph
    images = np.concatenate([scenes, brighter, scenery(14, seed=9)])
    labels = np.concatenate([np.arange(28) % 7, np.arange(28) % 7, np.arange(14) % 7]).astype(np.uint8)
    usage = np.array([0] * 56 + [1] * 14, np.uint8)
    np.savez(tmp_path / "faces.npz", images=images, labels=labels, usage=usage)
    recipe, said = make_recipe(input={"size_px": 16}, train={"epochs": 1}), list[str]()
    report = kfold(recipe, [str(tmp_path / "faces.npz")], folds=2, out=tmp_path / "k", say=said.append)
    assert report.test_count == 14
    assert len(report.test_accuracies) == 2
    assert report == load_kfold(tmp_path / "k")
    folds = deal_folds(read_dataset(str(tmp_path / "faces.npz")).in_splits("train"), count=2, seed=1)
    np.testing.assert_array_equal(folds[:28], folds[28:])
    assert any(line.startswith("fold 1 of 2: ") and line.endswith(" %") for line in said)


def test_a_fold_stopped_in_its_first_epoch_goes_on(tmp_path: Path) -> None:
    class StopsInStep(SilentReporter):
        def step(self, *, epoch: int, step: int, steps: int, loss: float) -> None:
            raise KeyboardInterrupt

    recipe = make_recipe(input={"size_px": 16}, train={"epochs": 1})
    file = write_faces(tmp_path, count=70)
    with pytest.raises(KeyboardInterrupt):
        kfold(recipe, [str(file)], folds=2, out=tmp_path / "k", reporter=StopsInStep())
    assert len(kfold(recipe, [str(file)], folds=2, out=tmp_path / "k").counts) == 2


def test_a_search_does_not_go_on_with_another_space_base_or_data(tmp_path: Path) -> None:
    base = make_recipe(input={"size_px": 16}, train={"epochs": 1})
    file = write_faces(tmp_path)
    parameters = {"train.learning_rate": Parameter(kind="log", low=1e-3, high=1e-1)}
    space = Space(base="base", parameters=parameters, trials=1, epochs=1)
    data = load_training_data([str(file)], base)
    assert len(tune(space, base, data, out=tmp_path / "t")) == 1
    assert len(tune(msgspec.structs.replace(space, trials=2), base, data, out=tmp_path / "t")) == 2  # more may follow
    for changed, said in (
        (msgspec.structs.replace(space, seed=2), "seed"),
        (msgspec.structs.replace(space, epochs=2), "epochs"),
        (msgspec.structs.replace(space, parameters={"train.ema": Parameter(kind="linear", high=0.9)}), "parameters"),
    ):
        with pytest.raises(UsageError, match=f"another space: {said}"):
            tune(changed, base, data, out=tmp_path / "t")
    with pytest.raises(UsageError, match=r"train\.seed"):
        tune(space, make_recipe(input={"size_px": 16}, train={"epochs": 1, "seed": 4}), data, out=tmp_path / "t")
    other = load_training_data([str(write_faces(tmp_path, seed=8))], base)
    with pytest.raises(UsageError, match="the training pictures"):
        tune(space, base, other, out=tmp_path / "t")


def test_hyperband_searches(tmp_path: Path) -> None:
    base = make_recipe(input={"size_px": 16}, train={"epochs": 1})
    parameters = {"train.learning_rate": Parameter(kind="log", low=1e-3, high=1e-1)}
    space = Space(base="base", parameters=parameters, trials=2, epochs=2, algorithm="hyperband")
    data = load_training_data([str(write_faces(tmp_path))], base)
    assert tune(space, base, data, out=tmp_path / "t")


SPACE = """
base = "{base}"
trials = 2
epochs = 1
[parameters."model.options.widths"]
kind = "list"
length = [2, 2]
values = [4, 8]
[parameters."model.options.dropout"]
kind = "choice"
values = [0.0, 0.3]
[parameters."train.learning_rate"]
kind = "log"
low = 1e-3
high = 1e-1
"""


def test_a_search_writes_a_table_and_the_best_recipe_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    base = tmp_path / "base.toml"
    base.write_text(dump_recipe(make_recipe(input={"size_px": 16}, train={"epochs": 9})))
    file = tmp_path / "space.toml"
    file.write_text(SPACE.format(base="base.toml"))
    space, recipe = load_space(file)
    data = load_training_data([str(write_faces(tmp_path))], recipe)
    counts, lines = Counts(), list[str]()
    trials = tune(space, recipe, data, out=tmp_path / "search", reporter=counts, say=lines.append)
    assert (len(trials), counts.epochs) == (2, 2)
    assert re.fullmatch(r"trial 0: widths \d \d, dropout \d\S*, learning_rate \S+", lines[0])
    leader = f"trial {trials[0].number}, {100 * trials[0].accuracy:.2f} %"
    assert re.fullmatch(rf"trial 1: \S+ % of the validation pictures; best of 2: {leader}", lines[3])
    assert trials[0].accuracy >= trials[1].accuracy
    best = load_recipe(tmp_path / "search" / BEST)
    assert best == msgspec.structs.replace(apply_values(recipe, trials[0].values), name="tiny_tuned")
    assert best.train.epochs == 9
    assert (tmp_path / "search" / TRIALS).read_text().splitlines()[1].startswith(trials[0].number)
    space, recipe = load_space(file, trials=3)
    more = tune(space, recipe, data, out=tmp_path / "search", reporter=counts)
    assert (len(more), counts.epochs) == (3, 3), "the first two trials are not trained again"
    assert isinstance(more[0], Trial)


def test_networks_that_cannot_be_trained_are_left_out_and_three_in_a_row_end_the_search(tmp_path: Path) -> None:
    recipe = make_recipe(
        input={"size_px": 16},
        model={"architecture": "tuned_cnn", "options": {"filters": [4, 4], "dense": [8]}},
        train={"optimizer": "sgd"},
    )
    data, lines = load_training_data([str(write_faces(tmp_path))], recipe), list[str]()
    rates = Parameter(kind="choice", values=(1e-3, 100.0))
    space = Space(base="tiny", parameters={"train.learning_rate": rates}, trials=2, epochs=3)
    found = tune(space, recipe, data, out=tmp_path / "some", say=lines.append)
    assert [trial.values["train.learning_rate"] for trial in found] == [1e-3]
    assert sum("failed: " in line and "the loss is nan" in line for line in lines) == 1
    rates = Parameter(kind="linear", low=90, high=100)
    none = Space(base="tiny", parameters={"train.learning_rate": rates}, epochs=3)
    with pytest.raises(TrainingError, match="none: three networks in a row could not be trained"):
        tune(none, recipe, data, out=tmp_path / "none")


def test_what_fails_without_a_word_of_ours_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room for the network")

    monkeypatch.setattr("training.search.tune.fit", fail)
    recipe, lines = make_recipe(input={"size_px": 16}), list[str]()
    space = Space(base="tiny", parameters={"train.learning_rate": Parameter(kind="linear", low=0.1, high=0.2)})
    data = load_training_data([str(write_faces(tmp_path))], recipe)
    with pytest.raises(TrainingError, match="three networks in a row could not be trained"):
        tune(space, recipe, data, out=tmp_path / "search", say=lines.append)
    assert lines[1] == "trial 00 failed: MemoryError: no room for the network"


def test_a_search_of_what_no_recipe_may_say_ends_at_once(tmp_path: Path) -> None:
    recipe = make_recipe(input={"size_px": 16})
    space = Space(base="tiny", parameters={"train.learning_rate": Parameter(kind="choice", values=("fast",))})
    with pytest.raises(ConfigError, match="expected `float`, got `str`"):
        tune(space, recipe, load_training_data([str(write_faces(tmp_path))], recipe), out=tmp_path / "search")


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("base = 'tuned_cnn'\n[parameters.x]\nkind = 'choice'", "parameters.x: kind 'choice' needs values"),
        ("base = 'tuned_cnn'\n[parameters.x]\nkind = 'log'\nlow = 1\nhigh = 1", "low 1 must be below high 1"),
        ("base = 'tuned_cnn'\n[parameters.x]\nkind = 'log'\nlow = 0\nhigh = 1", "begins above 0"),
        ("base = 'tuned_cnn'\n[parameters]", "at least one parameter"),
        ("base = 'no-such'\n[parameters.x]\nkind = 'choice'\nvalues = [1]", "no-such: no such file"),
    ],
)
def test_a_space_that_says_nothing_is_one_clear_line(text: str, needle: str, tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_space(file)
    assert needle in str(caught.value)


def test_a_searched_key_that_no_recipe_has_is_an_error() -> None:
    with pytest.raises(ConfigError, match="learnig_rate"):
        apply_values(make_recipe(), {"train.learnig_rate": 1.0})


def test_the_shipped_space_is_the_described_one() -> None:
    space, base = load_space(Path(__file__).parents[2] / "training" / "spaces" / "tuned_cnn.toml")
    assert space.parameters["model.options.filters"].length == (4, 4)
    assert space.parameters["model.options.dense"].length == (3, 3)
    assert base.data.validation == 0.5


def test_features_are_written_once_and_the_kept_network_takes_pixels(tmp_path: Path) -> None:
    recipe = make_recipe(
        input={"size_px": 32, "colour": "bgr"},
        features={"base": "mobilenet_v2", "weights": "random"},
        model={"architecture": "dense", "options": {"dense": [8], "dropout": [0.1]}},
        train={"epochs": 1, "mixup": 0.0},
    )
    data = load_training_data([str(write_faces(tmp_path, count=70))], recipe)
    record = fit(recipe, data, out=tmp_path / "runs" / "one")
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs" / "features").iterdir()}
    assert len(files) == 2
    fit(recipe, data, out=tmp_path / "runs" / "two")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs" / "features").iterdir()} == files
    pixels = data.validation.model_inputs(size_px=32, colour="bgr")
    logits = predict_logits(load_keras_model(tmp_path / "runs" / "one").predict_on_batch, pixels)[:, 0]
    assert record.best is not None
    assert (logits.argmax(axis=1) == data.validation.labels).mean() == pytest.approx(record.best.accuracy, abs=1e-5)


def test_a_teacher_that_does_not_fit_or_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    recipe = make_recipe(input={"size_px": 16}, distill={"weight": 0.5})
    with pytest.raises(ConfigError, match=r"no \[distill\] table"):
        load_teachers([tmp_path], make_recipe())
    from edge.errors import DataError

    with pytest.raises(DataError, match="no Keras file"):
        load_teachers([tmp_path / "nobody"], recipe)
    (tmp_path / "text.keras").write_text("not a model")
    with pytest.raises(DataError, match="no Keras model that can be loaded"):
        load_teachers([tmp_path / "text.keras"], recipe)
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(7)]).save(tmp_path / "8.keras")
    with pytest.raises(ConfigError, match=r"maps \(None, 8, 8, 1\)"):
        load_teachers([tmp_path / "8.keras"], recipe)


def test_a_run_folder_says_what_it_was_made_of(tmp_path: Path) -> None:
    recipe = make_recipe(input={"size_px": 16}, train={"epochs": 1})
    file = str(write_faces(tmp_path))
    fit(recipe, load_training_data([file], recipe), out=tmp_path / "run")
    stored, record = load_run(tmp_path / "run")
    assert stored == recipe
    assert record.data == (file,)
    assert sum(record.counts["train"].values()) + sum(record.counts["validation"].values()) == 70
    assert record.versions["keras"] == keras.__version__
    assert record.parameters["total"] > record.parameters["trainable"] > 0


def test_each_head_is_taught_by_the_teachers_head_for_the_same_target(tmp_path: Path) -> None:
    recipe = make_recipe(input={"size_px": 16}, data={"targets": ["own", "votes"]}, train={"epochs": 1})
    data = load_training_data([str(write_faces(tmp_path))], recipe)
    fit(recipe, data, out=tmp_path / "teacher")
    student = msgspec.structs.replace(recipe, distill=Distill(weight=0.5, temperature=1.0))
    pixels = data.validation.model_inputs(size_px=16).astype(np.float32)
    taught = load_teachers([tmp_path / "teacher"], student).teach(pixels)
    assert taught.shape == (len(pixels), 2, 7)
    for head, file in enumerate(("model_own.keras", "model.keras")):
        logits = predict_logits(load_keras_model(tmp_path / "teacher" / file).predict_on_batch, pixels)[:, 0]
        np.testing.assert_allclose(taught[:, head], softmax(logits), atol=1e-5)
    assert (taught[:, 0] != taught[:, 1]).any()
