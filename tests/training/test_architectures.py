"""Every network is the one that its description draws, and its recipe can be read and built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

keras = pytest.importorskip("keras", reason="pip install 'mien[training]'")

from edge.contract.preprocess import resize  # noqa: E402
from edge.errors import ConfigError  # noqa: E402
from training.architectures import make_model  # noqa: E402
from training.fit.losses import make_loss, make_optimizer  # noqa: E402
from training.recipe import Recipe, load_recipe, recipe_names  # noqa: E402

pytestmark = pytest.mark.tensorflow
Faces = npt.NDArray[np.uint8]


def build(recipe: Recipe) -> Any:
    """The recipe's network, with random weights where ImageNet's would be fetched."""
    options = dict(recipe.model.options)
    if recipe.model.architecture == "imagenet":
        options["weights"] = "random"
    shape = (2, 2, 512) if recipe.features else recipe.input.shape
    outputs = len(recipe.data.classes) * len(recipe.data.targets)
    return make_model(recipe.model.architecture, input_shape=shape, outputs=outputs, options=options)


@pytest.mark.parametrize(
    ("name", "parameters", "trainable"),
    [("sequential6", 879_462, 878_310), ("cnn_512", 4_479_751, 4_475_783), ("vgg_5m9", 5_906_119, 5_902_279)],
)
def test_a_reference_network_has_exactly_the_parameters_of_its_description(
    name: str, parameters: int, trainable: int
) -> None:
    model = build(load_recipe(name))
    assert model.count_params() == parameters
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == trainable


@pytest.mark.parametrize("name", ["xception6", "resnet50_6", "inception_v3_6", "vgg16_6"])
def test_the_frozen_bases_leave_only_their_head_to_train(name: str) -> None:
    model = build(load_recipe(name))
    head = [weight for layer in model.layers for weight in layer.trainable_weights]
    assert {weight.path.split("/")[0].rstrip("0123456789") for weight in head} <= {"dense", "logits"}


def test_a_network_without_a_base_trains_all_of_itself() -> None:
    model = build(load_recipe("osnet6"))
    assert len(model.trainable_weights) > 100
    assert {weight.path for weight in model.non_trainable_weights} == {
        weight.path for weight in model.weights if "moving_" in weight.path or "seed_generator" in weight.path
    }


def test_unfreezing_vgg16_trains_its_last_block_and_nothing_before_it() -> None:
    model = build(load_recipe("vgg16_unfrozen"))
    base = next(layer for layer in model.layers if layer.name == "vgg16")
    assert {layer.name for layer in base.layers if layer.trainable_weights} == {
        "block5_conv1",
        "block5_conv2",
        "block5_conv3",
    }


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Real faces where the research data are here, else noise of the same kind: (4, 48, 48) uint8."""
    file = Path(__file__).parents[3] / "shared" / "data" / "ckplus48.npz"
    if not file.is_file():
        return np.random.default_rng(1).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    with np.load(file) as stored:
        pictures: Faces = stored["images"][:4]
    return pictures


def four_faces(faces: Faces, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """The faces as a network of this input takes them; features instead of pixels for one that takes features."""
    if shape[2] > 3:
        return np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    sized = np.stack([resize(face, (shape[1], shape[0])) for face in faces])
    return np.repeat(sized[..., np.newaxis], shape[2], axis=3).astype(np.float32)


@pytest.mark.parametrize("name", recipe_names())
def test_one_training_step_changes_the_weights_and_keeps_the_loss_finite(name: str, faces: Faces) -> None:
    recipe = load_recipe(name)
    model = build(recipe)
    heads, classes = len(recipe.data.targets), len(recipe.data.classes)
    pixels = four_faces(faces, model.input_shape[1:])
    targets = np.repeat(np.eye(classes, dtype=np.float32)[[0, 1, 2, 3]][:, None], heads, axis=1)
    model.compile(
        make_optimizer(recipe.train, steps_per_epoch=1), make_loss(heads=heads, classes=classes), run_eagerly=True
    )
    before = [np.array(weight) for weight in model.get_weights()]
    first = float(model.train_on_batch(pixels, targets))
    second = float(model.train_on_batch(pixels, targets))  # a warm-up begins with a rate of 0
    assert np.isfinite([first, second]).all()
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    assert model.output_shape == (None, heads * classes)


def test_our_network_has_nothing_that_an_int8_kernel_does_not_take() -> None:
    kinds = {type(layer).__name__ for layer in build(load_recipe("emotion")).layers}
    assert kinds <= {
        "InputLayer", "Rescaling", "Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D", "Add",
        "GlobalAveragePooling2D", "Dropout", "Dense",
    }  # fmt: skip


def test_our_networks_fit_the_sizes_that_are_promised() -> None:
    assert build(load_recipe("emotion")).count_params() < 950_000
    assert build(load_recipe("emotion_nano")).count_params() < 90_000


def test_pixels_are_scaled_inside_the_network_only() -> None:
    model = build(load_recipe("emotion"))
    scaled = keras.Model(model.input, model.get_layer("scale").output)
    pixels = np.full((1, 48, 48, 1), 255, np.float32)
    pixels[0, :24] = 0
    assert np.unique(np.asarray(scaled(pixels))).tolist() == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize(
    ("architecture", "options", "needle"),
    [
        ("resnext", {}, "'resnext' is not one of resnet"),
        ("resnet", {"width": 3}, "model.options.width: resnet has no such option"),
        ("resnet", {"widths": [8], "blocks": [1, 1]}, "1 widths but 2 block counts"),
        ("imagenet", {"base": "vgg19"}, "'vgg19' is not one of xception"),
        ("imagenet", {"base": "vgg16", "weights": "/no/such.h5"}, "is no file"),
        ("imagenet", {"base": "vgg16", "weights": "random", "trainable": "some"}, "'some' is not one of none"),
        ("imagenet", {"base": "xception", "weights": "random"}, "48: xception takes at least 71"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_clear_line(
    architecture: str, options: dict[str, Any], needle: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_model(architecture, input_shape=(48, 48, 3), outputs=7, options=options)
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


def test_imagenet_weights_that_cannot_be_fetched_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise Exception("URL fetch failure on https://example.invalid/x.h5: None -- no route")

    monkeypatch.setattr(keras.applications, "VGG16", refuse)
    with pytest.raises(ConfigError, match=r"URL fetch failure.*use 'random' or the path of a weights file"):
        make_model("imagenet", input_shape=(48, 48, 3), outputs=7, options={"base": "vgg16"})
