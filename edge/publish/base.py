"""What every sink takes and offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edge.publish.encode import encode
from edge.publish.payloads import Payload


@dataclass(frozen=True, slots=True)
class Reply:
    """Where one who asks wants the answer (MQTT 5).

    Attributes:
        topic: full topic.
        correlation: comes back with the answer; None: nothing does.
    """

    topic: str
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to be published, the same bytes for every sink.

    Attributes:
        kind: its topic, see `edge.publish.topics.TOPICS`.
        payload: a payload struct, or plain text for ``camera``, ``count`` and ``emotion``.
        data: the payload as it is published.
        live_until_ns: for events, the monotonic time after which they are history.
        reply: for answers, where who asked wants them; None: on the topic of the kind.
    """

    kind: str
    payload: Payload | str
    data: bytes
    live_until_ns: int = 0
    reply: Reply | None = None


def make_message(kind: str, payload: Payload | str, *, live_until_ns: int = 0, reply: Reply | None = None) -> Message:
    """Return a message, encoded once."""
    data = payload.encode() if isinstance(payload, str) else encode(payload)
    return Message(kind, payload, data, live_until_ns, reply)


class Sink(Protocol):
    """Takes messages. `send` is called by the inference thread and never blocks on a network or a disk that hangs."""

    def start(self) -> None:
        """Opens the sink; a broker that is not there is a state, not an error.

        Raises:
            ConfigError: the sink can never work as configured (a certificate or password that is missing).
            PublishError: the sink cannot be opened (a file that may not be written).
        """
        ...

    def send(self, message: Message) -> None:
        """Takes one message. What cannot be delivered in time is counted, never raised."""
        ...

    def stop(self, *, timeout_s: float) -> None:
        """Flushes for at most ``timeout_s`` seconds and closes."""
        ...

    def status(self) -> str:
        """One or two words for people: ``connected``, ``refused: Bad user name or password``."""
        ...

    def problems(self) -> list[str]:
        """What somebody should look at, one line each, without numbers that change; empty when all is well."""
        ...

    def previous(self) -> tuple[str, int] | None:
        """After `start`: boot_id and last seq of the start before this one, from a sink that keeps them."""
        ...

    def counts(self) -> dict[str, int]:
        """Counters for the health report: queued, sent, dropped, reconnects."""
        ...


RequestHandler = Callable[[str, bytes, Reply | None], None]
"""Takes a request's verb and payload as they came, and where it wants its answer; never blocks, never raises."""


@runtime_checkable
class RequestSource(Protocol):
    """A sink over which requests can come as well."""

    def listen(self, handler: RequestHandler) -> None:
        """Hands requests over from now on, by a thread of its own; to be called before `Sink.start`."""
        ...
