"""What every command of ``mien-convert`` puts out on the way: progress lines, JSON files, pages."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.console import Console

from edge.errors import ConversionError
from edge.system.files import replace_file

PAGE_FILE: Final = "report.html"


class Progress:
    """What goes on, on standard error: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._start_s = time.monotonic()
        self._status = self.console.status("") if self.console.is_terminal else None

    def __call__(self, text: str) -> None:
        """Says what comes next."""
        line = f"[{time.monotonic() - self._start_s:5.1f} s] {text}"
        if self._status is None:
            print(line, file=self.console.file, flush=True)
        else:
            self._status.update(line)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Shows the spinner meanwhile."""
        if self._status is None:
            yield
            return
        with self._status:
            yield


def encode_json(value: Any) -> bytes:
    """Indented JSON of records with arrays in them; NaN becomes null."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=2) + b"\n"


def write_json(path: Path | None, value: Any) -> None:
    """Writes the file of ``--json``, whole or not at all; nothing without a path.

    Raises:
        ConversionError: it cannot be written.
    """
    if path is None:
        return
    with _named(f"--json: {path}"):
        replace_file(path, encode_json(value))


def page_folder(bundle: Path) -> Path:
    """Where a bundle's ``report.html`` goes: beside it, for it shows pictures and must not travel with the bundle."""
    return bundle.with_name(f"{bundle.name}.report")


def write_page(folder: Path, page: bytes) -> None:
    """Writes ``report.html`` into a folder, whole or not at all.

    Raises:
        ConversionError: it cannot be written.
    """
    with _named(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / PAGE_FILE, page)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """What cannot be written is told with its name."""
    try:
        yield
    except OSError as error:
        problem = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise ConversionError(f"{what}: {problem}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")
