"""Training learns, resumes to the identical next step, and ends in one clear line where it cannot go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="pip install 'mien[training]'")

from faces import make_recipe, write_faces  # noqa: E402
from tools import largest_file  # noqa: E402

from edge.errors import DataError, MienError, TrainingError, UsageError  # noqa: E402
from training.data.splits import TrainingData, load_training_data  # noqa: E402
from training.fit.distill import load_teachers  # noqa: E402
from training.fit.losses import make_loss  # noqa: E402
from training.fit.run_folder import CHECKPOINT, LOG, RECORD, EpochRow, load_log, load_run, lock_folder, model_file  # noqa: E402
from training.fit.saved_models import load_keras_model  # noqa: E402
from training.fit.trainer import SilentReporter, Teachers, deployable_model, fit, predict_logits  # noqa: E402
from training.recipe import Distill, Recipe  # noqa: E402

pytestmark = pytest.mark.tensorflow


class StopsAfter(SilentReporter):
    """Interrupts training as Ctrl-C does, after an epoch."""

    def __init__(self, epoch: int) -> None:
        self._last = epoch

    def epoch(self, row: EpochRow, *, epochs: int) -> None:
        """Ends the run."""
        if row.epoch == self._last:
            raise KeyboardInterrupt


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    return load_training_data([str(write_faces(tmp_path, count=140))], two_heads())


def two_heads(**train: object) -> Recipe:
    return make_recipe(data={"targets": ["own", "votes"], "validation": 0.2}, input={"size_px": 16}, train=train)


def stored_arrays(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / CHECKPOINT) as stored:
        return {name: stored[name] for name in stored.files}


def assert_same_state(first: Path, second: Path) -> None:
    """All but ``meta``, which holds how long the last epoch took."""
    one, other = stored_arrays(first), stored_arrays(second)
    assert one.keys() == other.keys()
    for name in one.keys() - {"meta"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_an_interrupted_run_goes_on_to_the_identical_weights(data: TrainingData, tmp_path: Path) -> None:
    """Weights, momentum, averages, dropout's random state and log: all as if nothing had happened."""
    recipe = two_heads()
    fit(recipe, data, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data, out=tmp_path / "torn", reporter=StopsAfter(1))
    assert load_run(tmp_path / "torn")[1].epochs == 1
    record = fit(recipe, data, out=tmp_path / "torn", resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "torn")
    rows = [[(row.epoch, row.loss, row.accuracy) for row in load_log(tmp_path / run)] for run in ("whole", "torn")]
    assert rows[0] == rows[1]
    assert record.finished


def test_training_learns_what_can_be_learned(data: TrainingData, tmp_path: Path) -> None:
    record = fit(two_heads(epochs=16, mixup=0.0), data, out=tmp_path / "run")
    assert record.best is not None
    assert record.best.accuracy > 0.6  # chance is 0.14
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_kept_files_score_what_the_log_says(data: TrainingData, tmp_path: Path) -> None:
    record = fit(two_heads(epochs=3, logit_adjustment={"votes": 0.5}), data, out=tmp_path / "run")
    assert record.best is not None
    pixels = data.validation.model_inputs(size_px=16)
    for target, file in (("votes", model_file(tmp_path / "run")), ("own", model_file(tmp_path / "run", "own"))):
        logits = predict_logits(load_keras_model(file).predict_on_batch, pixels)[:, 0]
        accuracy = (logits.argmax(axis=1) == data.validation.labels).mean()
        assert accuracy == pytest.approx(record.best.accuracies[target], abs=1e-5)


def test_mixed_precision_keeps_a_network_of_float32(data: TrainingData, tmp_path: Path) -> None:
    """What was bfloat16 in training would be bfloat16 in the converted model, too."""
    fit(two_heads(epochs=1, precision="mixed_bfloat16"), data, out=tmp_path / "run")
    kept = load_keras_model(model_file(tmp_path / "run"))
    assert {layer.dtype_policy.name for layer in kept.layers} == {"float32"}


def test_a_head_taken_out_gives_the_logits_of_the_whole_less_its_offsets() -> None:
    recipe = two_heads()
    from training.architectures import make_model

    whole = make_model("resnet", input_shape=(16, 16, 1), outputs=14, options=recipe.model.options)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 1)).astype(np.float32)
    logits = predict_logits(whole.predict_on_batch, pixels, heads=2)
    for head in (0, 1):
        offsets = np.arange(7, dtype=np.float32) * head
        single = predict_logits(deployable_model(whole, recipe, head=head, offsets=offsets).predict_on_batch, pixels)[
            :, 0
        ]
        np.testing.assert_allclose(single, logits[:, head] - offsets, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint_kept(data: TrainingData, tmp_path: Path) -> None:
    recipe = two_heads()
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data, out=tmp_path / "run", reporter=StopsAfter(1))
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    broken = {**stored_arrays(tmp_path / "run")}
    broken["model_0000"] = np.full_like(broken["model_0000"], np.nan)
    with (tmp_path / "run" / CHECKPOINT).open("wb") as file:
        np.savez(file, **broken)
    with pytest.raises(TrainingError, match=r"epoch 2, step 1: the loss is nan; the checkpoint of epoch 1 is kept"):
        fit(recipe, data, out=tmp_path / "run", resume=True)
    assert len(before) == (tmp_path / "run" / CHECKPOINT).stat().st_size
    assert load_run(tmp_path / "run")[1].epochs == 1


def test_a_disk_that_fills_ends_in_one_line_and_keeps_the_last_checkpoint(data: TrainingData, tmp_path: Path) -> None:
    """The limit on a file's size stands for the full disk: the kernel refuses the write in the same way."""
    with pytest.raises(KeyboardInterrupt):
        fit(two_heads(), data, out=tmp_path / "run", reporter=StopsAfter(1))
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    with largest_file(len(before) // 2), pytest.raises(MienError, match=r"cannot be written: File too large"):
        fit(two_heads(), data, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before
    assert not list((tmp_path / "run").glob(".*"))
    assert fit(two_heads(), data, out=tmp_path / "run", resume=True).finished


def test_a_folder_that_holds_a_run_is_not_overwritten_and_another_recipe_does_not_resume_it(
    data: TrainingData, tmp_path: Path
) -> None:
    fit(two_heads(epochs=1), data, out=tmp_path / "run")
    with pytest.raises(UsageError, match="holds a training run already"):
        fit(two_heads(epochs=1), data, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"train\.seed 1, now 7"):
        fit(two_heads(epochs=1, seed=7), data, out=tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match=r"has no checkpoint\.npz"):
        fit(two_heads(epochs=1), data, out=tmp_path / "empty", resume=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [("labels", "the training pictures"), ("validation", "the validation pictures"), ("teachers", "the teachers")],
)
def test_a_run_does_not_go_on_with_other_data_or_teachers(
    data: TrainingData, tmp_path: Path, change: str, said: str
) -> None:
    recipe = msgspec.structs.replace(two_heads(), distill=Distill())
    ours, others = (Teachers(teach=uniform, sha256={"a.keras": name * 64}) for name in "ab")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data, out=tmp_path / "run", teachers=ours, reporter=StopsAfter(1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    other = data
    if change == "labels":
        other = replace(data, train=replace(data.train, labels=np.roll(data.train.labels, 1)))
    elif change == "validation":
        other = replace(data, validation=data.validation.select(np.arange(len(data.validation) - 1)))
    with pytest.raises(UsageError, match=f"made from something else: {said}"):
        fit(recipe, other, out=tmp_path / "run", resume=True, teachers=others if change == "teachers" else ours)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def uniform(inputs: np.ndarray) -> np.ndarray:
    return np.full((len(inputs), 2, 7), 1 / 7, np.float32)


def test_a_run_without_a_fingerprint_is_not_gone_on_with(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(two_heads(), data, out=tmp_path / "run", reporter=StopsAfter(1))
    record = load_run(tmp_path / "run")[1]
    old = {key: value for key, value in msgspec.to_builtins(record).items() if key not in ("fingerprint", "changes")}
    (tmp_path / "run" / RECORD).write_bytes(msgspec.json.encode(old))
    with pytest.raises(UsageError, match="can be evaluated and exported, not gone on with"):
        fit(two_heads(), data, out=tmp_path / "run", resume=True)


class StopsInStep(SilentReporter):
    """Interrupts in a step of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def step(self, *, epoch: int, step: int, steps: int, loss: float) -> None:
        """In the second step."""
        if epoch == self._epoch and step == 2:
            raise KeyboardInterrupt


def test_a_stop_in_the_first_epoch_is_no_dead_end(data: TrainingData, tmp_path: Path) -> None:
    fit(two_heads(), data, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(two_heads(), data, out=tmp_path / "torn", reporter=StopsInStep(1))
    assert fit(two_heads(), data, out=tmp_path / "torn", resume=True).finished
    assert_same_state(tmp_path / "whole", tmp_path / "torn")


def test_a_stop_between_checkpoint_and_log_loses_no_row(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(two_heads(epochs=3), data, out=tmp_path / "run", reporter=StopsAfter(2))
    rows = load_log(tmp_path / "run")
    (tmp_path / "run" / LOG).write_bytes(msgspec.json.encode(rows[0]) + b"\n")
    fit(two_heads(epochs=3), data, out=tmp_path / "run", resume=True)
    assert load_log(tmp_path / "run")[:2] == rows


def test_more_epochs_and_a_lower_rate_may_follow_and_are_noted(data: TrainingData, tmp_path: Path) -> None:
    fit(two_heads(epochs=1, schedule="constant"), data, out=tmp_path / "run")
    longer = two_heads(epochs=3, schedule="constant", learning_rate=0.01)
    record = fit(longer, data, out=tmp_path / "run", resume=True)
    assert (record.epochs, record.finished) == (3, True)
    assert record.changes == (
        "after epoch 1: train.epochs 1, now 3",
        "after epoch 1: train.learning_rate 0.05, now 0.01",
    )
    assert [row.learning_rate for row in load_log(tmp_path / "run")] == pytest.approx([0.05, 0.01, 0.01])
    assert load_run(tmp_path / "run")[0] == longer
    with pytest.raises(UsageError, match="has 3 epochs already; asked for are 2"):
        fit(two_heads(epochs=2, schedule="constant"), data, out=tmp_path / "run", resume=True)


def test_two_trainings_at_once_do_not_share_a_folder(data: TrainingData, tmp_path: Path) -> None:
    with lock_folder(tmp_path / "run"), pytest.raises(UsageError, match="another process writes there"):
        fit(two_heads(), data, out=tmp_path / "run")
    assert fit(two_heads(epochs=1), data, out=tmp_path / "run").finished


def test_a_damaged_checkpoint_is_one_clear_line(data: TrainingData, tmp_path: Path) -> None:
    fit(two_heads(epochs=1), data, out=tmp_path / "run")
    checkpoint = tmp_path / "run" / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(DataError, match="is damaged"):
        fit(two_heads(epochs=1), data, out=tmp_path / "run", resume=True)


def test_scattered_validation_judges_the_same_training_on_other_crops(data: TrainingData, tmp_path: Path) -> None:
    runs = {}
    for crops in ("exact", "scattered"):
        recipe = make_recipe(data={"validation_crops": crops}, train={"epochs": 2})
        runs[crops] = fit(recipe, data, out=tmp_path / crops), load_log(tmp_path / crops)
    (exact, rows), (scattered, others) = runs.values()
    assert [row.loss for row in rows] == [row.loss for row in others]
    assert all(row.validation_loss != other.validation_loss for row, other in zip(rows, others, strict=True))
    assert exact.counts == scattered.counts


def test_the_loss_is_weighted_cross_entropy_of_labels_and_teachers() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(5, 6)).astype(np.float32)
    labels, taught = (rng.dirichlet(np.ones(3), (5, 2)).astype(np.float32) for _ in range(2))

    def cross_entropy(targets: np.ndarray, values: np.ndarray) -> float:
        values = values.reshape(5, 2, 3)
        logarithms = values - np.log(np.exp(values).sum(axis=2, keepdims=True))
        return float(-(targets * logarithms).sum() / 5)

    plain = make_loss(heads=2, classes=3)
    assert float(plain(labels, logits)) == pytest.approx(cross_entropy(labels, logits), rel=1e-5)
    distilling = make_loss(heads=2, classes=3, distill=Distill(weight=0.6, temperature=2.0))
    both = np.concatenate([labels, taught], axis=1)
    expected = 0.4 * cross_entropy(labels, logits) + 0.6 * 4 * cross_entropy(taught, logits / 2)
    assert float(distilling(both, logits)) == pytest.approx(expected, rel=1e-5)
    weighted = make_loss(heads=2, classes=3, weights=[2.0, 0.5])
    rows = labels * np.array([[2.0], [0.5]])
    assert float(weighted(labels, logits)) == pytest.approx(cross_entropy(rows, logits), rel=1e-5)


def test_with_all_weight_on_the_teacher_the_labels_are_never_looked_at(data: TrainingData, tmp_path: Path) -> None:
    fit(make_recipe(input={"size_px": 16}, train={"epochs": 2}), data, out=tmp_path / "teacher")
    student = make_recipe(name="student", input={"size_px": 16}, train={"epochs": 1}, distill={"weight": 1.0})
    teachers = load_teachers([tmp_path / "teacher"], student)
    record = fit(student, data, out=tmp_path / "student", teachers=teachers)
    labels = np.random.default_rng(1).permutation(data.train.labels)
    shuffled = replace(data, train=replace(data.train, labels=labels))
    other = fit(student, shuffled, out=tmp_path / "shuffled", teachers=teachers)
    assert record.best == replaced_seconds(other.best, record.best)
    assert list(record.teachers) == ["0:model.keras"]
    alone = make_recipe(input={"size_px": 16}, train={"epochs": 1})
    rows = [fit(alone, each, out=tmp_path / name).best for name, each in (("own", data), ("wrong", shuffled))]
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[0].loss != rows[1].loss


def test_plain_views_ask_the_teachers_once_about_each_picture_and_its_mirror_image(
    data: TrainingData, tmp_path: Path
) -> None:
    asked: list[np.ndarray] = []

    def teach(inputs: np.ndarray) -> np.ndarray:
        asked.append(inputs)
        return np.full((len(inputs), 1, 7), 1 / 7, np.float32)

    student = make_recipe(input={"size_px": 16}, train={"epochs": 2}, distill={"views": "plain"})
    assert fit(student, data, out=tmp_path / "run", teachers=Teachers(teach=teach, sha256={})).finished
    plain, mirrored = np.concatenate(asked[::2]), np.concatenate(asked[1::2])
    np.testing.assert_array_equal(plain[..., 0], np.asarray(data.train.images, np.float32))
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])


def replaced_seconds(row: EpochRow | None, of: EpochRow | None) -> EpochRow | None:
    """The row with the other's duration, which no two runs share."""
    return msgspec.structs.replace(row, seconds=of.seconds) if row and of else row


def test_the_same_recipe_seed_and_data_give_the_same_run(data: TrainingData, tmp_path: Path) -> None:
    for name in ("first", "second"):
        fit(two_heads(epochs=1), data, out=tmp_path / name)
    first, second = (load_log(tmp_path / name)[0] for name in ("first", "second"))
    assert (first.loss, first.validation_loss) == (second.loss, second.validation_loss)


def test_validation_pictures_that_a_target_cannot_judge_are_one_clear_line(data: TrainingData, tmp_path: Path) -> None:
    votes = np.zeros((len(data.validation), 10), np.uint8)
    votes[:, 7] = 10  # everybody saw contempt
    unjudged = replace(data, validation=replace(data.validation, votes=votes))
    with pytest.raises(DataError, match="no validation picture that every target of the recipe can judge"):
        fit(two_heads(), unjudged, out=tmp_path / "run")
