"""A recipe says everything or fails with the key that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ConfigError
from training.fit.run_folder import dump_recipe
from training.recipe import load_recipe, recipe_names, with_epochs


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_written_and_read_back_the_same(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    copy = tmp_path / "copy.toml"
    copy.write_text(dump_recipe(recipe))
    assert load_recipe(copy) == recipe
    assert recipe.name == name


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("name = 'x'", "model"),
        ("name = 'x'\nmodel = {architecture = 'resnet'}\n[train]\nlearnig_rate = 1", "learnig_rate"),
        ("name = 'x'\nmodel = {architecture = 'resnet'}\n[train]\nepochs = 0", "train.epochs: 0 is not in 1..100000"),
        ("name = 'x'\nmodel = {architecture = 'resnet'}\n[train]\nepochs = 'ten'", "train.epochs"),
        (
            "name = 'x'\nmodel = {architecture = 'resnet'}\n[train.logit_adjustment]\nvotes = 0.5",
            "train.logit_adjustment.votes: 0.5: wanted 0..1 for one of own",
        ),
        (
            "name = 'x'\nmodel = {architecture = 'resnet'}\n[train.target_weights]\nown = -1",
            "train.target_weights.own: -1.0: wanted 0..100 for one of own",
        ),
        ("name = 'x'\nmodel = {architecture = 'resnet'}\n[data]\nclasses = ['happy', 'joy']", "data.classes"),
        ("name = 'x'\nmodel = {architecture = 'resnet'}\n[augment]\nflip = 2", "augment.flip: 2.0 is not in 0..1"),
        ("name = 'x'\nmodel = {architecture = 'resnet'}\n[data]\ntargets = ['own', 'own']", "data.targets"),
        ("name = ", "not TOML"),
    ],
)
def test_a_wrong_recipe_names_the_file_the_key_and_what_is_allowed(text: str, needle: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    assert needle in str(caught.value)
    assert "wrong.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_lists_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"nothing-such: no such file, and no recipe of Mien's: .*sequential6"):
        load_recipe("nothing-such")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_with_fewer_epochs_can_be_read_again_out_of_its_run_folder(name: str, tmp_path: Path) -> None:
    fewer = with_epochs(load_recipe(name), 1)
    (tmp_path / "recipe.toml").write_text(dump_recipe(fewer))
    assert load_recipe(tmp_path / "recipe.toml") == fewer
    assert fewer.train.epochs == 1
