"""Manual pages are made of the texts of the help, and read by man's own formatter without a complaint."""

from __future__ import annotations

import subprocess

from tools import require_tool

from edge.cli import app
from edge.commands.man import make_page


def test_every_command_is_in_the_page_and_groff_has_nothing_to_say() -> None:
    groff = require_tool("groff", "apt install groff")
    done = subprocess.run(
        [groff, "-Kutf8", "-man", "-ww", "-Tutf8", "-P-cbou"],
        input=make_page(app),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = " ".join(done.stdout.split())
    for words in ("config check", "bundle install", "Print the JSON Schema", "MIEN(1)"):
        assert words in shown
