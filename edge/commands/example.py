"""`mien example`: files for other programs and for people, ready to use."""

from __future__ import annotations

from importlib import resources
from typing import Final

from edge.errors import UsageError

FILES: Final = {
    "prometheus": "prometheus.yml",
    "prometheus-rules": "prometheus-rules.yml",
    "grafana": "grafana.json",
    "telegraf": "telegraf.conf",
    "node-red": "node-red.json",
    "blueprint-emotion": "blueprint-emotion.yaml",
    "blueprint-camera-away": "blueprint-camera-away.yaml",
    "blueprint-nobody": "blueprint-nobody.yaml",
    "notice": "notice.html",
}
"""Name to its file in ``edge/examples/ready``."""


def read_example(name: str) -> str:
    """Return a file as it is to be saved.

    Args:
        name: one of `FILES`.

    Raises:
        UsageError: an unknown name; the message lists the valid ones.
    """
    if name not in FILES:
        raise UsageError(f"example: {name!r} is unknown; there are {', '.join(FILES)}")
    return (resources.files("edge.examples") / "ready" / FILES[name]).read_text(encoding="utf-8")
