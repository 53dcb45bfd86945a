"""Manual page of a command line, out of the same texts as its ``--help``: ``make man``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from edge import __version__


def make_page(app: typer.Typer) -> str:
    """Return the manual page, man(7), of an application and everything below it."""
    root: Any = typer.main.get_command(app)
    lines = [
        f'.TH {root.name.upper()} 1 "" "{root.name} {__version__}"',
        ".SH NAME",
        rf"{root.name} \- {_text(root.help)}",
        ".SH SYNOPSIS",
        rf".B {root.name}",
        r"COMMAND [OPTION]...",
        ".SH COMMANDS",
    ]
    for path, command in _commands(root, root.name):
        lines += [".SS " + _text(path), _text(command.help)]
        for parameter in command.params:
            lines += [".TP", ".B " + _names(parameter), _text(getattr(parameter, "help", None) or "")]
        if command.epilog:
            lines += [".P", _text(command.epilog)]
    return "\n".join(line for line in lines if line) + "\n"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        below = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, below)
        else:
            yield below, command


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _text(parameter.metavar or parameter.name.upper())
    value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    return _text(", ".join(parameter.opts) + value)


def _text(text: str) -> str:
    """Return a text on one line with what roff would take for its own escaped."""
    line = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{line}" if line.startswith((".", "'")) else line
