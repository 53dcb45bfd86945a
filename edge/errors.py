"""The error tree. Every message is one line: file, key, value, what is allowed.

The command line prints ``mien: error: <message>`` and exits with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_CLEAN = 0
EXIT_RUNTIME = 1
EXIT_USAGE = 2
EXIT_GATE_FAILED = 3
EXIT_UNDECIDED = 4
EXIT_CONFIG = 78


class MienError(Exception):
    """Root of every error that Mien raises on purpose."""

    exit_code = EXIT_RUNTIME


class UsageError(MienError, ValueError):
    """A command line that cannot be carried out as written."""

    exit_code = EXIT_USAGE


class ConfigError(MienError, ValueError):
    """A configuration that cannot be used.

    Attributes:
        key: dotted key, ``camera.fps``; empty where the whole file is meant.
        problem: what is wrong and what is allowed.
        file: the configuration file, or a name such as ``--set``; empty until `config_context` attaches it.
    """

    exit_code = EXIT_CONFIG

    def __init__(self, key: str, problem: str, *, file: str | Path = "") -> None:
        super().__init__(key, problem)
        self.key, self.problem, self.file = key, problem, str(file)

    def __str__(self) -> str:
        key = self.key if self.key.isprintable() else repr(self.key)
        return ": ".join(filter(None, (self.file, key, self.problem)))


@contextmanager
def config_context(file: str | Path) -> Iterator[None]:
    """Attach the name of the configuration's file to each `ConfigError` that passes without one."""
    try:
        yield
    except ConfigError as error:
        error.file = error.file or str(file)
        raise


class FileError(MienError):
    """Base of errors about one file, folder or source.

    Attributes:
        file: the file or folder, or the source as the user wrote it without its secrets.
        problem: what is wrong and what is allowed.
    """

    def __init__(self, file: str | Path, problem: str) -> None:
        self.file, self.problem = str(file), problem
        super().__init__(f"{file}: {problem}")


class BundleError(FileError, ValueError):
    """A model bundle that is incomplete, damaged or of an unknown kind; ``file`` is the one inside it that is wrong."""

    exit_code = EXIT_CONFIG


class WrongTaskError(BundleError):
    """A bundle for something else: an emotion model where a detector belongs. A mistake, no damage."""


class GoldenMismatchError(BundleError):
    """A model that does not reproduce its golden samples on the delegate in use."""


class DataError(FileError, ValueError):
    """Data (pictures, labels, a data set) that cannot be read or used as asked."""

    exit_code = EXIT_CONFIG


class SourceError(FileError, OSError):
    """A camera or file that cannot be opened or read."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """There is no such camera, file or folder."""


class SourceBusyError(SourceError):
    """The camera is held by another process."""


class SourcePermissionError(SourceError, PermissionError):
    """The device or file may not be opened by this user."""


class SourceLostError(SourceError):
    """A camera that was open stopped delivering frames; the daemon reopens it."""


class MissingDependencyError(MienError, ImportError):
    """An optional package is needed and not installed; the message holds the install line."""

    def __init__(self, needed_for: str, package: str, install: str) -> None:
        self.needed_for, self.package, self.install = needed_for, package, install
        super().__init__(f"{needed_for} needs {package}: {install}")


class BrokenDependencyError(MienError, ImportError):
    """A package that is installed cannot be loaded: too little memory, a library that is missing or of another machine.

    It may work at the next start, so it is a run-time failure.
    """

    def __init__(self, package: str, reason: BaseException) -> None:
        self.package = package
        said = str(reason) or "too little memory"
        super().__init__(f"{package} is installed, but cannot be loaded: {said}")


class InferenceError(MienError, RuntimeError):
    """A model that cannot be loaded or run by the interpreter."""


class ModelFileError(FileError, ValueError):
    """A model brought for conversion that is missing, damaged or of a kind that cannot be converted."""

    exit_code = EXIT_CONFIG


class ConversionError(MienError, RuntimeError):
    """A conversion that was begun and could not be finished."""


class TrainingError(MienError, RuntimeError):
    """Training that cannot go on; the last good checkpoint is kept."""


class PublishError(MienError, OSError):
    """A sink that cannot be opened."""
