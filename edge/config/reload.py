"""Taking over a changed configuration while the daemon runs: what can be applied is, the rest is named."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from edge.config.schema import Config
from edge.errors import MienError, UsageError

log = logging.getLogger(__name__)

LIVE: Final = (
    "log.level",
    "publish.faces_hz",
    "publish.state_hz",
    "publish.health_s",
    "smooth.*",
    "quality.*",
)
"""Keys that are applied while the daemon runs; ``*`` stands for every key of a section."""


@dataclass(frozen=True, slots=True)
class Change:
    """The differences between two configurations.

    Attributes:
        config: the present one with everything in it that can be applied at once.
        applied: dotted keys of that.
        pending: dotted keys that differ, too, but need a restart.
    """

    config: Config
    applied: tuple[str, ...]
    pending: tuple[str, ...]


def compare_configs(present: Config, wanted: Config) -> Change:
    """Sort the differences of two configurations into what can be applied at once and what needs a restart."""
    tree: dict[str, Any] = msgspec.to_builtins(present)
    applied, pending = [], []
    for key, value in _differences(tree, msgspec.to_builtins(wanted)):
        section, _, name = key.rpartition(".")
        if key in LIVE or f"{section}.*" in LIVE:
            tree[section][name] = value
            applied.append(key)
        else:
            pending.append(key)
    return Change(msgspec.convert(tree, Config), tuple(applied), tuple(pending))


class LiveConfig:
    """The configuration in effect; a signal asks for its file to be read again, one thread reads, another applies.

    Args:
        config: as the daemon started with it.
        reread: reads the file again; None where there is none.

    Attributes:
        present: what is in effect.
        is_asked: a reload was requested.
    """

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        self.present = config
        self.is_asked = False
        self._reread = reread
        self._changed: deque[Config] = deque(maxlen=1)

    def ask(self) -> None:
        """Request a reload; may be called by a signal handler."""
        self.is_asked = True

    def reload(self) -> None:
        """Read the file again. A mistake in it is logged in one line, and the present configuration stays."""
        self.is_asked = False
        try:
            self.apply()
        except MienError as error:
            log.error("%s; the present configuration stays", error)

    def apply(self) -> Change:
        """Read the file again and say what that changed.

        Raises:
            MienError: there is no file, or it cannot be used; everything stays as it is.
        """
        if self._reread is None:
            raise UsageError("there is no configuration file to read again")
        change = compare_configs(self.present, self._reread())
        self.present = change.config
        logging.getLogger().setLevel(change.config.log.level.upper())
        if change.applied:
            self._changed.append(change.config)
            log.info("configuration: %s applied", ", ".join(change.applied))
        if change.pending:
            log.warning("configuration: %s: not before a restart", ", ".join(change.pending))
        if not change.applied and not change.pending:
            log.info("configuration: nothing changed")
        return change

    def take(self) -> Config | None:
        """Return the newest configuration that was not taken yet; None where nothing changed."""
        return self._changed.popleft() if self._changed else None


def _differences(present: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their new values; one level of sections, as configurations have."""
    for name, value in wanted.items():
        if present[name] == value:
            continue
        if isinstance(value, dict) and not prefix:
            yield from _differences(present[name], value, f"{name}.")
        else:
            yield prefix + name, value
