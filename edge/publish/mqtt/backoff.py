"""How long to wait before the next connection, and which version of the protocol it speaks."""

from __future__ import annotations

import logging
import random
from typing import Final, Literal

from edge.publish.mqtt.connection import ConnectError, Version

log = logging.getLogger(__name__)

_UNANSWERED_MAX: Final = 2


class Backoff:
    """Waits between attempts: uniform in 0..min(cap, base · 2^n), "full jitter".

    Source: M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015.

    Args:
        base_s: bound of the first wait.
        cap_s: bound of all waits.
        rng: source of randomness.
    """

    def __init__(self, *, base_s: float = 1.0, cap_s: float = 60.0, rng: random.Random | None = None) -> None:
        self._base_s, self._cap_s = base_s, cap_s
        self._rng = rng or random.Random()
        self._failures = 0

    def next_s(self) -> float:
        """Return the next wait in seconds."""
        bound_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._rng.uniform(0.0, bound_s)

    def reset(self) -> None:
        """Start over after a success."""
        self._failures = 0


class VersionChoice:
    """The protocol version of the next connection.

    ``auto`` goes from 5 to 3.1.1 once 5 is refused, and back if 3.1.1 fares no better. An old broker may refuse by
    hanging up, or misread CONNECT and wait for more of it for ever: two of these in a row count as a refusal. Not of a
    broker that took 5 before: it is ill, not old.

    Args:
        configured: ``mqtt.version``.

    Attributes:
        version: of the next connection.
    """

    def __init__(self, configured: Literal["auto", "5", "3.1.1"]) -> None:
        self.version: Version = "3.1.1" if configured == "3.1.1" else "5"
        self._is_auto = configured == "auto"
        self._unanswered = 0
        self._speaks_5 = False

    def succeeded(self) -> None:
        """Note that the broker took this version."""
        self._unanswered = 0
        self._speaks_5 = self._speaks_5 or self.version == "5"

    def failed(self, error: ConnectError) -> None:
        """Note that there was no connection, and choose anew."""
        if not self._is_auto or error.trouble not in ("version", "closed", "no_answer"):
            return
        if self._speaks_5 and error.trouble != "version":
            return
        self._unanswered += 1
        if self.version == "3.1.1":
            self.version, self._unanswered = "5", 0
        elif error.trouble == "version" or self._unanswered >= _UNANSWERED_MAX:
            log.info("mqtt: trying MQTT 3.1.1")
            self.version, self._unanswered = "3.1.1", 0
