"""The live page as one more sink: it takes the messages that go to the broker, and is never in their way."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Final

import msgspec

from edge.config.schema import Config
from edge.page.access import CONTROL_COOKIE, COOKIE, HostNames, read_token
from edge.page.board import Board
from edge.page.metrics import MetricsText
from edge.page.picture import Picture
from edge.page.server import PageParts, PageThread, bind, make_app
from edge.publish.base import Message, RequestHandler, make_message
from edge.publish.encode import Moment, Origin, encode, make_faces
from edge.publish.payloads import HealthPayload
from edge.publish.publisher import RateLimit
from edge.records import Step
from edge.system.metrics import Speedometer

log = logging.getLogger(__name__)

HANGS_S: Final = 10.0
"""After so long without a turn of the inference loop the page says so."""


class PageSink:
    """Serves the page while the daemon runs. A port that is in use is a problem that is told, not an end.

    Args:
        config: the whole configuration.

    Attributes:
        board: what there is to see.
    """

    def __init__(self, config: Config) -> None:
        page = self._page = config.page
        self.board = Board()
        # A browser keeps cookies by host: two cameras of one machine would sign each other out.
        cookie, control = (f"{name}_{page.address[1]}" for name in (COOKIE, CONTROL_COOKIE))
        self._token = read_token(page.token_file, key="page.token_file", cookie=cookie)
        self._control = read_token(page.control_token_file, key="page.control_token_file", cookie=control)
        self._command: Callable[[str], None] = lambda verb: None
        self._fps = 0.0
        self._frames = 0
        self._speedometer = Speedometer(time.monotonic_ns())
        self._faces_rate = RateLimit(config.page.rate_hz, tolerance=0.5)
        self._picture = Picture() if config.page.picture else None
        self._thread: PageThread | None = None
        self._problem: str | None = None

    def listen(self, handler: RequestHandler) -> None:
        """Hand over what viewers ask for: ``pause`` and ``resume``."""
        self._command = lambda verb: handler(verb, b"", None)

    def watch(self, vitals: Callable[[float], HealthPayload]) -> MetricsText:
        """Begin to serve.

        Args:
            vitals: how the daemon does now, given the frames a second; called by the page's threads.

        Returns:
            What takes the durations of the stages.
        """
        metrics = MetricsText(self.board, lambda: vitals(self._fps))
        host, port = self._page.address
        parts = PageParts(
            board=self.board,
            hosts=HostNames(self._page.hosts),
            token=self._token,
            control=self._control,
            faults=self.faults,
            metrics=metrics.render,
            command=self._command,
            picture=self._picture.read if self._picture is not None else None,
        )
        try:
            listener = bind(host, port)
        except OSError as error:
            self._problem = f"off, {self._page.listen}: {_bind_reason(error)}"
            log.error("page: %s", self._problem)
            return metrics
        self._thread = PageThread(make_app(parts), listener, second=lambda: self._note_second(vitals))
        self._thread.start()
        log.info("page: http://%s/", self._page.listen)
        return metrics

    def start(self) -> None:
        """Do nothing: the page opens with `watch`, when there is something to show."""

    def send(self, message: Message) -> None:
        """Take a message; faces come with `show`, at the page's own rate."""
        if message.kind != "faces":
            self.board.put(message)

    def show(self, step: Step, *, origin: Origin, moment: Moment) -> None:
        """Take what one frame gave, where somebody looks."""
        self._frames += 1
        if self._picture is not None:
            self._picture.put(step.frame)
        if self.board.viewers and self._faces_rate.allows(moment.now_ns):
            self._faces_rate.note(moment.now_ns)
            self.board.put(make_message("faces", make_faces(step, origin=origin, moment=moment)))

    def _note_second(self, vitals: Callable[[float], HealthPayload]) -> None:
        """Note who is there, and how the daemon does where somebody looks."""
        self._fps = self._speedometer.read_hz(self._frames, time.monotonic_ns())
        self.board.put_second(time.time_ns() // 1_000_000)
        if self.board.viewers:
            self.board.put_pulse(encode(vitals(self._fps)))

    def stop(self, *, timeout_s: float) -> None:
        """Hang up on every viewer."""
        if self._thread is not None:
            self._thread.stop(timeout_s=timeout_s)

    def faults(self) -> list[str]:
        """List why the service is not well, for ``/healthz``."""
        camera = (self.board.latest("camera") or b"opening").decode()
        silent_s = (time.monotonic_ns() - self.board.last_turn_ns) / 1e9
        faults = [] if camera in ("live", "paused") else [f"camera: {camera}"]
        if silent_s > HANGS_S:
            faults.append(f"inference: no sign of life for {silent_s:.0f} s")
        return faults + [problem for problem in self._told_problems() if problem not in faults]

    def _told_problems(self) -> list[str]:
        raw = self.board.latest("problem")
        return list(msgspec.json.decode(raw)["problems"]) if raw else []

    def status(self) -> str:
        """Say whether it listens."""
        return "off" if self._thread is None or self._thread.failure else "listening"

    def problems(self) -> list[str]:
        """Return why it does not."""
        failure = self._problem or (self._thread.failure if self._thread else None)
        return [failure] if failure else []

    def previous(self) -> None:
        """Return None: the page keeps nothing over a restart."""

    def counts(self) -> dict[str, int]:
        """Return how many look on."""
        return {"viewers": self.board.viewers}


def _bind_reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    if error.errno == errno.EADDRNOTAVAIL:
        return "not an address of this machine"
    return os.strerror(error.errno) if error.errno else str(error)
