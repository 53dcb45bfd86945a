"""Mien to look at: real pictures of people through the real pipeline, over a real broker, onto the terminal."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Whether somebody asked for the end.

    A plain flag: the handler of a signal sets it in the main thread, which may be inside the lock of a
    `threading.Event` at that moment and would wait for itself.
    """

    asked = False


def run_demo(*, seconds: float = 30.0, camera: str | None = None) -> int:
    """Runs the demo on this terminal, or as plain lines where there is none.

    Args:
        seconds: how long; 0: until Ctrl-C.
        camera: a source to use instead of the scene of portraits, written as in ``camera.source``.

    Returns:
        The exit code; Ctrl-C is a clean end.

    Raises:
        MissingDependencyError: the embedded broker's package is not installed.
        MienError: the daemon or the broker did not start.
    """
    with _stop_on_signals() as stop:
        from edge.demo.run import run  # the daemon imports this package for the scene and needs none of the rest

        return run(seconds=seconds, camera=camera, stop=stop)


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[StopRequest]:
    """Ctrl-C and SIGTERM become a request, so that everything is closed in order, whenever they come."""
    stop = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        stop.asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
