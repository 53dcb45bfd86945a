"""Several sinks as one: what one of them does not take hinders no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from edge.errors import MienError
from edge.publish.base import Message, Sink

log = logging.getLogger(__name__)


class Fanout:
    """Hands each message to every sink, in the order of the mapping.

    Args:
        sinks: name to sink, none of them started.
    """

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)
        self._failed: dict[str, str] = {}

    def start(self) -> None:
        """Starts all sinks.

        Raises:
            MienError: one can never work as configured; those already started are stopped.
        """
        started: list[Sink] = []
        try:
            for sink in self._sinks.values():
                sink.start()
                started.append(sink)
        except MienError:
            for sink in started:
                sink.stop(timeout_s=1.0)
            raise

    def send(self, message: Message) -> None:
        """Hands a message to every sink. One that raises against its promise is told once and left out for good."""
        for name, sink in self._sinks.items():
            if name in self._failed:
                continue
            try:
                sink.send(message)
            except (MienError, OSError) as error:
                self._failed[name] = f"failed: {error}"
                log.error("sink %s: %s; it gets no more messages", name, error)

    def stop(self, *, timeout_s: float) -> None:
        """Stops all sinks at the same time: a pipe that nobody reads must not cost the broker its goodbye."""
        threads = [
            threading.Thread(target=sink.stop, kwargs={"timeout_s": timeout_s}, name=f"stop {name}")
            for name, sink in self._sinks.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def status(self) -> str:
        """All sinks' words, ``mqtt: connected, jsonl: writing``."""
        return ", ".join(f"{name}: {status}" for name, (status, _) in self.report().items())

    def problems(self) -> list[str]:
        """All sinks' problems, ``mqtt: outbox in memory only: …``."""
        return [
            f"{name}: {problem}"
            for name, sink in self._sinks.items()
            for problem in ([self._failed[name]] if name in self._failed else sink.problems())
        ]

    def previous(self) -> tuple[str, int] | None:
        """Boot_id and last seq of the start before this one, from the first sink that knows them."""
        return next((mark for sink in self._sinks.values() if (mark := sink.previous())), None)

    def counts(self) -> dict[str, int]:
        """All sinks' counters, ``mqtt.sent``."""
        return {f"{name}.{key}": count for name, (_, counts) in self.report().items() for key, count in counts.items()}

    def report(self) -> dict[str, tuple[str, dict[str, int]]]:
        """Per sink its status and counters, as `edge.publish.encode.Vitals` takes them."""
        return {name: (self._failed.get(name) or sink.status(), sink.counts()) for name, sink in self._sinks.items()}
