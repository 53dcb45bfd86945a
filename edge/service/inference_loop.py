"""The inference thread: frames in, messages out."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Final

from edge.capture.grabber import CameraState
from edge.infer.delegate_fallback import DelegateUpdate
from edge.publish import Moment, make_message
from edge.publish.time_context import read_moment
from edge.records import Frame
from edge.service.governor import LOOK_NS
from edge.service.runtime import Runtime
from edge.service.status import describe_problems, make_info, make_vitals
from edge.system.metrics import Speedometer
from edge.system.power import read_power

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""The longest wait for a frame: then the clock, the camera and the requests get their turn."""

SEEING: Final = ("live", "stale")
"""States of a camera whose frames are of the present."""


class InferenceLoop:
    """Steps the pipeline with each new frame; the only sender of messages about faces, so that nothing overtakes.

    Attributes:
        inferred: frames so far.
        turns: rounds so far, with a frame or without: the progress of a paused daemon.
        faces: in the newest frame.
    """

    def __init__(self, runtime: Runtime, *, max_frames: int | None) -> None:
        self._runtime = runtime
        self._max_frames = max_frames
        self._fps = Speedometer(runtime.started_ns)
        self._looked_ns, self._busy_ns, self._next_ns = runtime.started_ns, 0, 0
        self.inferred = self.turns = self.faces = 0

    def run(self) -> None:
        """Work until the slot is closed and empty, or ``max_frames`` are inferred; then say goodbye."""
        runtime = self._runtime
        while self._max_frames is None or self.inferred < self._max_frames:
            frame = runtime.slot.get(TICK_S)
            self.turns += 1
            if runtime.page is not None:
                runtime.page.board.last_turn_ns = time.monotonic_ns()
            self._tell_camera()
            self._take_changes()
            moment = read_moment()
            self._govern(moment)
            self._report(moment)
            if frame is not None:
                self._take_frame(frame, moment)
            elif runtime.slot.closed:
                break
            else:
                runtime.send(runtime.publisher.tick(moment=moment))
        events = runtime.built.pipeline.end_all("stopped", time.monotonic_ns())
        runtime.send(runtime.publisher.stop(moment=read_moment(), events=events))

    def _take_changes(self) -> None:
        """Adopt what was read again from the configuration, and a delegate that recovered or failed."""
        runtime = self._runtime
        if changed := runtime.live.take():
            runtime.publisher.configure(changed.publish)
            runtime.built.pipeline.configure(smooth=changed.smooth, quality=changed.quality)
        supervisor = runtime.built.delegate_supervisor
        if supervisor is not None and (update := supervisor.take()):
            self._adopt(update)

    def _adopt(self, update: DelegateUpdate) -> None:
        built, publisher = self._runtime.built, self._runtime.publisher
        built.apply_update(update)
        publisher.origin = replace(publisher.origin, delegate=built.emotion.model.interpreter.delegate)
        self._tell_info()

    def _tell_info(self) -> None:
        runtime = self._runtime
        info = make_info(runtime.built, runtime.config, runtime.publisher.origin, previous=runtime.sinks.previous())
        runtime.send([make_message("info", info)])

    def _govern(self, moment: Moment) -> None:
        """Look at the machine from time to time, and do less or more."""
        runtime, past_ns = self._runtime, moment.now_ns - self._looked_ns
        if past_ns < LOOK_NS:
            return
        busy, self._looked_ns, self._busy_ns = min(1.0, self._busy_ns / past_ns), moment.now_ns, 0
        if not runtime.governor.update(read_power(), busy=busy, now_ns=moment.now_ns):
            return
        effort, built = runtime.governor.effort, runtime.built
        log.warning("%s", runtime.governor.describe() or "no longer degraded: all is done as configured")
        built.pipeline.rest_at_least(effort.rest_ms)
        if built.use_small_detector(small=effort.small_detector):
            self._tell_info()

    def _report(self, moment: Moment) -> None:
        """Tell what is wrong when it changed, and the health report when it is due."""
        runtime, publisher = self._runtime, self._runtime.publisher
        runtime.send(publisher.problems(describe_problems(runtime), moment=moment))
        if self.inferred and publisher.is_health_due(moment=moment):
            fps = self._fps.read_hz(self.inferred, moment.now_ns)
            runtime.send(publisher.health(make_vitals(runtime, moment, fps=fps), moment=moment))

    def _take_frame(self, frame: Frame, moment: Moment) -> None:
        """Infer a frame and tell its events; one that is too old is only counted.

        One that waited while its camera was paused or lost is dropped: it would bring back the faces that just left.
        """
        runtime = self._runtime
        if runtime.publisher.camera_state not in SEEING:
            return
        if moment.age_ms(frame.timestamp_ns) > runtime.config.camera.max_frame_age_ms:
            runtime.metrics.counts["too_old"] += 1
            return
        max_hz = runtime.governor.effort.max_hz
        if max_hz is not None and frame.timestamp_ns < self._next_ns:
            runtime.metrics.counts["governed"] += 1
            return
        self._next_ns = 0 if max_hz is None else frame.timestamp_ns + round(1e9 / max_hz)
        begun_ns = time.monotonic_ns()
        step = runtime.built.pipeline.step(frame)
        self._busy_ns += time.monotonic_ns() - begun_ns
        after = read_moment()
        runtime.send(runtime.publisher.step(step, moment=after))
        runtime.metrics.record("frame_age", after.now_ns - frame.timestamp_ns)
        if runtime.page is not None:
            runtime.page.show(step, origin=runtime.publisher.origin, moment=after)
        self.faces = len(step.faces)
        self.inferred += 1

    def _tell_camera(self) -> None:
        """Tell what the capture thread found out about the camera; a lost or paused one ends every track."""
        runtime = self._runtime
        while runtime.camera_news:
            state, _ = runtime.camera_news.popleft()
            reason = {CameraState.LOST: "camera_lost", CameraState.PAUSED: "paused"}.get(state)
            events = runtime.built.pipeline.end_all(reason, time.monotonic_ns()) if reason else ()
            runtime.send(runtime.publisher.camera(state.value, moment=read_moment(), events=events))
