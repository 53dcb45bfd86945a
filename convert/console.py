"""What every command of ``mien-convert`` puts out on the way: progress lines, JSON files, pages."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from edge.errors import ConversionError
from edge.system.files import encode_json, replace_file

PAGE_FILE: Final = "report.html"
Note = Callable[[str], None]
"""Called with a line at each step of long work."""


class Progress:
    """The steps of a command on standard error: a spinner on a terminal, plain lines elsewhere; a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._start_s = time.monotonic()
        self._status = self._console.status("") if self._console.is_terminal else None

    def __call__(self, text: str) -> None:
        """Show the step that begins."""
        line = f"[{time.monotonic() - self._start_s:5.1f} s] {text}"
        if self._status is None:
            print(line, file=self._console.file, flush=True)
        else:
            self._status.update(Text(line))  # not markup: paths have brackets, too

    def __enter__(self) -> Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()


def ignore_note(_: str) -> None:
    """Drop a progress line."""


def encode_report(report: Any) -> bytes:
    """Return a report as indented JSON; arrays become lists, NaN null."""
    return encode_json(report, enc_hook=lambda value: value.tolist())


def write_json(path: Path | None, report: Any) -> None:
    """Write the file of ``--json``, whole or not at all; nothing without a path.

    Raises:
        ConversionError: it cannot be written.
    """
    if path is not None:
        with _naming(f"--json: {path}"):
            replace_file(path, encode_report(report))


def page_folder(bundle: Path) -> Path:
    """Return the folder of a bundle's ``report.html``: beside it, for the page shows pictures and must not travel."""
    return bundle.with_name(f"{bundle.name}.report")


def write_page(folder: Path, page: bytes) -> None:
    """Write ``report.html`` into a folder, whole or not at all.

    Raises:
        ConversionError: it cannot be written.
    """
    with _naming(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / PAGE_FILE, page)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Put the name of what cannot be written into the error."""
    try:
        yield
    except OSError as error:
        problem = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise ConversionError(f"{what}: {problem}") from None
