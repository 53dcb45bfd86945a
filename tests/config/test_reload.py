"""Which changes of a configuration are applied while the daemon runs."""

import logging

import msgspec
import pytest

from edge.config.loader import make_config, override_config
from edge.config.reload import LIVE, LiveConfig, compare_configs
from edge.config.schema import Config
from edge.errors import ConfigError

WANTED = {"log": {"level": "debug"}, "smooth": {"enter": 0.6}, "camera": {"fps": 5}, "detect": {"score": 0.7}}


def test_differences_are_applied_or_pending_and_pending_ones_stay_different() -> None:
    change = compare_configs(Config(), make_config(WANTED))
    assert change.applied == ("smooth.enter", "log.level")
    assert change.pending == ("camera.fps", "detect.score")
    assert change.config == make_config({key: WANTED[key] for key in ("log", "smooth")})
    again = compare_configs(change.config, make_config(WANTED))
    assert (again.applied, again.pending) == ((), change.pending)


def test_every_key_that_can_be_applied_exists() -> None:
    keys = {
        f"{section.name}.{field.name}"
        for section in msgspec.structs.fields(Config)
        if isinstance(section.default, msgspec.Struct)
        for field in msgspec.structs.fields(type(section.default))
    }
    sections = {key.partition(".")[0] + ".*" for key in keys}
    assert set(LIVE) <= keys | sections


def test_the_device_and_options_are_compared_too() -> None:
    wanted = make_config({"device": "pi", "camera": {"options": {"loop": True}}})
    assert compare_configs(Config(), wanted).pending == ("device", "camera.options")


def test_the_newest_change_is_taken_once() -> None:
    versions = iter([make_config({"publish": {"faces_hz": hz}}) for hz in (1, 2)])
    live = LiveConfig(Config(), lambda: next(versions))
    assert live.take() is None
    live.reload()
    live.reload()
    taken = live.take()
    assert taken is not None
    assert taken.publish.faces_hz == 2
    assert live.take() is None


def test_a_bad_configuration_changes_nothing_and_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def reread() -> Config:
        return override_config(Config(), {"camera.fps": "0"})

    live = LiveConfig(Config(), reread)
    with caplog.at_level(logging.INFO):
        live.reload()
    assert live.present == Config()
    assert live.take() is None
    assert [record.getMessage() for record in caplog.records] == [
        "--set: camera.fps: 0 is not in 1..120; the present configuration stays"
    ]
    with pytest.raises(ConfigError):
        reread()
