"""The demo's daemon: the command ``mien``, ended together with its parent. Run as ``python -m``."""

from __future__ import annotations

import runpy
import sys

from edge.commands.demo.children import end_with_parent

if __name__ == "__main__":
    sys.argv[0] = "mien"
    end_with_parent()
    runpy.run_module("edge", run_name="__main__")
