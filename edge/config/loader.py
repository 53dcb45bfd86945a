"""The one reader of TOML files: configuration, recipes and search spaces; every mistake is one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge.config.schema import PATTERNS_IN_WORDS, Config
from edge.errors import ConfigError, config_context
from edge.system.redact import redact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1_048_576
"""Of a configuration file."""
MAX_DEPTH = 16
"""Of tables and lists in one another."""
SHOWN_MAX = 80
"""Characters of a value in a message."""

S = TypeVar("S", bound=msgspec.Struct)


def load_config(path: Path, *, overrides: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file.

    Args:
        path: TOML file.
        overrides: dotted key to value as written on the command line (``detect.score`` to ``0.02``).

    Raises:
        ConfigError: no such file, not TOML, a key unknown or out of range; one line
            with file, key, value and what is allowed.
    """
    with config_context(path):
        return make_config(read_toml(path), overrides=overrides)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most `MAX_BYTES`.

    Raises:
        ConfigError: the file cannot be read or is not TOML; the message does not name it (`config_context` does).
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError("", error.strerror or str(error)) from None
    if len(data) > MAX_BYTES:
        raise ConfigError("", f"is longer than {MAX_BYTES} bytes: not a configuration")
    try:
        raw: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise ConfigError("", "not TOML that can be read: nested too deeply") from None
    except ValueError as error:  # a mistake in the TOML, no UTF-8, an integer with thousands of digits
        raise ConfigError("", f"not TOML: {error}") from None
    return raw


def make_config(raw: Mapping[str, Any] | None = None, *, overrides: Mapping[str, str] | None = None) -> Config:
    """Decode a configuration from nested mappings; see `load_config`.

    Raises:
        ConfigError: a key unknown or out of range.
    """
    return override_config(decode_options(dict(raw or {}), Config), overrides or {})


def override_config(config: Config, overrides: Mapping[str, str]) -> Config:
    """Return a configuration with some keys replaced.

    Args:
        config: the configuration.
        overrides: dotted key to value as written on the command line (``detect.score`` to ``0.02``).

    Raises:
        ConfigError: a key unknown or out of range.
    """
    if not overrides:
        return config
    tree: dict[str, Any] = msgspec.to_builtins(config)
    with config_context("--set"):
        for key, value in overrides.items():
            _set(tree, key, value)
        return decode_options(tree, Config)


def decode_options(raw: Mapping[str, Any], kind: type[S], *, key: str = "") -> S:
    """Decode one table into its typed options.

    Args:
        raw: the table.
        kind: the options' struct.
        key: dotted key of the table itself.

    Raises:
        ConfigError: a key unknown or out of range; the message names the value and what is allowed.
    """
    for name, value in raw.items():
        if _is_deeper(value, MAX_DEPTH):
            dotted = ".".join(filter(None, (key, quoted(name))))
            raise ConfigError(dotted, f"is nested deeper than {MAX_DEPTH} levels")
    unknown = _unknown_key(raw, kind, key)
    if unknown:
        allowed = f"there are {', '.join(unknown[1])}" if unknown[1] else "no key is allowed here"
        raise ConfigError(unknown[0], f"unknown key; {allowed}")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
    for pattern, words in PATTERNS_IN_WORDS.items():
        problem = problem.replace(f"`str` matching regex {pattern!r}", words)
    where = where.strip("`").lstrip(".")
    value, declared = _look_up(raw, kind, where.split("."))
    bounds = bounds_of(declared)
    if bounds and isinstance(value, int | float) and not isinstance(value, bool):
        problem = f"{shown(value)} is not in {bounds[0]:g}..{bounds[1]:g}"
    elif (choices := _choices_of(declared)) and isinstance(value, str):
        problem = f"{shown(value)}: not one of {', '.join(choices)}"
    else:
        problem = f"{shown(value)}: {problem[:1].lower()}{problem[1:]}"
    raise ConfigError(".".join(filter(None, (key, where))), problem)


def shown(value: Any) -> str:
    """Return a value as messages show it: on one line, shortened, without secrets."""
    text = repr(redact(value)) if isinstance(value, str) else redact(repr(value))
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 1]}…"


def quoted(name: str) -> str:
    """Return a key as it would have to be written in TOML, shortened."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) else shown(name)


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, Mapping | list)
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
    return bool(level)


def _set(tree: dict[str, Any], key: str, text: str) -> None:
    """Put a value written on the command line into the tree; TOML where it parses, plain text for text keys."""
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(key, "unknown key")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    is_text_key = isinstance(tree.get(last), str)  # `--set camera.source=0` means the text "0"
    tree[last] = text if is_text_key and not isinstance(value, str) else value


def _unknown_key(raw: Mapping[str, Any], kind: type[msgspec.Struct], at: str) -> tuple[str, list[str]] | None:
    """Return the first key that the struct does not have, with those that it has there."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in raw.items():
        dotted = ".".join(filter(None, (at, quoted(name))))
        if name not in fields:
            return dotted, list(fields)
        inner = fields[name]
        if isinstance(value, Mapping) and _is_struct(inner):
            found = _unknown_key(value, inner, dotted)
            if found:
                return found
    return None


def _look_up(raw: Any, kind: Any, path: list[str]) -> tuple[Any, Any]:
    """Return the value at a path, as far as the table goes, and the type declared for it, or None."""
    value = raw
    for part in path:
        name = part.partition("[")[0]
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        fields = msgspec.structs.fields(kind) if _is_struct(kind) else ()
        kind = next((field.type for field in fields if field.encode_name == part), None)
    return value, kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _choices_of(kind: Any) -> list[str]:
    """Return the words that a type allows, where it is a choice."""
    schema = {} if kind is None else msgspec.json.schema(kind)
    return [str(word) for word in schema.get("enum", ())]


def bounds_of(kind: Any) -> tuple[float, float] | None:
    """Return the smallest and largest number that a type allows, where it declares both."""
    schema = {} if kind is None else msgspec.json.schema(kind)
    for option in (schema, *schema.get("anyOf", ())):
        low = option.get("minimum", option.get("exclusiveMinimum"))
        if low is not None and "maximum" in option:
            return low, option["maximum"]
    return None
