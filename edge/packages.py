"""How a package that is missing is installed from where Mien was: its name is on no public index of Mien's."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "mien"
RUNTIMES = ("ai_edge_litert", "tflite_runtime")
"""Packages that hold the interpreter, the better one first."""


def install_line(extra: str = "") -> str:
    """Return a command that installs what an extra needs, or what Mien itself needs, into this environment.

    It names the packages, not Mien: that works for an installation from a checkout, a wheel or a wheelhouse alike. In a
    checkout that was never installed it names the checkout.

    Args:
        extra: of ``pyproject.toml``; empty for what every installation needs.
    """
    try:
        needed = requirements(extra, metadata.requires(DISTRIBUTION) or [])
    except metadata.PackageNotFoundError:
        needed = []
    if not needed:
        root = Path(__file__).resolve().parent.parent
        needed = [f"{root}[{extra}]" if extra else str(root)]
    return " ".join([shlex.quote(sys.executable), "-m pip install", *map(shlex.quote, needed)])


def requirements(extra: str, declared: list[str]) -> list[str]:
    """Return the requirements of an extra, those of extras that it names included.

    Args:
        extra: its name; empty for the requirements without one.
        declared: as the metadata has them: ``amqtt>=0.11; extra == "demo"``.
    """
    found: list[str] = []
    for line in declared:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        named = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", marker)
        if (named[1] if named else "") != extra:
            continue
        own = re.fullmatch(rf"{DISTRIBUTION}\[([\w.-]+)\]", requirement)
        if own:
            found += requirements(own[1], declared)
        else:
            found.append("; ".join(filter(None, (requirement.replace(" ", ""), "" if named else marker))))
    return list(dict.fromkeys(found))
