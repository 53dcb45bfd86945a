"""A configuration with every kind of mistake: it is read, or refused in one line with file and key, exit code 78."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.config.loader import MAX_BYTES, load_config
from edge.config.reference import make_example
from edge.config.schema import Config
from edge.errors import EXIT_CONFIG, ConfigError, config_context
from edge.service.check import check_choices

pytestmark = pytest.mark.timeout(600)

Table = dict[str, Any]


def valid() -> Table:
    """Every key with its default; what is unset has no line in TOML."""

    def without_none(table: Table) -> Table:
        return {
            key: without_none(value) if isinstance(value, dict) else value
            for key, value in table.items()
            if value is not None
        }

    return without_none(msgspec.to_builtins(Config()))


def to_toml(value: Any) -> str:
    """A value in TOML, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {to_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def document(table: Table) -> bytes:
    lines = [f"{json.dumps(key)} = {to_toml(value)}" for key, value in table.items()]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def paths(table: Table, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (*at, key)
        if isinstance(value, dict):
            yield from paths(value, (*at, key))


def inside(table: Table, path: tuple[str, ...]) -> Table:
    for key in path[:-1]:
        table = table[key]
    return table


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
scalars = (
    st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | texts
    | st.sampled_from(["", "x" * 5000, "../../etc/passwd", "rtsp://u:p@h/", "\x1b[2J", "a\nb", "\u202e", "NaN"])
    | st.datetimes()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid configuration with one to three things done to it."""
    table = copy.deepcopy(valid())
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(paths(table)) or [("x",)]))
        where, key = inside(table, path), path[-1]
        match draw(st.sampled_from(["replace", "rename", "drop", "add", "swap"])):
            case "replace":
                where[key] = draw(values)
            case "rename":
                where[draw(texts)] = where.pop(key, 0)
            case "drop":
                where.pop(key, None)
            case "add":
                where[draw(texts)] = draw(values)
            case _:
                other = draw(st.sampled_from(sorted(paths(table)) or [("x",)]))
                where[key] = copy.deepcopy(inside(table, other).get(other[-1], 0))
    return document(table)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The printed example with all keys in effect, and some bytes of it gone, doubled or others."""
    lines = (line.removeprefix("# ") for line in make_example().splitlines() if " = " in line or line.startswith("["))
    data = bytearray("\n".join(lines).encode())
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 40))] = draw(st.binary(max_size=12) | texts.map(str.encode))
    return bytes(data)


def deep(opening: str, closing: str, count: int = 3000) -> bytes:
    return f"camera.options.a = {opening * count}1{closing * count}".encode()


def outcome(file: Path) -> Config | ConfigError:
    """What `mien run` makes of a file before it opens anything."""
    try:
        config = load_config(file)
        with config_context(file):
            check_choices(config)
    except ConfigError as error:
        return error
    return config


def check(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    found = outcome(file)
    if isinstance(found, Config):
        return
    line = str(found)
    assert found.exit_code == EXIT_CONFIG
    assert line.startswith(f"{file}: ")
    assert line.isprintable(), "one line, and nothing that a terminal would obey"
    assert len(line) < len(str(file)) + 700
    assert found.key or "not TOML" in line or "not a configuration" in line


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "mien.toml"


@settings(max_examples=400)
@given(data=mutated())
@example(data=document(valid()))
@example(data=document(valid() | {"": 1}))
@example(data=document({"camera": {"": 1}}))
@example(data=document({"camera.fps": 1}))
@example(data=document({"camera": {"options": {"loop": "x"}}}))
@example(data=document({"mqtt": {"password": "hunter2"}}))
@example(data=b"camera.fps = " + b"9" * 5000)
@example(data=b"camera.fps = " + b"9" * 4000)
@example(data=deep("[", "]"))
@example(data=deep("{a=", "}"))
@example(data=deep("[", "]", 100))
@example(data=b"camera.options." + b".".join([b"a"] * 3000) + b" = 1")
@example(data=b"[camera.options." + b".".join([b"a"] * 3000) + b"]")
@example(data=b'"' + b"k" * 100_000 + b'" = 1')
@example(data=b'device = "' + b"\xf0\x9f\x98\x80" * 60_000 + b'"')
@example(data=b"x" * (MAX_BYTES + 1))
def test_a_mutated_configuration_is_read_or_refused_in_one_line(data: bytes, file: Path) -> None:
    check(data, file)


@settings(max_examples=300)
@given(data=damaged() | st.binary(max_size=300))
@example(data=b"")
@example(data=b"\x00")
@example(data=b"\xff\xfe\x00")
@example(data="\ufeffdevice = 'a'".encode())
@example(data=b"device = 'a'\r\n")
@example(data=b"\x7fELF" + bytes(500))
def test_a_damaged_file_is_read_or_refused_in_one_line(data: bytes, file: Path) -> None:
    check(data, file)


def test_a_password_in_a_value_is_not_repeated(file: Path) -> None:
    file.write_text('camera.source = ["rtsp://anna:hunter2@192.0.2.7/live"]\n')
    assert "hunter2" not in str(outcome(file))


WRONG: dict[str, tuple[bytes, str]] = {
    "type": (b'camera.fps = "fast"', "camera.fps: 'fast': expected `float`, got `str`"),
    "range": (b"mqtt.port = 0", "mqtt.port: 0 is not in 1..65535"),
    "unknown key": ('"ключ" = 1'.encode(), "'ключ': unknown key; there are device,"),
    "section as value": (b"camera = 5", "camera: 5: expected `object`, got `int`"),
    "nested": (deep("[", "]"), "not TOML that can be read: nested too deeply"),
    "dotted": (b"camera.options." + b".".join([b"a"] * 99) + b" = 1", "camera: is nested deeper than 16 levels"),
    "binary": (b"\x7fELF\xff\x00", "not TOML: 'utf-8' codec can't decode"),
    "huge": (b"#" * (MAX_BYTES + 1), f"is longer than {MAX_BYTES} bytes: not a configuration"),
    "digits": (b"camera.fps = " + b"9" * 5000, "not TOML: "),
    "detector": (b'detect.detector = "hog"', "detect.detector: 'hog' is unknown; there are yunet, opencv_yunet"),
    "tracker": (b'track.tracker = "x"', "track.tracker: 'x' is unknown; there are kalman"),
    "delegate": (b'emotion.delegate = "npu"', "emotion.delegate: 'npu' is unknown; there are xnnpack, edgetpu"),
    "sink": (b'publish.sinks = ["kafka"]', "publish.sinks: 'kafka' is unknown; there are mqtt, jsonl"),
    "scheme": (b'camera.source = "ftp://a/live"', "camera.source: 'ftp://a/live': ftp:// is unknown; allowed are"),
    "option": (b'camera.options = {lop = true}\ncamera.source = "a.mp4"', "camera.options.lop: unknown key; there are"),
}


@pytest.mark.parametrize("command", [("run", "--config"), ("config", "check")], ids=" ".join)
@pytest.mark.parametrize("kind", WRONG)
def test_the_commands_say_it_in_one_line_and_exit_with_78(kind: str, command: tuple[str, ...], tmp_path: Path) -> None:
    data, line = WRONG[kind]
    (tmp_path / "mien.toml").write_bytes(data)
    expect(tmp_path / "mien.toml", command, line)


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    expect(tmp_path, ("run", "--config"), "Is a directory")
    expect(tmp_path / "none.toml", ("run", "--config"), "No such file or directory")
    expect(tmp_path / ("x" * 300), ("run", "--config"), "File name too long")
    expect(Path("/dev/zero"), ("run", "--config"), f"is longer than {MAX_BYTES} bytes: not a configuration")
    expect(Path("/proc/self/mem"), ("run", "--config"), "Input/output error")
    (tmp_path / "loop").symlink_to("loop")
    expect(tmp_path / "loop", ("run", "--config"), "Too many levels of symbolic links")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "mien.toml").touch(mode=0o000)
    expect(tmp_path / "mien.toml", ("run", "--config"), "Permission denied")


def expect(file: Path, command: tuple[str, ...], line: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "edge", *command, str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.stderr.startswith(f"mien: error: {file}: {line}"), found.stderr[-2000:]
    assert found.stderr.count("\n") == 1, found.stderr
    assert found.returncode == EXIT_CONFIG
