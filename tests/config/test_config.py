"""The configuration: strict, one clear line for every mistake, documented by itself."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edge.cli import app
from edge.config.loader import decode_options, load_config, make_config
from edge.config.reference import make_example, make_schema, make_table
from edge.config.schema import Config
from edge.errors import EXIT_CONFIG, ConfigError, config_context

MISTAKES = [
    ({"camera": {"fps": 0}}, "mien.toml: camera.fps: 0 is not in 1..120"),
    ({"camera": {"fps": "fast"}}, "mien.toml: camera.fps: 'fast': expected `float`, got `str`"),
    ({"camra": {}}, "mien.toml: camra: unknown key; there are device, camera, detect,"),
    ({"camera": {"fsp": 3}}, "mien.toml: camera.fsp: unknown key; there are source, name, width,"),
    ({"mqtt": {"port": 70000}}, "mien.toml: mqtt.port: 70000 is not in 1..65535"),
    ({"mqtt": {"prefix": "a/#"}}, "mien.toml: mqtt.prefix: 'a/#'"),
    ({"device": "two words"}, "mien.toml: device: 'two words'"),
    ({"publish": {"sinks": "mqtt"}}, "mien.toml: publish.sinks: 'mqtt'"),
    ({"camera": 3}, "mien.toml: camera: 3: expected `object`"),
    ({"\n": 1}, "mien.toml: '\\n': unknown key; there are device, camera,"),
    ({"detect": {"schedule": "sometimes"}}, "mien.toml: detect.schedule: 'sometimes'"),
]


@pytest.mark.parametrize(("raw", "line"), MISTAKES, ids=[line for _, line in MISTAKES])
def test_a_mistake_is_one_line_with_file_key_value_and_what_is_allowed(raw: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught, config_context("mien.toml"):
        make_config(raw)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == EXIT_CONFIG


@pytest.mark.parametrize(
    ("section", "key", "choices"),
    [
        ("emotion", "prior", "balanced, natural"),
        ("mqtt", "version", "3.1.1, 5, auto"),
        ("detect", "schedule", "adaptive, every_frame"),
    ],
)
def test_a_wrong_word_is_shown_shortened_with_the_words_that_are_allowed(section: str, key: str, choices: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({section: {key: "x" * 5000}})
    assert str(caught.value).endswith(f"…: not one of {choices}")
    assert len(str(caught.value)) < 300


def test_a_file_that_is_missing_or_not_toml_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("camera = [")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(broken)


def test_an_override_beats_the_file_and_may_be_bare_text(tmp_path: Path) -> None:
    file = tmp_path / "mien.toml"
    file.write_text('[camera]\nfps = 5\nsource = "0"\n')
    config = load_config(file, overrides={"camera.source": "clip.mp4", "detect.score": "0.02"})
    assert (config.camera.source, config.camera.fps, config.detect.score) == ("clip.mp4", 5, 0.02)


@pytest.mark.parametrize("key", ["detect.scor", "detect.score.deep", "nothing"])
def test_an_override_of_an_unknown_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"--set: {key}: unknown key"):
        make_config(overrides={key: "1"})


def test_a_digit_override_of_a_text_key_is_text() -> None:
    assert make_config(overrides={"camera.source": "0"}).camera.source == "0"


def test_the_printed_example_is_the_default_configuration_with_every_key_in_it(tmp_path: Path) -> None:
    file = tmp_path / "mien.toml"
    file.write_text(make_example())
    assert load_config(file) == Config()
    uncommented = "\n".join(
        line.removeprefix("# ")
        for line in make_example().splitlines()
        if line.startswith("[") or (" = " in line and "…" not in line)
    )
    file.write_text(uncommented)
    assert load_config(file) == Config()


def test_the_service_ships_the_example_that_the_command_prints() -> None:
    assert (Path(__file__).resolve().parents[2] / "systemd" / "mien.toml").read_text() == make_example()


def test_every_key_has_a_description_and_a_row() -> None:
    table = make_table()
    for section in msgspec.structs.fields(Config):
        if isinstance(section.default, msgspec.Struct):
            for field in msgspec.structs.fields(type(section.default)):
                assert f"`{section.name}.{field.name}`" in table
    assert not [row for row in table.splitlines() if row.endswith("|  |")]


def test_the_schema_names_every_section() -> None:
    assert set(make_schema()["$defs"]["Config"]["properties"]) == {f.name for f in msgspec.structs.fields(Config)}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([f.name for f in msgspec.structs.fields(Config)]) | st.text(max_size=8)


@given(st.dictionaries(keys, json_values, max_size=4))
def test_whatever_stands_in_a_file_it_is_decoded_or_refused_in_one_line(raw: dict[str, Any]) -> None:
    error = None
    try:
        with config_context("mien.toml"):
            decode_options(raw, Config)
    except ConfigError as caught:
        error = str(caught)
    assert error is None or (error.startswith("mien.toml") and "\n" not in error)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("[detect]\noptions = {x = 1}", "detect.options.x: unknown key; no key is allowed here"),
        ("[emotion]\noptions = {x = 1}", "emotion.options.x: unknown key; no key is allowed here"),
        ('[detect]\ndetector = "opencv_yunet"\noptions = {x = 1}', "detect.options.x: unknown key; there are onnx,"),
        ('[camera]\nsource = "demo"\noptions = {x = 1}', "camera.options.x: unknown key; there are seed, frames"),
        ('[detect]\ndetector = "opencv_yunet"\noptions = {onnx = "no"}', "detect.options.onnx: 'no' is not a file"),
        ('[detect]\ndetector = "opencv_yunet"', "detect.options: {}: object missing required field `onnx`"),
    ],
)
def test_an_unknown_option_names_the_file_and_what_the_choice_has(raw: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / "mien.toml"
    file.write_text(raw)
    done = CliRunner().invoke(app, ["config", "check", str(file)])
    assert str(done.exception).startswith(f"{file}: {line}")
