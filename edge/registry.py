"""Explicit tables ``key -> "module:Class"``: alternatives of a stage, imported only when chosen."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from edge.errors import MissingDependencyError, UsageError


def load_entry(table: Mapping[str, str], key: str, *, what: str, install: str = "pip install mien") -> Any:
    """Import the class or function behind a key.

    Args:
        table: key to ``"package.module:name"``.
        key: what the user asked for.
        what: the kind of thing, for messages: ``detector``.
        install: the command that installs what the module needs.

    Raises:
        UsageError: an unknown key; the message lists the valid ones.
        MissingDependencyError: the module's own imports failed; the message holds the install line.
    """
    if key not in table:
        raise UsageError(f"{what}: {key!r} is unknown; there are {', '.join(sorted(table))}")
    module, _, name = table[key].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingDependencyError(f"{what} {key!r}", error.name or str(error), install) from error
