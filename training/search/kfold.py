"""k-fold cross-validation: stratified, and no person and no photograph in two folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from convert.datasets import Dataset, read_datasets
from convert.datasets.spec import absolute_spec
from convert.datasets.split_names import PRIVATE_TEST, PUBLIC_TEST, TEST, VALIDATION
from edge.errors import UsageError
from training.data.duplicates import Ints, find_duplicates
from training.data.prepare import independent_groups
from training.data.splits import TrainingData, assign_folds, learnable
from training.evaluate.charts import confusion_chart
from training.files import write_file
from training.fit.fingerprint import make_fingerprint, refuse_other
from training.fit.run_folder import RECORD, load_run, lock_folder, write_json
from training.fit.saved_models import load_keras_model
from training.fit.targets import NOT_JUDGED, make_arrays
from training.fit.trainer import Reporter, fit, predict_logits
from training.recipe import Recipe

SCHEMA = "mien.kfold/1"
REPORT = "kfold.json"


class KFoldReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``kfold.json``.

    Attributes:
        schema: of this file.
        recipe: its name.
        classes: labels in the order of the confusion matrix.
        counts: judged pictures of each fold.
        accuracies: of each fold's best epoch, on the pictures it was not trained on.
        mean: of the accuracies.
        sd: their sample standard deviation.
        pooled_accuracy: over all pictures, each judged by the network that did not see it.
        confusion: counts over all folds, rows the true label, columns the predicted one.
        test_count: judged pictures of the data's test splits, which no fold learned from or was chosen by; 0 for none.
        test_accuracies: of each fold's network on them.
    """

    schema: str = SCHEMA
    recipe: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    sd: float
    pooled_accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    test_count: int = 0
    test_accuracies: tuple[float, ...] = ()


def kfold(
    recipe: Recipe,
    specs: Sequence[str],
    *,
    folds: int,
    out: Path,
    reporter: Reporter | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> KFoldReport:
    """Trains the recipe once a fold and judges each picture by the network that was not trained on it.

    The fold that is judged also chooses the best epoch, as published k-fold figures do; the mean is therefore a little
    higher than what new pictures would get. A fold whose run folder is finished is not trained again.

    Args:
        recipe: what to train.
        specs: data sets.
        folds: how many, >= 2.
        out: folder of the report and of one run folder a fold.
        reporter: who is told.
        say: takes a line when a fold begins.

    Raises:
        UsageError: fewer than two folds, or a folder that holds the folds of something else.
    """
    if folds < 2:
        raise UsageError(f"-k {folds}: at least 2")
    with lock_folder(out):
        return _kfold(recipe, specs, folds=folds, out=out, reporter=reporter, say=say)


def _kfold(
    recipe: Recipe,
    specs: Sequence[str],
    *,
    folds: int,
    out: Path,
    reporter: Reporter | None,
    say: Callable[[str], None],
) -> KFoldReport:
    dataset = read_datasets(specs)
    pool = learnable(dataset)
    for dropped in pool.dropped:
        say(f"left out of {dropped.source}: {dropped.count:,} ({dropped.reason})")
    if held_out := len(dataset.in_splits(VALIDATION)):
        say(f"{held_out:,} pictures of the validation split are in no fold")
    fold_of = deal_folds(pool, count=folds, seed=recipe.data.seed)
    test = dataset.in_splits(TEST, PUBLIC_TEST, PRIVATE_TEST)
    test_count, test_accuracies = 0, []
    confusion = np.zeros((len(recipe.data.classes),) * 2, np.int64)
    counts, accuracies = [], []
    for fold in range(folds):
        run = out / f"fold{fold}"
        data = TrainingData(
            train=replace(pool.select(fold_of != fold), name=f"{pool.name} without fold {fold}"),
            validation=pool.select(fold_of == fold),
            specs=tuple(map(absolute_spec, specs)),
        )
        say(f"fold {fold + 1} of {folds}: {len(data.train)} pictures to learn from, {len(data.validation)} to judge")
        if not _is_finished(run, recipe, data):
            fit(recipe, data, out=run, resume=(run / RECORD).is_file(), reporter=reporter)
        model = load_keras_model(run)
        truth, predicted = _judge(model, data.validation, recipe)
        np.add.at(confusion, (truth, predicted), 1)
        counts.append(len(truth))
        accuracies.append(float((truth == predicted).mean()))
        if len(test):
            test_truth, test_predicted = _judge(model, test, recipe)
            test_count = len(test_truth)
            test_accuracies.append(float((test_truth == test_predicted).mean()) if test_count else 0.0)
        say(f"fold {fold + 1} of {folds}: {100 * accuracies[-1]:.2f} %")
    report = KFoldReport(
        recipe=recipe.name,
        classes=recipe.data.classes,
        counts=tuple(counts),
        accuracies=tuple(accuracies),
        mean=float(np.mean(accuracies)),
        sd=float(np.std(accuracies, ddof=1)),
        pooled_accuracy=float(np.trace(confusion) / confusion.sum()),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        test_count=test_count,
        test_accuracies=tuple(test_accuracies) if test_count else (),
    )
    write_json(out / REPORT, report)
    for by in ("recall", "precision"):
        write_file(out / f"confusion_{by}.png", confusion_chart(confusion, report.classes, by=by))
    return report


def _judge(model: Any, dataset: Dataset, recipe: Recipe) -> tuple[Ints, Ints]:
    """Return the labels of the pictures that the last target judges, and what the network says of them."""
    arrays = make_arrays(dataset, recipe)
    kept = arrays.labels[:, -1] != NOT_JUDGED
    if not kept.any():
        nothing = np.zeros(0, np.int64)
        return nothing, nothing
    logits = predict_logits(model.predict_on_batch, arrays.inputs[kept])[:, 0]
    return arrays.labels[kept, -1], logits.argmax(axis=1)


def deal_folds(pool: Dataset, *, count: int, seed: int) -> Ints:
    """Return the fold of each picture, (n,); a person's pictures and copies of one photograph share it.

    Raises:
        DataError: fewer people or photographs than folds.
    """
    groups = independent_groups(pool, find_duplicates(pool.images))
    return assign_folds(replace(pool, subjects=groups.astype(np.str_)), count=count, seed=seed)


def load_kfold(out: Path) -> KFoldReport:
    """The report of a finished cross-validation."""
    return msgspec.json.decode((out / REPORT).read_bytes(), type=KFoldReport)


def _is_finished(run: Path, recipe: Recipe, data: TrainingData) -> bool:
    """Return whether a fold needs no training any more.

    Raises:
        UsageError: its folder holds the fold of another split, other data or another recipe.
    """
    if not (run / RECORD).is_file():
        return False
    record = load_run(run)[1]
    now = make_fingerprint(recipe, training=data.train, validation=data.validation)
    refuse_other(str(run), record.fingerprint, now, allowed=frozenset())
    return record.finished
