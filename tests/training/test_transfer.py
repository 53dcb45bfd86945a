"""Training that begins with a trained network's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="pip install 'mien[training]'")

from faces import make_recipe, write_faces  # noqa: E402

from edge.errors import ConfigError  # noqa: E402
from edge.system.files import hash_file  # noqa: E402
from training.architectures import make_model  # noqa: E402
from training.data.splits import load_training_data  # noqa: E402
from training.export import trained_from  # noqa: E402
from training.fit.run_folder import load_run, model_file  # noqa: E402
from training.fit.trainer import fit  # noqa: E402
from training.fit.transfer import begin_with, load_weights  # noqa: E402
from training.recipe import Recipe  # noqa: E402

pytestmark = pytest.mark.tensorflow

SMALL = {"stem": 4, "widths": [4, 6], "blocks": [1, 1]}
DEEPER = {"stem": 4, "widths": [4, 6], "blocks": [2, 3]}
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1)).astype(np.float32)


def recipe_of(options: dict[str, object], **data: object) -> Recipe:
    return make_recipe(
        model={"architecture": "resnet", "options": options}, input={"size_px": 16}, data={"validation": 0.2} | data
    )


def network(options: dict[str, object], *, outputs: int = 7, seed: int = 2) -> object:
    keras.utils.set_random_seed(seed)
    return make_model("resnet", input_shape=(16, 16, 1), outputs=outputs, options=options)


@pytest.fixture
def known(tmp_path: Path) -> object:
    """As if it were trained: its batch norms have seen something. It is kept as ``known.keras``."""
    model, rng = network(SMALL, seed=1), np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    model.save(tmp_path / "known.keras")
    return model


def test_a_deeper_network_begins_as_the_one_it_comes_from(known: object, tmp_path: Path) -> None:
    grown, path = network(DEEPER, outputs=14), tmp_path / "known.keras"
    recipe = recipe_of(DEEPER, targets=["votes", "own"])
    weights = load_weights(path, recipe)
    begin_with(grown, weights, recipe)
    assert weights.sha256 == {"known.keras": hash_file(path)}
    expected = known.predict(PIXELS, verbose=0)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(grown.predict(PIXELS, verbose=0), np.tile(expected, 2), atol=1e-5)


def test_other_classes_get_logits_of_their_own_on_the_known_trunk(known: object, tmp_path: Path) -> None:
    three = network(SMALL, outputs=3)
    before = three.layers[-1].get_weights()[0]
    recipe = recipe_of(SMALL, classes=["happy", "sad", "neutral"])
    begin_with(three, load_weights(tmp_path / "known.keras", recipe), recipe)
    np.testing.assert_array_equal(three.layers[-1].get_weights()[0], before)
    np.testing.assert_array_equal(
        three.get_layer("stem_conv").get_weights()[0], known.get_layer("stem_conv").get_weights()[0]
    )


def test_a_network_with_nothing_in_common_is_refused(tmp_path: Path) -> None:
    pixels = keras.Input((16, 16, 1))
    keras.Model(pixels, keras.layers.Dense(7)(keras.layers.Flatten()(pixels))).save(tmp_path / "dense.keras")
    weights = load_weights(tmp_path / "dense.keras", recipe_of(SMALL))
    with pytest.raises(ConfigError, match=r"dense\.keras: no layer in common with resnet"):
        begin_with(network(SMALL), weights, recipe_of(SMALL))


def test_a_run_that_begins_with_another_runs_heads_says_so_and_goes_on(tmp_path: Path) -> None:
    recipe = recipe_of(SMALL, targets=["votes", "own"])
    data = load_training_data([str(write_faces(tmp_path, count=140))], recipe)
    fit(recipe, data, out=tmp_path / "first")
    second = fit(recipe, data, out=tmp_path / "second", weights=load_weights(tmp_path / "first", recipe))
    files = [model_file(tmp_path / "first", "votes"), model_file(tmp_path / "first")]
    assert second.began_with == {file.name: hash_file(file) for file in files}
    fit(recipe, data, out=tmp_path / "second", resume=True)
    assert load_run(tmp_path / "second")[1].began_with == second.began_with
    assert trained_from(tmp_path / "first").recipe == "tiny"
    said = [f"{name} (sha256 {digest[:12]})" for name, digest in second.began_with.items()]
    assert trained_from(tmp_path / "second").recipe == f"tiny, begun with {', '.join(said)}"


@pytest.mark.parametrize(
    ("architecture", "size_px", "options"),
    [
        ("sequential", 16, {"filters": [4, 6], "dense": 8}),
        ("cnn_512", 48, {"dense": [8, 8]}),
        ("vgg_5m9", 48, {"dense": [8, 8, 8]}),
        ("cnn_150px", 48, {"filters": [4, 4], "dense": 8}),
        ("osnet", 32, {"stem": 8, "widths": [16, 16], "blocks": 1, "dense": 8}),
        ("tuned_cnn", 16, {"filters": [4, 6], "dense": [8]}),
        ("resnet", 16, SMALL),
    ],
)
def test_a_network_of_the_same_architecture_begins_as_the_known_one(
    architecture: str, size_px: int, options: dict[str, object], tmp_path: Path
) -> None:
    """Whatever numbers Keras counted into the names of the layers."""
    recipe = make_recipe(model={"architecture": architecture, "options": options}, input={"size_px": size_px})
    build = {"input_shape": (size_px, size_px, 1), "outputs": 7, "options": options}
    known = make_model(architecture, **build)
    known.save(tmp_path / "known.keras")
    new = make_model(architecture, **build)
    said = begin_with(new, load_weights(tmp_path / "known.keras", recipe), recipe)
    count = sum(bool(layer.weights) for layer in new.layers) - 1
    assert said == f"{count} of {count} layers copied, head copied"
    pixels = np.random.default_rng(0).integers(0, 256, (3, size_px, size_px, 1)).astype(np.float32)
    expected = known.predict(pixels, verbose=0)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(new.predict(pixels, verbose=0), expected, atol=1e-5)


def test_what_was_not_copied_is_counted(tmp_path: Path) -> None:
    small, large = {"filters": [4, 6], "dense": 8}, {"filters": [4, 6], "dense": 12}
    recipe = make_recipe(model={"architecture": "sequential", "options": large}, input={"size_px": 16})
    make_model("sequential", input_shape=(16, 16, 1), outputs=6, options=small).save(tmp_path / "known.keras")
    new = make_model("sequential", input_shape=(16, 16, 1), outputs=7, options=large)
    said = begin_with(new, load_weights(tmp_path / "known.keras", recipe), recipe)
    assert said == "8 of 10 layers copied, head new"
