"""Real delegate libraries, built from ``infer/delegate.c``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools import require_tool

SOURCE = Path(__file__).parent / "infer" / "delegate.c"


def build_delegate(target: Path, *macros: str) -> Path:
    """Builds a delegate library; ``delegate.c`` says what the macros do."""
    gcc = require_tool("gcc", "apt-get install gcc libc6-dev")
    defined = [f"-D{macro}" for macro in macros]
    # Built elsewhere and renamed: who waits for the library must not find a half of it.
    partial = target.with_suffix(".partial")
    subprocess.run([gcc, "-shared", "-fPIC", "-O1", *defined, "-o", str(partial), str(SOURCE)], check=True)
    partial.rename(target)
    return target
