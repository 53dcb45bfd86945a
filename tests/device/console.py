"""What a guest tells on its console: lines with ``MIEN`` and a JSON object, between those of its kernel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any


def parse_told(console: str) -> Iterator[dict[str, Any]]:
    """The JSON objects on a console, oldest first; a line that was cut in the middle is no line."""
    for found in re.finditer(r"^MIEN (\{.*\})\r?$", console, re.MULTILINE):
        yield json.loads(found[1])
