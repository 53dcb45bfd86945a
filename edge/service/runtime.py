"""The parts of one start that the daemon's threads share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.capture.grabber import CameraState, Grabber
from edge.capture.latest_frame import LatestSlot
from edge.config.reload import LiveConfig
from edge.config.schema import Config
from edge.pipeline.build import BuiltPipeline
from edge.publish import Fanout, Message, Publisher
from edge.records import Frame
from edge.service.command_queue import CommandQueue
from edge.service.governor import Governor
from edge.service.trace_file import TraceFile
from edge.system.metrics import Metrics

if TYPE_CHECKING:
    from edge.page.sink import PageSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What one start works with; made once, then handed to each thread.

    Attributes:
        started_ns: when the daemon began, on the monotonic clock.
        config: the configuration as it was read at the start.
        live: the part of it that can be read again.
        built: the pipeline and its models; the inference thread steps it.
        publisher: makes the messages; the inference thread's.
        sinks: where messages go.
        grabber: the camera's loop, run by the capture thread.
        slot: the newest frame, from the capture thread to the inference thread.
        camera_news: states of the camera that were not told yet, oldest first.
        commands: requests that came over the network.
        metrics: latencies and counters.
        trace: of what is seen; None: none was asked for.
        governor: chooses how much is done.
        page: the live page; None where it is not wanted.
    """

    started_ns: int
    config: Config
    live: LiveConfig
    built: BuiltPipeline
    publisher: Publisher
    sinks: Fanout
    grabber: Grabber
    slot: LatestSlot[Frame]
    camera_news: deque[tuple[CameraState, str]]
    commands: CommandQueue
    metrics: Metrics
    governor: Governor
    trace: TraceFile | None = None
    page: PageSink | None = None

    def send(self, messages: list[Message]) -> None:
        """Send them to every sink, in order."""
        for message in messages:
            self.sinks.send(message)
