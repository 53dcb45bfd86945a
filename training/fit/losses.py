"""The loss and the optimizer, on whatever backend Keras runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from training.recipe import Distill, Train

Loss = Callable[[Any, Any], Any]


def make_loss(
    *, heads: int, classes: int, distill: Distill | None = None, weights: Sequence[float] | None = None
) -> Loss:
    """Cross-entropy of every head, summed over heads by their weights (1 where not given), averaged over pictures.

    Targets (n, heads, classes) are rows of non-negative weights (`training.fit.targets`). When distilling, they are
    (n, 2 * heads, classes): the labels' rows, then the teachers' probabilities at the recipe's temperature, and the
    loss is ``(1 - weight) * CE(labels) + weight * temperature^2 * CE(teachers, softmax(logits / temperature))``.
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
    """

    # A tensor of the backend: a tensor of PyTorch's refuses to be multiplied by an array.
    shares = ops.convert_to_tensor(np.array(weights or [1.0] * heads, np.float32)[:, None])

    def cross_entropy(targets: Any, logits: Any) -> Any:
        return -ops.mean(ops.sum(shares * targets * ops.log_softmax(logits, axis=-1), axis=(1, 2)))

    def loss(targets: Any, logits: Any) -> Any:
        logits = ops.reshape(logits, (-1, heads, classes))
        if distill is None:
            return cross_entropy(targets, logits)
        own, taught = targets[:, :heads], targets[:, heads:]
        t = distill.temperature
        return (1 - distill.weight) * cross_entropy(own, logits) + distill.weight * t * t * cross_entropy(
            taught, logits / t
        )

    return loss


def make_optimizer(train: Train, *, steps_per_epoch: int) -> Any:
    """The recipe's optimizer with its schedule; kernels alone decay."""
    rate = _make_schedule(train, steps_per_epoch=steps_per_epoch)
    decay = train.weight_decay or None
    if train.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=train.momentum, nesterov=train.momentum > 0, weight_decay=decay)
    elif train.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=train.weight_decay)
    elif train.optimizer == "rmsprop":
        optimizer = keras.optimizers.RMSprop(rate, weight_decay=decay)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
    if train.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _make_schedule(train: Train, *, steps_per_epoch: int) -> Any:
    total, warmup = train.epochs * steps_per_epoch, round(train.warmup_epochs * steps_per_epoch)
    if train.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else train.learning_rate,
            decay_steps=max(1, total - warmup),
            warmup_target=train.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if warmup:
        return keras.optimizers.schedules.PolynomialDecay(0.0, warmup, end_learning_rate=train.learning_rate)
    return train.learning_rate
