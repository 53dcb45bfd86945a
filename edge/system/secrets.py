"""Secrets that lie in files: where they are found, and how they are read. They go into no message."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import ConfigError

SECRET_MAX_BYTES = 4096
"""Of a file that holds a password."""


def find_credential(name_or_path: str) -> Path:
    """Where a secret lies: a bare name is one that systemd hands over (``LoadCredential=``), anything else a path.

    systemd.exec(5): ``$CREDENTIALS_DIRECTORY`` is a folder in memory that only the service can read.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and "/" not in name_or_path and (Path(folder) / name_or_path).is_file():
        return Path(folder) / name_or_path
    return Path(name_or_path)


_taken: dict[str, str] = {}
"""Variables that hold a secret, and are no longer in the environment."""


def take_variable(name: str | None) -> None:
    """Take a secret out of the environment, before a child (a pipeline, a delegate's trial) inherits it."""
    if name is not None and name in os.environ:
        _taken[name] = os.environ.pop(name)


def read_variable(name: str, *, key: str) -> str:
    """Return the value of an environment variable, or what it was before `take_variable`.

    Raises:
        ConfigError: there is none.
    """
    secret = os.environ.get(name, _taken.get(name))
    if secret is None:
        raise ConfigError(key, f"{name} is not in the environment")
    return secret


def read_secret(name_or_path: str, *, key: str) -> str:
    """The first line of a file without its end.

    Args:
        name_or_path: see `find_credential`.
        key: the key that names the secret, named in errors.

    Raises:
        ConfigError: a file that cannot be read, is not text, or whose first line is empty.
    """
    path = find_credential(name_or_path)
    try:
        with path.open("rb") as stream:
            text = stream.read(SECRET_MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(key, f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(key, f"{path}: {error.strerror}") from None
    secret = text.partition("\n")[0].rstrip("\r")
    if not secret:
        raise ConfigError(key, f"{name_or_path}: its first line is empty")
    return secret
