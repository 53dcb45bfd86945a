"""Tools that tests need beside Python packages."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent


def require_tool(name: str, install: str) -> str:
    """The path of a tool; skips where it is missing, fails where ``MIEN_REQUIRE`` names it."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path:
        return path
    missing(name, install)


def require_library(name: str, install: str) -> Path:
    """A shared library of the system; missing is as in `require_tool`, where it goes by its file's name."""
    found = sorted(Path("/usr/lib").glob(f"*/{name}"))
    if found:
        return found[0]
    missing(Path(name).name, install)


def missing(name: str, install: str) -> NoReturn:
    """Skips for want of something, or fails where ``MIEN_REQUIRE`` names it."""
    message = f"{name} is missing: {install}"
    if name in os.environ.get("MIEN_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)


def cache_folder() -> Path:
    """What takes long to make and may be kept between runs: ``$XDG_CACHE_HOME/mien``, or ``~/.cache/mien``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """No file can grow beyond so many bytes meanwhile, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
