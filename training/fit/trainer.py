"""Training of one recipe, on any Keras backend; see `training.fit.run_folder` for what it leaves behind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import keras
import msgspec
import numpy as np
import numpy.typing as npt

from edge.errors import DataError, TrainingError, UsageError
from training.architectures import make_model
from training.data.crop_jitter import DRAWS, scatter
from training.data.splits import TrainingData
from training.files import write_file
from training.fit.batches import Batches, Teach, predict_in_batches
from training.fit.checkpoint import AveragedWeights, load_checkpoint, save_checkpoint
from training.fit.curves import draw_curves
from training.fit.fingerprint import CHANGEABLE, Fingerprint, make_fingerprint, recipe_changes, refuse_other
from training.fit.losses import make_loss, make_optimizer
from training.fit.run_folder import (
    CHECKPOINT,
    CURVES,
    LOG,
    RECIPE,
    RECORD,
    EpochRow,
    RunRecord,
    describe_machine,
    dump_recipe,
    git_commit,
    installed_versions,
    load_log,
    load_run,
    lock_folder,
    model_file,
    write_json,
)
from training.fit.targets import NOT_JUDGED, Arrays, Floats, class_offsets, make_arrays, prepare_targets
from training.fit.transfer import KnownWeights, begin_with
from training.fit.views import Views, make_views
from training.recipe import Recipe


class Reporter(Protocol):
    """Who is told how training goes."""

    def step(self, *, epoch: int, step: int, steps: int, loss: float) -> None:
        """After each step; ``loss`` is the epoch's mean so far."""

    def epoch(self, row: EpochRow, *, epochs: int) -> None:
        """After each epoch."""

    def say(self, line: str) -> None:
        """What the run begins with."""


class SilentReporter:
    """Tells nobody."""

    def step(self, *, epoch: int, step: int, steps: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, row: EpochRow, *, epochs: int) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Teachers:
    """Who is learned from, and what the record says of them.

    Attributes:
        teach: see `training.fit.batches.Teach`.
        sha256: of each teacher's file, by its name.
    """

    teach: Teach
    sha256: dict[str, str]


def fit(
    recipe: Recipe,
    data: TrainingData,
    *,
    out: Path,
    resume: bool = False,
    teachers: Teachers | None = None,
    weights: KnownWeights | None = None,
    reporter: Reporter | None = None,
) -> RunRecord:
    """Trains a recipe and writes its run folder; the best validation accuracy decides which weights are kept.

    Args:
        recipe: what to train.
        data: training and validation pictures.
        out: the run folder; must not hold a run unless ``resume``.
        resume: go on from the folder's checkpoint. What the run depends on must be the same
            (`training.fit.fingerprint`), but for `CHANGEABLE`; without a change, what follows is what would have
            followed without the stop.
        teachers: where the recipe distils.
        weights: to begin with instead of random ones; a run that is resumed goes on with its own.
        reporter: who is told.

    Raises:
        UsageError: for a folder that holds a run already, none to resume, or one that was made from something else, or
            that another process writes to.
        DataError: for data that this recipe cannot be trained on.
        TrainingError: for a loss that is not finite, or a disk that fills; the last good checkpoint is kept.
    """
    stored = _stored_run(out, resume=resume)
    with lock_folder(out):
        return _fit(
            recipe,
            data,
            out=out,
            stored=stored,
            teachers=teachers,
            weights=weights,
            reporter=reporter or SilentReporter(),
        )


def _fit(
    recipe: Recipe,
    data: TrainingData,
    *,
    out: Path,
    stored: RunRecord | None,
    teachers: Teachers | None,
    weights: KnownWeights | None,
    reporter: Reporter,
) -> RunRecord:
    began_with = weights.sha256 if weights else stored.began_with if stored else {}
    fingerprint = make_fingerprint(
        recipe,
        training=data.train,
        validation=data.validation,
        teachers=teachers.sha256 if teachers else None,
        weights=began_with,
    )
    changes = _changes(out, recipe, stored, fingerprint) if stored else ()
    if stored:
        weights = None  # it goes on with its own
    write_file(out / RECIPE, dump_recipe(recipe).encode())
    keras.utils.set_random_seed(recipe.train.seed)
    keras.config.set_dtype_policy(recipe.train.precision)
    try:
        accelerators = use_accelerators()
        training, validation = make_arrays(data.train, recipe), make_arrays(data.validation, recipe)
        if not (validation.labels != NOT_JUDGED).any(axis=0).all():
            raise DataError(data.validation.name, "no validation picture that every target of the recipe can judge")
        record = _describe(recipe, data, training, validation, fingerprint, changes, accelerators)
        if recipe.data.validation_crops == "scattered":
            cuts = scatter(data.validation, cuts=DRAWS, seed=recipe.data.seed)
            validation = make_arrays(cuts, recipe)
        if recipe.features:
            from training.fit.features import extract

            training = extract(training, recipe, cache=out.parent / "features")
            validation = extract(validation, recipe, cache=out.parent / "features")
        targets = prepare_targets(training, recipe, source=data.train.name)
        teach = teachers.teach if teachers else None
        if teach and recipe.distill and recipe.distill.views == "plain":
            targets, teach = np.concatenate([targets, judge_both_ways(teach, training.inputs)], axis=1), None
        views = None
        if teachers and recipe.distill and recipe.distill.views == "stored":
            views, teach = stored_views(teachers, training, recipe, cache=out.parent / "views"), None
        batches = Batches(inputs=training.inputs, targets=targets, recipe=recipe, teach=teach, views=views)
        offsets = class_offsets(training, recipe)
        run = _Run(
            recipe,
            batches,
            validation,
            offsets,
            out=out,
            record=record,
            weights=weights,
            reporter=reporter,
        )
        return run.go(resume=stored is not None)
    finally:
        keras.config.set_dtype_policy("float32")


def use_accelerators() -> int:
    """Splits every batch over all accelerators where there are several and the backend can (Keras' `DataParallel`).

    Returns:
        How many accelerators Keras sees; 0 for the processor alone, or a backend that cannot list them.
    """
    devices = _accelerators()
    if len(devices) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    return len(devices)


def _accelerators() -> list[str]:
    try:
        return [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]
    except (NotImplementedError, AttributeError, RuntimeError):
        return []


def predict_logits(predict: Callable[[Floats], npt.ArrayLike], inputs: npt.NDArray[Any], *, heads: int = 1) -> Floats:
    """(n, heads, classes) float32 logits of pictures (n, height, width, channels).

    Args:
        predict: (n, height, width, channels) float32 in, (n, heads * classes) out.
        inputs: of any dtype.
        heads: of the network.
    """
    return predict_in_batches(predict, inputs).reshape(len(inputs), heads, -1)


def judge_both_ways(teach: Teach, inputs: npt.NDArray[Any]) -> Floats:
    """(n, heads, classes) float32: the teachers' mean opinion of pictures (n, h, w, c) and of their mirror images."""

    def judge(pictures: Floats) -> Floats:
        both: Floats = np.float32(0.5) * (teach(pictures) + teach(np.ascontiguousarray(pictures[:, :, ::-1])))
        return both

    return predict_in_batches(judge, inputs)


def stored_views(teachers: Teachers, training: Arrays, recipe: Recipe, *, cache: Path) -> Views:
    """Views of the training pictures, out of the cache or made; see `training.fit.views.make_views`."""
    return make_views(
        training.inputs.astype(np.uint8, copy=False),
        recipe,
        judge=partial(judge_both_ways, teachers.teach),
        teachers=teachers.sha256,
        cache=cache,
    )


def fits_processor(model: Any, precision: str) -> bool:
    """Whether PyTorch's fused operations on a processor can compute this network; see `training.fit.torch_network`.

    Args:
        model: of any layers.
        precision: the recipe's.
    """
    if keras.backend.backend() != "torch" or precision != "mixed_bfloat16" or _accelerators():
        return False
    from training.fit.torch_network import is_supported

    return is_supported(model)


class _Run:
    """One training run in progress."""

    def __init__(
        self,
        recipe: Recipe,
        batches: Batches,
        validation: Arrays,
        offsets: Floats,
        *,
        out: Path,
        record: RunRecord,
        weights: KnownWeights | None,
        reporter: Reporter,
    ) -> None:
        self.recipe, self.batches, self.validation, self.offsets = recipe, batches, validation, offsets
        self.out, self.record, self.reporter = out, record, reporter
        self.heads, self.classes = len(recipe.data.targets), len(recipe.data.classes)
        shape = tuple(int(side) for side in batches.inputs.shape[1:])
        build = partial(
            make_model,
            recipe.model.architecture,
            input_shape=(shape[0], shape[1], shape[2]),
            outputs=self.heads * self.classes,
            options=recipe.model.options,
        )
        self.model = build()
        if fused := fits_processor(self.model, recipe.train.precision):
            keras.config.set_dtype_policy("float32")  # only the step computes in bfloat16
            self.model = build()
        if weights is not None:
            reporter.say(f"{weights.path}: {begin_with(self.model, weights, recipe)}")
        loss = make_loss(
            heads=self.heads,
            classes=self.classes,
            distill=recipe.distill,
            weights=[recipe.train.target_weights.get(target, 1.0) for target in recipe.data.targets],
        )
        self.model.compile(
            optimizer=make_optimizer(recipe.train, steps_per_epoch=len(batches)),
            loss=loss,
            # XLA compiles for longer than it saves on a processor.
            jit_compile="auto" if record.machine["accelerators"] != "0" else False,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.step, self.predict = self.model, self.model.predict_on_batch
        if fused:
            from training.fit.torch_network import TorchStep, keep_freed_memory, make_predictor

            keep_freed_memory()
            self.step, self.predict = TorchStep(self.model, loss), make_predictor(self.model, bfloat16=False)
        self.average = AveragedWeights(self.model, decay=recipe.train.ema) if recipe.train.ema else None

    def go(self, *, resume: bool) -> RunRecord:
        """All epochs that are left."""
        done, best = 0, None
        if resume:
            progress = load_checkpoint(self.out, self.model, self.average)
            done = int(progress["epoch"])
            rows = load_log(self.out)[:done]
            if len(rows) < done and "row" in progress:  # stopped between the checkpoint and the log
                rows.append(msgspec.convert(progress["row"], EpochRow))
            self._write_log(rows)
            if self.recipe.train.schedule == "constant" and not self.recipe.train.warmup_epochs:
                self.model.optimizer.learning_rate = self.recipe.train.learning_rate  # may be another than before
            best = max((row for row in rows if row.best), key=lambda row: row.epoch, default=None)
        parameters = {
            "total": self.model.count_params(),
            "trainable": sum(math.prod(w.shape) for w in self.model.trainable_weights),
        }
        self.record = msgspec.structs.replace(self.record, parameters=parameters, epochs=done, best=best)
        for change in self.record.changes:
            self.reporter.say(f"{self.out}: {change}; the learning rate follows the new schedule from here on")
        if not resume:  # a stop in the first epoch is no dead end either
            save_checkpoint(self.out, self.model, self.average, {"epoch": 0})
        write_json(self.out / RECORD, self.record)
        for epoch in range(done + 1, self.recipe.train.epochs + 1):
            self._epoch(epoch)
            patience, best = self.recipe.train.patience, self.record.best
            if patience and best and epoch - best.epoch >= patience:
                break
        self.record = msgspec.structs.replace(self.record, finished=True)
        write_json(self.out / RECORD, self.record)
        return self.record

    def _epoch(self, epoch: int) -> None:
        started = time.monotonic()
        loss = self._train(epoch)
        row = self._validate(epoch, loss, started)
        if row.best:
            self._save_models()
        save_checkpoint(self.out, self.model, self.average, {"epoch": epoch, "row": msgspec.to_builtins(row)})
        self._write_log([*load_log(self.out), row])
        self.record = msgspec.structs.replace(self.record, epochs=epoch, best=row if row.best else self.record.best)
        write_json(self.out / RECORD, self.record)
        draw_curves(load_log(self.out), self.out / CURVES, title=self.recipe.name)
        self.reporter.epoch(row, epochs=self.recipe.train.epochs)

    def _train(self, epoch: int) -> float:
        """One pass over the training pictures; returns the mean loss."""
        self.step.reset_metrics()
        steps, loss = len(self.batches), math.nan
        for step, (inputs, targets) in enumerate(self.batches.of_epoch(epoch)):
            # It is the mean over the epoch so far, which one NaN turns into NaN.
            loss = float(self.step.train_on_batch(inputs, targets))
            if not math.isfinite(loss):
                kept = f"the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else "no epoch was finished"
                raise TrainingError(
                    f"{self.out}: epoch {epoch}, step {step + 1}: the loss is {loss}; {kept}; "
                    f"try a lower train.learning_rate than {self.recipe.train.learning_rate:g}"
                )
            if self.average:
                self.average.update((epoch - 1) * steps + step + 1)
            self.reporter.step(epoch=epoch, step=step + 1, steps=steps, loss=loss)
        return loss

    def _validate(self, epoch: int, loss: float, started: float) -> EpochRow:
        with self._averaged():
            logits = predict_logits(self.predict, self.validation.inputs, heads=self.heads)
        logits -= self.offsets
        accuracies: dict[str, float] = {
            target: round(_accuracy(logits[:, head], self.validation.labels[:, head]), 6)
            for head, target in enumerate(self.recipe.data.targets)
        }
        accuracy = accuracies[self.recipe.data.targets[-1]]
        return EpochRow(
            epoch=epoch,
            learning_rate=float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            loss=loss,
            accuracy=accuracy,
            accuracies=accuracies,
            validation_loss=_cross_entropy(logits[:, -1], self.validation.targets[:, -1]),
            seconds=round(time.monotonic() - started, 3),
            best=self.record.best is None or accuracy > self.record.best.accuracy,
        )

    def _save_models(self) -> None:
        """One Keras file a target, with the averaged weights where there are any."""
        *others, last = self.recipe.data.targets
        with self._averaged():
            for head, target in enumerate([*others, last]):
                file = model_file(self.out, None if target == last else target)
                save_model(deployable_model(self.model, self.recipe, head=head, offsets=self.offsets[head]), file)

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.applied() if self.average else nullcontext()

    def _write_log(self, rows: list[EpochRow]) -> None:
        write_file(self.out / LOG, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def deployable_model(model: Any, recipe: Recipe, *, head: int, offsets: Floats) -> Any:
    """The network with one head: pixels 0..255 in, (n, classes) float32 logits out.

    Args:
        model: as it was trained, with all heads in one dense layer.
        recipe: its recipe.
        head: position in ``recipe.data.targets``.
        offsets: (classes,) what its logits are lowered by.
    """
    classes = len(recipe.data.classes)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # what computes on a device, or is converted for one, has no bfloat16
    try:
        single = make_model(
            recipe.model.architecture,
            input_shape=tuple(model.input_shape[1:]),
            outputs=classes,
            options=_without_downloads(recipe.model.options),
        )
    finally:
        keras.config.set_dtype_policy(policy)
    weights = model.get_weights()
    mine = slice(head * classes, (head + 1) * classes)
    for i in (-2, -1):  # The logits are the last layer: kernel (features, outputs), bias (outputs).
        weights[i] = weights[i][..., mine]
    weights[-1] = weights[-1] - offsets
    single.set_weights(weights)
    if recipe.features:
        from training.fit.features import put_behind_base

        return put_behind_base(single, recipe)
    return single


def save_model(model: Any, path: Path) -> None:
    """Writes a Keras file beside its place and renames it.

    Raises:
        TrainingError: when it cannot be written.
    """
    beside = path.with_name(f".{path.stem}.part.keras")
    try:
        model.save(beside)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise TrainingError(f"{path}: cannot be written: {error.strerror or error}; what was there is kept") from error


def _without_downloads(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "weights": "random"} if "weights" in options else options


def _stored_run(out: Path, *, resume: bool) -> RunRecord | None:
    """Return the record of the run that goes on; None for a new one.

    Raises:
        UsageError: nothing to go on with, or a run where a new one was asked for.
    """
    if not resume:
        if (out / RECORD).exists():
            raise UsageError(f"{out} holds a training run already; use --resume, or another folder")
        return None
    if not (out / CHECKPOINT).is_file():
        raise UsageError(f"--resume: {out} has no {CHECKPOINT}")
    return load_run(out)[1]


def _changes(out: Path, recipe: Recipe, stored: RunRecord, now: Fingerprint) -> tuple[str, ...]:
    """Return what was changed in a run that goes on, now and before, in words.

    Raises:
        UsageError: it was made from something else, or has more epochs already than are asked for.
    """
    refuse_other(f"--resume: {out}", stored.fingerprint, now, allowed=CHANGEABLE)
    assert stored.fingerprint is not None
    if recipe.train.epochs < stored.epochs:
        raise UsageError(f"--resume: {out} has {stored.epochs} epochs already; asked for are {recipe.train.epochs}")
    changed = recipe_changes(stored.fingerprint.recipe, now.recipe)
    return (*stored.changes, *(f"after epoch {stored.epochs}: {change}" for change in changed))


def _describe(
    recipe: Recipe,
    data: TrainingData,
    training: Arrays,
    validation: Arrays,
    fingerprint: Fingerprint,
    changes: tuple[str, ...],
    accelerators: int,
) -> RunRecord:
    counts = {
        split: {name: int((arrays.labels[:, -1] == k).sum()) for k, name in enumerate(recipe.data.classes)}
        for split, arrays in (("train", training), ("validation", validation))
    }
    return RunRecord(
        git=git_commit(),
        versions=installed_versions(),
        machine=describe_machine(keras.backend.backend(), accelerators),
        data=data.specs,
        data_sha256=data.train.sha256,
        counts=counts,
        teachers=fingerprint.teachers,
        began_with=fingerprint.weights,
        fingerprint=fingerprint,
        changes=changes,
        parameters={},
        epochs=0,
        best=None,
        finished=False,
    )


def _accuracy(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    judged = labels != NOT_JUDGED
    return float((logits.argmax(axis=1) == labels)[judged].mean()) if judged.any() else math.nan


def _cross_entropy(logits: Floats, targets: Floats) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(targets * log_probabilities).sum() / max(float(targets.sum()), 1e-9))
