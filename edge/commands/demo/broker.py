"""An MQTT broker that lives as long as the demo: a child process that only this machine can reach.

A process of its own, so that its work does not show in the pipeline's latency. It speaks MQTT 3.1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator

from edge.commands.demo.children import start_child, stop_child
from edge.errors import MienError, MissingDependencyError
from edge.packages import install_line

HOST = "127.0.0.1"
USUAL_PORT = 18830
"""Taken where it is free, so that the line to subscribe with is the same every time."""
ATTEMPTS = 5
"""Between finding a free port and listening on it somebody else may take it."""


@contextlib.contextmanager
def run_broker() -> Iterator[int]:
    """Run the broker for the time of a ``with`` block.

    Yields:
        Its port on 127.0.0.1; it accepts connections.

    Raises:
        MissingDependencyError: amqtt is not installed.
        MienError: it did not start; the message holds its own words.
    """
    if importlib.util.find_spec("amqtt") is None:
        raise MissingDependencyError("mien demo", "amqtt", install_line("demo"))
    child = start_child(__name__)
    try:
        yield _read_port(child)
    finally:
        stop_child(child)


def _read_port(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None
    assert child.stderr is not None
    line = child.stdout.readline()
    if line.strip().isdigit():
        return int(line)
    words = child.stderr.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
    raise MienError(f"the embedded broker did not start: {words[-1]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _serve() -> None:
    """Run the child: listen, print the port, stop when standard input closes."""
    from amqtt.broker import Broker
    from amqtt.errors import BrokerError

    for attempt in range(ATTEMPTS):
        port = _free_port() if attempt else USUAL_PORT
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        try:
            await broker.start()
            break
        except BrokerError:
            if attempt == ATTEMPTS - 1:
                raise
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await broker.shutdown()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # amqtt tells of every connection; what matters comes as an exception
    asyncio.run(_serve())
