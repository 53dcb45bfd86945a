"""What every sink offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

Kind = Literal["info", "health", "camera", "state", "count", "emotion", "event", "faces"]
"""What a message is about; in MQTT the last level of its topic."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to be published, the same for every sink.

    Attributes:
        kind: see `Kind`.
        payload: a payload struct of `edge.publish.payloads`, or plain text for ``camera``, ``count`` and ``emotion``.
    """

    kind: Kind
    payload: msgspec.Struct | str


class Sink(Protocol):
    """Takes messages. `send` is called by the inference thread and never blocks on a network or a disk that hangs."""

    def start(self) -> None:
        """Opens the sink; a broker that is not there is a state, not an error.

        Raises:
            PublishError: the sink can never work as configured (file not writable, certificate missing).
        """
        ...

    def send(self, message: Message) -> None:
        """Takes one message. What cannot be delivered in time is counted, never raised."""
        ...

    def stop(self, *, timeout_s: float) -> None:
        """Flushes for at most ``timeout_s`` seconds and closes."""
        ...

    def status(self) -> str:
        """One or two words for people: ``connected``, ``refused: bad user name or password``."""
        ...

    def counts(self) -> dict[str, int]:
        """Counters for the health report: queued, sent, dropped, reconnects."""
        ...
