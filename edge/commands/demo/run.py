"""`mien demo`: a real broker, subscriber and daemon; this process only listens and shows."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from edge.commands.demo.broker import HOST, run_broker
from edge.commands.demo.children import start_child, stop_child
from edge.commands.demo.listener import Listener
from edge.commands.demo.story import Story
from edge.commands.demo.terminal import Screen, open_screen
from edge.commands.demo.view import FPS
from edge.errors import EXIT_CLEAN, MienError
from edge.system.redact import redact

BASE = "mien/demo/camera"
DRAW_INTERVAL_S = 0.1
CLEAN_CODES = (EXIT_CLEAN, -signal.SIGTERM)
"""The second one where it was told to end before it had begun to listen to signals."""
CAMERA_LOST = "camera lost: "
"""In the daemon's log, before the reason."""
CAMERA_PATIENCE_S = 5.0
"""For a camera that is lost and has not shown anything yet."""
FAREWELL_S = 1.0
"""For what the daemon says last to come back from the broker."""


class StopRequest:
    """A request to stop.

    A plain flag: the handler of a signal sets it in the main thread, which may be inside the lock of a
    `threading.Event` at that moment and would wait for itself.
    """

    asked = False


def run_demo(*, seconds: float = 30.0, camera: str | None = None) -> int:
    """Run the demo on this terminal, or as plain lines where there is none.

    Args:
        seconds: how long; 0: until Ctrl-C.
        camera: a source to use instead of the scene of portraits, written as in ``camera.source``.

    Returns:
        The exit code; Ctrl-C is a clean end.

    Raises:
        MissingDependencyError: the embedded broker's package is not installed.
        MienError: the daemon or the broker did not start.
    """
    with stop_on_signals() as stop:
        return _run(seconds=seconds, camera=camera, stop=stop)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
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


def _run(*, seconds: float, camera: str | None, stop: StopRequest) -> int:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(run_broker())
        listener = stack.enter_context(Listener(host=HOST, port=port, base=BASE))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-demo-")))
        story = Story()
        log = stack.enter_context((folder / "daemon.log").open("w+b"))
        daemon = start_child("edge.commands.demo.daemon_child", *_daemon_arguments(folder, port, camera), log=log)
        stack.callback(stop_child, daemon)
        screen = open_screen(port=port, seconds=seconds, has_camera=camera is not None)
        with screen:
            _watch(daemon, listener, story, screen, seconds=seconds, stop=stop)
            code = stop_child(daemon) if daemon.poll() is None else daemon.returncode
            if code in CLEAN_CODES:
                _drain(listener, story, screen, until_s=time.monotonic() + FAREWELL_S)
        if code not in CLEAN_CODES:
            raise _failure(log, code)
        if story.never_saw and not stop.asked:
            raise _no_camera(log, camera)
        screen.summarize(story)
    return EXIT_CLEAN


def _watch(
    daemon: subprocess.Popen[bytes],
    listener: Listener,
    story: Story,
    screen: Screen,
    *,
    seconds: float,
    stop: StopRequest,
) -> None:
    """Show what arrives until the time is over (from when the daemon is online), a stop, or the daemon's end.

    A camera that is lost before its first picture gets `CAMERA_PATIENCE_S` to come.
    """
    end_s: float | None = None
    came_s = time.monotonic()
    while not stop.asked and daemon.poll() is None:
        if end_s is None and seconds and story.availability == "online":
            end_s = time.monotonic() + seconds
        if end_s is not None and time.monotonic() >= end_s:
            return
        _take_all(listener, story, screen)
        screen.show(story)
        if not story.never_saw:
            came_s = time.monotonic()
        elif time.monotonic() - came_s >= CAMERA_PATIENCE_S:
            return
        time.sleep(DRAW_INTERVAL_S)


def _take_all(listener: Listener, story: Story, screen: Screen) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            level, received = listener.messages.get_nowait()
            story.take(level, received)
            screen.tell(level, received)


def _drain(listener: Listener, story: Story, screen: Screen, *, until_s: float) -> None:
    """Take what the daemon said while it stopped; its last word is its availability."""
    while story.availability != "offline" and time.monotonic() < until_s:
        _take_all(listener, story, screen)
        time.sleep(DRAW_INTERVAL_S / 5)
    _take_all(listener, story, screen)


def _daemon_arguments(folder: Path, port: int, camera: str | None) -> tuple[str, ...]:
    """Write the daemon's configuration and say how to run it with that."""
    config = folder / "demo.toml"
    config.write_text(make_config_text(port=port, camera=camera), encoding="utf-8")
    return "run", "--config", str(config)


def make_config_text(*, port: int, camera: str | None) -> str:
    """Return the demo's configuration: everything else is as it is by default.

    Args:
        port: of the broker on this machine.
        camera: a source, or None for the scene of portraits.
    """
    prefix, device, name = BASE.split("/")
    pace = f"fps = {FPS}\n" if camera is None else ""
    return (
        f"device = {json.dumps(device)}\n"
        f"[camera]\nsource = {json.dumps(camera or 'demo')}\nname = {json.dumps(name)}\n{pace}"
        "[publish]\nfaces_hz = 10\nstate_hz = 10\nhealth_s = 1\n"
        f"[mqtt]\nhost = {json.dumps(HOST)}\nport = {port}\nprefix = {json.dumps(prefix)}\n"
        'version = "3.1.1"\n'  # amqtt speaks nothing newer
        '[log]\nlevel = "warning"\n'
    )


def _failure(log: IO[bytes], code: int) -> MienError:
    """Return the daemon's own last words as an error with its exit code."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    words = lines[-1].removeprefix("mien: error: ") if lines else f"the daemon ended with exit code {code}"
    error = MienError(words)
    error.exit_code = code if code > 0 else MienError.exit_code
    return error


def _no_camera(log: IO[bytes], camera: str | None) -> MienError:
    """Return why the camera showed nothing, in the daemon's words, and what to do."""
    log.seek(0)
    said = [line for line in log.read().decode(errors="replace").splitlines() if CAMERA_LOST in line]
    why = said[-1].partition(CAMERA_LOST)[2] if said else f"{redact(camera or 'demo')}: no picture came"
    return MienError(
        f"camera: {why}; `mien demo` alone shows pictures of people, ls /dev/video* the cameras that are there"
    )
