"""Training that begins with a trained network's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="pip install 'mien[training]'")

from faces import make_recipe, write_faces  # noqa: E402

from edge.errors import ConfigError  # noqa: E402
from training.architectures import make_model  # noqa: E402
from training.data.splits import load_training_data  # noqa: E402
from training.export import trained_from  # noqa: E402
from training.fit.run_folder import hash_file, load_run, model_file  # noqa: E402
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
