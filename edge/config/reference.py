"""Commented example, the table of `edge/README.md` and JSON Schema, made from the configuration's types."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from edge.config.loader import bounds_of
from edge.config.schema import Config

UNSET = '"…"'
TYPE_NAMES = {"boolean": "true · false", "string": "text", "array": "list", "object": "table"}

HEADER = """\
# Mien, one camera. Every key is optional; what stands here commented out is the default.
# Check it with: mien config check FILE
"""


def make_example() -> str:
    """Return a complete, commented ``mien.toml`` in which every key stands with its description and default."""
    lines = [HEADER]
    for section, rows in _sections():
        lines.append(f"\n[{section}]" if section else "")
        for key, default, allowed, description in rows:
            lines += textwrap.wrap(
                f"{description} ({allowed})" if any(map(str.isdigit, allowed)) else description,
                116,
                initial_indent="# ",
                subsequent_indent="# ",
            )
            lines.append(f"# {key} = {default or UNSET}")
    return "\n".join(lines).replace("\n\n\n", "\n\n").strip() + "\n"


def make_table() -> str:
    """Return `edge/README.md`'s Markdown table: key, default, allowed, meaning."""
    rows = ["| key | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for section, fields in _sections():
        for key, default, allowed, description in fields:
            dotted = f"{section}.{key}" if section else key
            rows.append(f"| `{dotted}` | {f'`{default}`' if default else 'unset'} | {allowed} | {description} |")
    return "\n".join(rows) + "\n"


def make_schema() -> dict[str, Any]:
    """Return the configuration as JSON Schema (for editors: Even Better TOML, taplo)."""
    schema: dict[str, Any] = msgspec.json.schema(Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


Row = tuple[str, str, str, str]


def _sections() -> Iterator[tuple[str, list[Row]]]:
    fields = msgspec.structs.fields(Config)
    yield "", [_row(field) for field in fields if not isinstance(field.default, msgspec.Struct)]
    for field in fields:
        if isinstance(field.default, msgspec.Struct):
            yield field.name, [_row(inner) for inner in msgspec.structs.fields(type(field.default))]


def _row(field: msgspec.structs.FieldInfo) -> Row:
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    text = "" if default is None else json.dumps(default)  # an empty table is the same in TOML
    schema = msgspec.json.schema(field.type)
    return field.name, text, _allowed(field.type, schema), str(schema.get("description", ""))


def _allowed(kind: Any, schema: dict[str, Any]) -> str:
    options = [schema, *schema.get("anyOf", [])]
    for option in options:
        if "enum" in option:
            return " · ".join(f"`{value}`" for value in option["enum"])
    bounds = bounds_of(kind)
    if bounds:
        return f"{bounds[0]:g} … {bounds[1]:g}"
    kinds = {option.get("type") for option in options} - {None, "null"}
    return TYPE_NAMES.get(next(iter(kinds), ""), "number")


if __name__ == "__main__":
    print(make_table(), end="")
