"""The service: owns the threads, the signals and the order of start and stop.

capture thread: `Grabber` fills a `LatestSlot`. inference thread: `InferenceLoop`, slot → `Pipeline.step` → messages →
sinks. main thread: signals, camera watch, requests, watchdog. The sinks own their network threads.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import cv2

from edge.bundles.select import SHIPPED, trial_key
from edge.capture import is_camera, is_stills, open_source
from edge.capture.base import Source
from edge.capture.grabber import CameraState, Grabber, GrabberTimes
from edge.capture.latest_frame import LatestSlot
from edge.config.reload import LiveConfig
from edge.config.schema import Config
from edge.errors import EXIT_CLEAN, EXIT_RUNTIME, ConfigError, MienError, UsageError, config_context
from edge.infer.selftest import run_selftest
from edge.page import open_page
from edge.pipeline.build import BuiltPipeline, build_pipeline
from edge.publish import Publisher, open_sinks
from edge.publish.time_context import read_moment
from edge.records import Frame
from edge.service.base_topic import claim_base_topic
from edge.service.check import check_choices
from edge.service.command_queue import CommandQueue, Verb
from edge.service.governor import Governor
from edge.service.inference_loop import TICK_S, InferenceLoop
from edge.service.runtime import Runtime
from edge.service.status import describe_status, make_info, make_origin, report_health
from edge.service.trace_file import TraceFile
from edge.system.crash_guard import CrashGuard
from edge.system.host import limit_malloc_arenas
from edge.system.metrics import Metrics, Speedometer
from edge.system.sdnotify import notify
from edge.system.secrets import take_variable

log = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 1.5
"""For the sinks at a stop; the whole stop stays below 3 s."""
JOIN_TIMEOUT_S = 1.0
STATUS_TICKS = 8
"""The line in ``systemctl status`` is renewed every so many ticks."""


class Daemon:
    """One camera's service; `run` is called once.

    Attributes:
        driver_hangs: after `run`, whether a thread is still inside the driver of the camera or of the delegate.
    """

    def __init__(
        self,
        config: Config,
        *,
        file: str = "configuration",
        max_frames: int | None = None,
        trace: Path | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """Store the arguments; `run` does the work.

        Args:
            config: the configuration.
            reread: reads the configuration's file again (`reload`).
            file: where it comes from, named in errors.
            max_frames: stop cleanly after so many inferred frames; None: run until told.
            trace: a new file that takes down what is seen, in numbers; None: nothing does.
        """
        self._config = config
        self._live = LiveConfig(config, reread)
        self._file = file
        self._max_frames = max_frames
        self._trace = trace
        self._stopping = threading.Event()
        self._interrupted: str | None = None
        self._failure: BaseException | None = None
        self._paused = False
        self._started_ns = time.monotonic_ns()
        self._crash_guard = CrashGuard.of_service()
        self._trials: list[str] = []
        self._inference_hangs = False
        self.driver_hangs = False

    def fail(self, error: BaseException) -> None:
        """End `run` with a failure; from any thread. The first failure is the one that is told."""
        self._failure = self._failure or error
        self._stopping.set()

    def interrupt(self, name: str) -> None:
        """Ask `run` to end, because of a signal; safe in its handler.

        It is only noted here: the main thread may be inside the log's or the event's lock, and is the one that looks.
        """
        self._interrupted = name

    def reload(self) -> None:
        """Ask `run` to read the configuration again; see `edge.config.reload`. Safe in a signal handler."""
        self._live.ask()

    def run(self) -> int:
        """Run until `interrupt` (SIGTERM, SIGINT), the end of a file, or a failure.

        Returns:
            The exit code.

        Raises:
            MienError: something that cannot work as configured.
        """
        config, metrics = self._config, Metrics()
        check_choices(config)
        take_variable(config.mqtt.password_env)
        if not is_camera(config.camera):
            self._open_source(None).close()  # a file that cannot be read is an error before anything is announced
        built = build_pipeline(
            config,
            frame_wh=config.camera.frame_wh,
            metrics=metrics,
            crash_guard=self._crash_guard,
            cancelled=self._is_ending,
        )
        self._trials = [trial_key(bundle.path) for bundle in built.bundles if bundle.source != SHIPPED]
        is_clean = False
        try:
            with claim_base_topic(config), self._open_trace(built) as trace:
                self._serve(built, metrics, trace)
            is_clean = self._failure is None and not self._inference_hangs
        except (ConfigError, UsageError):
            is_clean = True  # no model's fault
            raise
        finally:
            self._close_models(built, is_clean=is_clean)
        return self._exit_code()

    @contextmanager
    def _open_trace(self, built: BuiltPipeline) -> Iterator[TraceFile | None]:
        """Begin the trace that was asked for; it ends with the service."""
        if self._trace is None:
            yield None
            return
        with closing(TraceFile(self._trace)) as trace:
            built.write_trace(self._config, trace.write, stills=is_stills(self._config.camera))
            yield trace

    def _is_ending(self) -> bool:
        return self._interrupted is not None or self._stopping.is_set()

    def _wait_ending(self) -> bool:
        """Wait a tick; whether `run` is to end."""
        if self._interrupted is None:
            self._stopping.wait(TICK_S)
        if self._interrupted is not None and not self._stopping.is_set():
            log.info("%s: stopping", self._interrupted)
            self._stopping.set()
        return self._stopping.is_set()

    def _exit_code(self) -> int:
        if self._failure is None:
            return EXIT_CLEAN
        if isinstance(self._failure, MienError):
            log.error("%s", self._failure)
            return self._failure.exit_code
        log.error("a worker failed", exc_info=self._failure)
        return EXIT_RUNTIME

    def _serve(self, built: BuiltPipeline, metrics: Metrics, trace: TraceFile | None) -> None:
        """Work from the first message to the goodbye."""
        config = self._config
        publisher = Publisher(
            config.publish,
            origin=make_origin(built, config),
            max_frame_age_ms=config.camera.max_frame_age_ms,
            can_pause=config.mqtt.requests,
        )
        commands = CommandQueue(boot_id=publisher.origin.boot_id)
        slot: LatestSlot[Frame] = LatestSlot()
        camera_news: deque[tuple[CameraState, str]] = deque()
        page = open_page(config)
        sinks = open_sinks(
            config, file=self._file, on_request=commands.put, others={"page": page} if page is not None else None
        )
        try:
            runtime = Runtime(
                started_ns=self._started_ns,
                config=config,
                live=self._live,
                built=built,
                publisher=publisher,
                sinks=sinks,
                grabber=self._make_grabber(slot, camera_news),
                slot=slot,
                camera_news=camera_news,
                commands=commands,
                metrics=metrics,
                governor=Governor(config.power),
                trace=trace,
                page=page,
            )
            if page is not None:
                metrics.observer = page.watch(lambda fps: report_health(runtime, fps=fps)).observe
            info = make_info(built, config, publisher.origin, previous=sinks.previous())
            runtime.send(publisher.start(info, moment=read_moment()))
            self._work(runtime)
        finally:
            sinks.stop(timeout_s=FLUSH_TIMEOUT_S)

    def _make_grabber(self, slot: LatestSlot[Frame], camera_news: deque[tuple[CameraState, str]]) -> Grabber:
        return Grabber(
            self._open_source,
            slot,
            clock=time.monotonic_ns,
            reopens=is_camera(self._config.camera),
            on_state=lambda state, detail: camera_news.append((state, detail)),
            times=GrabberTimes.of(self._config.camera),
        )

    def _open_source(self, identity: str | None) -> Source:
        with config_context(self._file):
            return open_source(self._config.camera, clock=time.monotonic_ns, paced=True, identity=identity)

    def _close_models(self, built: BuiltPipeline, *, is_clean: bool) -> None:
        """Free them; what is on trial and did not bring the daemon down no longer counts as begun."""
        has_ended = built.delegate_supervisor is None or built.delegate_supervisor.stop(clean=is_clean)
        self.driver_hangs = self.driver_hangs or self._inference_hangs or not has_ended
        if is_clean:
            for key in self._trials:
                self._crash_guard.end(key)
        if not self.driver_hangs:
            built.pipeline.close()

    def _work(self, runtime: Runtime) -> None:
        """Start the threads, watch them, end them: camera first, then what was seen, then the network."""
        loop = InferenceLoop(runtime, max_frames=self._max_frames)
        inference = threading.Thread(target=self._infer, args=(loop,), name="inference")
        inference.start()
        self._start_capture(runtime.grabber)
        if runtime.built.delegate_supervisor is not None:
            runtime.built.delegate_supervisor.watch()
        try:
            self._watch(runtime, loop, inference)
        finally:
            notify(STOPPING=1, STATUS="stopping")
            self._stopping.set()
            runtime.grabber.stop()
            inference.join(JOIN_TIMEOUT_S)
            self._inference_hangs = inference.is_alive()
            self.driver_hangs = not runtime.grabber.wait_ended(JOIN_TIMEOUT_S)

    def _infer(self, loop: InferenceLoop) -> None:
        self._guarded(loop.run)
        self._stopping.set()  # the main thread need not wait for its next tick

    def _start_capture(self, grabber: Grabber) -> None:
        # A daemon thread: a driver that never returns must not keep the process alive.
        threading.Thread(target=self._guarded, args=(grabber.run,), name="capture", daemon=True).start()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Catch everything, here alone: a worker that raises stops the process; systemd starts it again."""
        try:
            work()
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def _watch(self, runtime: Runtime, loop: InferenceLoop, inference: threading.Thread) -> None:
        """Run the main thread's loop: camera, requests, watchdog, readiness, status."""
        grabber, verbs = runtime.grabber, self._make_verbs(runtime)
        fps = Speedometer(self._started_ns)
        seen: tuple[int, int, int] = (0, 0, 0)
        is_ready, ticks = False, 0
        while not self._wait_ending() and inference.is_alive():
            if grabber.check(time.monotonic_ns()):
                self._start_capture(grabber)
            runtime.send(runtime.commands.run_pending(verbs))
            is_waiting = grabber.state is CameraState.LOST
            progress = (loop.inferred, grabber.progress_ns if is_waiting else 0, loop.turns if self._paused else 0)
            if progress != seen:
                seen = progress
                notify(WATCHDOG=1)
            if not is_ready and (loop.inferred or is_waiting or self._paused):
                is_ready = True
                self._tell_ready(grabber)
            if is_ready:
                self._reload_if_asked()
                if ticks % STATUS_TICKS == 0:
                    camera = grabber.state.value
                    rate_hz = fps.read_hz(loop.inferred, time.monotonic_ns())
                    notify(STATUS=describe_status(runtime, camera=camera, fps=rate_hz, faces=loop.faces))
                ticks += 1

    def _tell_ready(self, grabber: Grabber) -> None:
        """Tell systemd; what is on trial has passed it."""
        notify(READY=1)
        while self._trials:
            self._crash_guard.confirm(self._trials.pop())
        since_start_s = (time.monotonic_ns() - self._started_ns) / 1e9
        log.info("ready after %.2f s, camera %s", since_start_s, grabber.state.value)

    def _reload_if_asked(self) -> None:
        if self._live.is_asked:
            notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
            self._live.reload()
            notify(READY=1)

    def _make_verbs(self, runtime: Runtime) -> dict[str, Verb]:
        """List what can be asked for over the network; carried out by the main thread."""

        def pause() -> dict[str, str]:
            if not self._paused:
                self._paused = True
                runtime.grabber.pause()
            return {}

        def resume() -> dict[str, str]:
            if self._paused:
                self._paused = False
                self._start_capture(runtime.grabber)
            return {}

        def reload() -> dict[str, tuple[str, ...]]:
            change = self._live.apply()
            return {"applied": change.applied, "pending": change.pending}

        def selftest() -> Mapping[str, Any]:
            emotion = runtime.built.emotion
            return run_selftest(emotion.path, emotion.manifest, threads=self._config.emotion.threads)

        return {"ping": dict, "pause": pause, "resume": resume, "reload": reload, "selftest": selftest}


def run_daemon(
    config: Config,
    *,
    file: str,
    max_frames: int | None,
    trace: Path | None = None,
    reread: Callable[[], Config] | None = None,
) -> int:
    """`mien run`: the daemon with its signals and its log on standard error. SIGHUP calls ``reread``.

    Returns:
        The exit code.

    Raises:
        MienError: something that cannot work as configured.
    """
    limit_malloc_arenas(1)
    cv2.setNumThreads(config.emotion.threads)
    logging.basicConfig(level=config.log.level.upper(), format="%(levelname)s %(name)s: %(message)s", force=True)
    daemon = Daemon(config, file=file, max_frames=max_frames, trace=trace, reread=reread)

    def interrupt(number: int, _: FrameType | None) -> None:
        daemon.interrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    threading.excepthook = lambda raised: daemon.fail(raised.exc_value or RuntimeError(f"{raised.thread} failed"))
    with config_context(file):
        code = daemon.run()
    if daemon.driver_hangs:
        # A thread that comes back from a driver while the interpreter is taken down would abort the process.
        log.warning("a driver (camera or delegate) does not let go; leaving without it")
        logging.shutdown()
        os._exit(code)
    return code
