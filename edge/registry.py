"""Explicit tables of names to modules: alternatives of a stage and public names, imported only when used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from edge.errors import BrokenDependencyError, MissingDependencyError, UsageError
from edge.packages import install_line


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` (PEP 562) that imports each public name when it is first used.

    Args:
        package: its name, for the error.
        modules: public name to the module that has it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return get


def load_entry(table: Mapping[str, str], key: str, *, what: str, install: str | None = None) -> Any:
    """Import the class or function behind a key.

    Args:
        table: key to ``"package.module:name"``.
        key: what the user asked for.
        what: the kind of thing, for messages: ``detector``.
        install: the command that installs what the module needs; None for what every installation has.

    Raises:
        UsageError: an unknown key; the message lists the valid ones.
        MissingDependencyError: a package that it imports is missing; the message holds the install line.
        BrokenDependencyError: one is installed and cannot be loaded.
    """
    if key not in table:
        raise UsageError(f"{what}: {key!r} is unknown; there are {', '.join(sorted(table))}")
    module, _, name = table[key].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        package = error.name or str(error)
        raise MissingDependencyError(f"{what} {key!r}", package, install or install_line()) from error
    except ImportError as error:
        raise BrokenDependencyError(f"{what} {key!r}: {error.name or 'a package'}", error) from error
