"""What a recipe file may say, and nothing else: a key that is not listed here is an error.

A recipe is a small TOML file::

    name = "sequential6"
    [published]
    accuracy = "67 %"
    [input]
    size_px = 48
    [data]
    classes = ["angry", "fear", "happy", "sad", "surprise", "neutral"]
    [model]
    architecture = "sequential"
    [train]
    epochs = 60
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from edge.config.loader import decode_options, read_toml
from edge.contract.labels import LABELS
from edge.errors import ConfigError, config_context
from training.augment import Augment

RECIPES: Final = Path(__file__).parent / "recipes"

Target = Literal["own", "votes"]
"""``own``: the data set's label. ``votes``: FER+'s vote shares, weighted by the share that our labels have of all."""


class Published(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the description of a network reports; text, as descriptions differ in what they measure."""

    accuracy: str = ""
    conditions: str = ""


class Input(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the network sees."""

    size_px: int = 48
    colour: Literal["grey", "bgr", "rgb"] = "grey"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.size_px, self.size_px, 1 if self.colour == "grey" else 3


class Data(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which labels are learned, and what is held out.

    Attributes:
        classes: labels in the order of the logits.
        targets: one head of the network for each; the last one is the one that counts.
        validation: share of the training split that is held out where the data name no validation split.
        validation_crops: ``exact``: as the data set cut them; ``scattered``: as a detector's boxes cut them on the
            device, several times each (`training.data.crop_jitter`): the epoch that is kept is the best one there.
        seed: of the split, and of the scatter.
    """

    classes: tuple[str, ...] = LABELS
    targets: tuple[Target, ...] = ("own",)
    validation: float = 0.1
    validation_crops: Literal["exact", "scattered"] = "exact"
    seed: Annotated[int, Meta(ge=0)] = 2013


class Model(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The network: a key of `training.architectures.ARCHITECTURES` and its own options."""

    architecture: str
    options: dict[str, Any] = field(default_factory=dict)


class Features(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A base network whose features are written to disk once; the model is then trained on them."""

    base: str
    weights: str = "imagenet"


class Train(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How it is learned.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step.
        optimizer: of ``keras.optimizers``.
        learning_rate: at its highest.
        momentum: of ``sgd``, Nesterov's.
        weight_decay: decoupled (a step takes ``learning_rate * weight_decay`` of each kernel away), kernels only.
        schedule: ``cosine`` falls to 0 at the end, ``constant`` stays.
        warmup_epochs: linear rise from 0 at the beginning.
        label_smoothing: share of a target that is spread over all classes.
        class_weights: ``balanced`` weighs a picture by the inverse frequency of its class.
        target_weights: of a target in the loss; 1 where not given.
        logit_adjustment: for a target, the share of the logarithm of each class's frequency in training that is taken
            off the kept network's logits, so that rare classes are named more often (Menon et al., Long-tail learning
            via logit adjustment, 2021, post-hoc form); 0 for none.
        ema: decay a step of the averaged weights that are validated and kept; 0 for none.
        mixup: share of batches that are mixed with a shuffled copy (Zhang et al., mixup, 2018).
        cutmix: share of batches that get a rectangle of a shuffled copy (Yun et al., CutMix, 2019).
        precision: a Keras dtype policy.
        patience: epochs without a better validation accuracy after which training stops; 0 for never.
        seed: of initial weights, order, dropout and augmentation.
    """

    epochs: int = 60
    batch_size: int = 64
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    target_weights: dict[Target, float] = field(default_factory=dict)
    logit_adjustment: dict[Target, float] = field(default_factory=dict)
    ema: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    patience: int = 0
    seed: Annotated[int, Meta(ge=0)] = 1


class Distill(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Learning from teachers (Hinton et al., Distilling the Knowledge in a Neural Network, 2015).

    Attributes:
        weight: share of the teachers in the loss, the labels have the rest.
        temperature: of both softmaxes in the teachers' share.
        views: ``augmented``: the teachers judge every picture as the student sees it, each time; ``plain``: they judge
            each picture and its mirror image once, before training, which costs next to nothing; ``stored``: they
            judge ``count`` augmented views of each picture and their mirror images once (`training.fit.views`).
        count: views of each picture that are stored.
    """

    weight: float = 0.7
    temperature: float = 2.0
    views: Literal["augmented", "plain", "stored"] = "augmented"
    count: int = 12


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides a training run but the data and the teachers."""

    name: str
    description: str = ""
    published: Published = Published()
    input: Input = Input()
    data: Data = Data()
    model: Model
    features: Features | None = None
    augment: Augment = Augment()
    train: Train = Train()
    distill: Distill | None = None


def load_recipe(name: str | Path) -> Recipe:
    """Reads a recipe.

    Args:
        name: a file, or the name of a recipe that comes with Mien.

    Raises:
        ConfigError: for a recipe that is not there, no TOML, or says something that is not allowed.
    """
    path = Path(name)
    if not path.is_file():
        path = RECIPES / f"{name}.toml"
    if not path.is_file():
        raise ConfigError("", f"no such file, and no recipe of Mien's: {', '.join(recipe_names())}", file=name)
    with config_context(path):
        return check_recipe(decode_options(read_toml(path), Recipe))


def with_classes(recipe: Recipe, classes: tuple[str, ...]) -> Recipe:
    """Return a recipe for other classes.

    Raises:
        ConfigError: fewer than two, one twice, or one that is no label; the message lists those.
    """
    return check_recipe(msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, classes=classes)))


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with another number of epochs; a longer warm-up becomes as long as the training."""
    warmup = min(recipe.train.warmup_epochs, epochs)
    train = msgspec.structs.replace(recipe.train, epochs=epochs, warmup_epochs=warmup)
    return msgspec.structs.replace(recipe, train=train)


def recipe_names() -> list[str]:
    """Names of the recipes that come with Mien."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe itself, when every number is in its range.

    Raises:
        ConfigError: with the key, the value and what is allowed.
    """
    train, data = recipe.train, recipe.data
    for key, value, low, high in (
        ("input.size_px", recipe.input.size_px, 16, 1024),
        ("data.validation", data.validation, 0.01, 0.5),
        ("train.epochs", train.epochs, 1, 100_000),
        ("train.batch_size", train.batch_size, 2, 65_536),
        ("train.learning_rate", train.learning_rate, 1e-9, 100),
        ("train.momentum", train.momentum, 0, 0.9999),
        ("train.weight_decay", train.weight_decay, 0, 1),
        ("train.warmup_epochs", train.warmup_epochs, 0, train.epochs),
        ("train.label_smoothing", train.label_smoothing, 0, 0.9),
        ("train.ema", train.ema, 0, 0.99999),
        ("train.mixup", train.mixup, 0, 1),
        ("train.cutmix", train.cutmix, 0, 1 - train.mixup),
        ("train.patience", train.patience, 0, 100_000),
        ("distill.weight", recipe.distill.weight if recipe.distill else 0, 0, 1),
        ("distill.temperature", recipe.distill.temperature if recipe.distill else 1, 0.1, 100),
        ("distill.count", recipe.distill.count if recipe.distill else 1, 1, 100),
    ):
        if not low <= value <= high:
            raise ConfigError(key, f"{value} is not in {low}..{high}")
    unknown = [name for name in data.classes if name not in LABELS]
    if unknown or len(set(data.classes)) != len(data.classes) or len(data.classes) < 2:
        raise ConfigError("data.classes", f"{list(data.classes)}: two or more different of {', '.join(LABELS)}")
    if not data.targets or len(set(data.targets)) != len(data.targets):
        raise ConfigError("data.targets", f"{list(data.targets)}: each of own, votes at most once, at least one")
    for key, values, high in (
        ("logit_adjustment", train.logit_adjustment, 1),
        ("target_weights", train.target_weights, 100),
    ):
        for target, value in values.items():
            if target not in data.targets or not 0 <= value <= high:
                allowed = f"0..{high} for one of {', '.join(data.targets)}"
                raise ConfigError(f"train.{key}.{target}", f"{value}: wanted {allowed}")
    recipe.augment.check()
    return recipe
