"""The demo's daemon: the command ``mien``, ended together with its parent. Run as ``python -m``."""

from __future__ import annotations

import sys

from edge.demo.children import end_with_parent

if __name__ == "__main__":
    from edge.cli import main

    sys.argv[0] = "mien"
    end_with_parent()
    main()
