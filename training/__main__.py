"""``python -m training`` is ``mien-train``."""

from training.cli import main

main()
