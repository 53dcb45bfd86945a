"""`mien privacy`, `privacy.use_context` and the notice."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edge.cli import app
from edge.commands.example import read_example
from edge.commands.privacy import TOLD, show_privacy
from edge.config.loader import load_config
from edge.config.schema import Config
from edge.errors import ConfigError
from edge.publish.topics import TOPICS
from edge.service.check import check_choices


def told(toml: str, tmp_path: Path, *, width: int = 200) -> str:
    file = tmp_path / "mien.toml"
    file.write_text(toml)
    stream = io.StringIO()
    show_privacy(load_config(file), file=file, console=Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_every_topic_is_told() -> None:
    assert list(TOLD) == list(TOPICS)


def test_what_is_told_follows_the_configuration(tmp_path: Path) -> None:
    plain = told('device = "pi"\n', tmp_path)
    assert "localhost:1883" in plain
    assert "not encrypted" in plain
    assert "never" in row(plain, "faces")
    assert row(plain, "the page").split() == ["the", "page", "off"]
    assert "PICTURE" not in plain
    full = told(
        'device = "pi"\n[publish]\nfaces_hz = 5\nhealth_s = 10\nsinks = ["mqtt", "jsonl"]\n'
        '[mqtt]\nhost = "hub"\ntls = true\noutbox_dir = "/var/box"\nrequests = true\n[jsonl]\npath = "/var/all.jsonl"\n'
        '[page]\nenabled = true\nlisten = "[::1]:8089"\npicture = true\ntoken_file = "/etc/t"\n'
        '[homeassistant]\nenabled = true\n[privacy]\nuse_context = "home"\n',
        tmp_path,
    )
    assert "at most 5 a second" in row(full, "faces")
    assert "every 10 s" in row(full, "health")
    assert "hub:8883" in full
    assert "MQTT, encrypted" in full
    assert "/var/box/outbox-camera.db" in full
    assert "grows until you delete it" in row(full, "/var/all.jsonl")
    assert "with the token" in row(full, "http://[::1]:8089/")
    assert "PICTURE" in full
    assert "request/+" in full
    assert "homeassistant/" in full
    assert row(full, "use_context").split() == ["use_context", "home"]


def test_a_camera_s_password_is_not_shown(tmp_path: Path) -> None:
    text = told('[camera]\nsource = "rtsp://me:swordfish@cam/stream1"\n', tmp_path)
    assert "cam/stream1" in text
    assert "swordfish" not in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_it_fits_the_terminal(tmp_path: Path, width: int) -> None:
    lines = told('device = "pi"\n', tmp_path, width=width).splitlines()
    assert max(len(line.rstrip()) for line in lines if str(tmp_path) not in line) <= width


@pytest.mark.parametrize("context", ["workplace", "education"])
def test_at_work_and_at_school_nothing_starts_without_a_reason(tmp_path: Path, context: str) -> None:
    file = tmp_path / "mien.toml"
    file.write_text(f'[privacy]\nuse_context = "{context}"\n')
    with pytest.raises(ConfigError, match=rf"privacy.exemption: unset, and privacy.use_context is {context}"):
        check_choices(load_config(file))
    for arguments in (["run", "--config"], ["privacy", "--config"], ["config", "check"]):
        done = CliRunner().invoke(app, [*arguments, str(file)])
        assert isinstance(done.exception, ConfigError), arguments
    file.write_text(f'[privacy]\nuse_context = "{context}"\nexemption = "warns drowsy crane drivers"\n')
    check_choices(load_config(file))


@pytest.mark.parametrize("reason", ["", "because", " " * 20, "warns drowsy\ncrane drivers"])
def test_a_reason_is_words(tmp_path: Path, reason: str) -> None:
    file = tmp_path / "mien.toml"
    file.write_text(f'[privacy]\nuse_context = "workplace"\nexemption = """{reason}"""\n')
    with pytest.raises(ConfigError, match=r"privacy.exemption: .*the reason in words"):
        load_config(file)


def test_a_configuration_that_does_not_say_what_for_is_good_and_one_line_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mien.toml"
    file.write_text("")
    done = CliRunner().invoke(app, ["config", "check", str(file)])
    assert done.exit_code == 0
    assert "privacy.use_context is unset" in done.output
    file.write_text('[privacy]\nuse_context = "home"\n')
    assert "privacy" not in CliRunner().invoke(app, ["config", "check", str(file)]).output
    assert Config().privacy.use_context is None


def test_the_notice_speaks_four_languages() -> None:
    text = read_example("notice")
    assert [text.count(f'<section lang="{language}">') for language in ("en", "de", "fr", "es")] == [1, 1, 1, 1]
