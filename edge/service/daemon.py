"""The service: owns the threads, the signals and the order of start and stop.

capture thread: `Grabber` fills a `LatestSlot`. inference thread: slot → `Pipeline.step` → messages → sinks. main
thread: signals, camera watch, watchdog. The sinks own their network threads. Everything that is published is sent by
the inference thread, so that nothing is overtaken.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

import cv2

from edge import __version__
from edge.bundles.select import SHIPPED, ChosenBundle, trial_key
from edge.capture import is_camera, open_source, redact
from edge.capture.base import Source
from edge.capture.grabber import CameraState, Grabber, GrabberTimes
from edge.capture.latest_frame import LatestSlot
from edge.config.reload import LiveConfig
from edge.config.schema import Config
from edge.contract.manifest import AnyManifest
from edge.errors import EXIT_CLEAN, EXIT_RUNTIME, ConfigError, MienError, config_context
from edge.infer.delegate_fallback import DelegateUpdate
from edge.infer.selftest import run_selftest
from edge.pipeline.build import BuiltPipeline, build_pipeline
from edge.publish import Fanout, Message, Moment, Origin, Publisher, Vitals, make_message, open_sinks
from edge.publish.payloads import BootMark, CameraPart, DelegatePart, InfoPayload, ModelPart, ParityPart
from edge.publish.time_context import read_moment
from edge.publish.topics import VERSIONS
from edge.records import Frame
from edge.service.base_topic import claim_base_topic
from edge.service.check import check_choices
from edge.service.command_queue import CommandQueue, Verb
from edge.system.crash_guard import CrashGuard
from edge.system.host import cpu_temperature_c, limit_malloc_arenas, resident_bytes
from edge.system.metrics import Metrics, Speedometer
from edge.system.sdnotify import notify

log = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 1.5
"""For the sinks at a stop; the whole stop stays below 3 s."""
JOIN_TIMEOUT_S = 1.0
TICK_S = 0.25
"""How often the main thread looks at the camera and the watchdog, and the inference thread at the clock."""
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
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """Stores; `run` does the work.

        Args:
            config: the configuration.
            reread: reads the configuration's file again (`reload`).
            file: where it comes from, named in errors.
            max_frames: stop cleanly after so many inferred frames; None: run until told.
        """
        self._config = config
        self._live = LiveConfig(config, reread)
        self._file = file
        self._max_frames = max_frames
        self._stopping = threading.Event()
        self._interrupted: str | None = None
        self._failure: BaseException | None = None
        self._slot: LatestSlot[Frame] = LatestSlot()
        self._camera_news: deque[tuple[CameraState, str]] = deque()
        self._commands: CommandQueue | None = None
        self._paused = False
        self._turns = 0
        self._metrics = Metrics()
        self._started_ns = time.monotonic_ns()
        self._inferred = 0
        self._faces = 0
        self._crash_guard = CrashGuard.of_service()
        self._trials: list[str] = []
        self._models = "no model"
        self._fps_of_health, self._fps_of_status = Speedometer(self._started_ns), Speedometer(self._started_ns)
        self._inference_hangs = False
        self.driver_hangs = False

    def fail(self, error: BaseException) -> None:
        """Ends `run` with a failure; from any thread. The first failure is the one that is told."""
        self._failure = self._failure or error
        self._stopping.set()

    def interrupt(self, name: str) -> None:
        """Asks `run` to end, because of a signal; safe in its handler.

        It is only noted here: the main thread may be inside the log's or the event's lock, and is the one that looks.
        """
        self._interrupted = name

    def _is_ending(self) -> bool:
        return self._interrupted is not None or self._stopping.is_set()

    def _wait_ending(self) -> bool:
        """Waits a tick; whether `run` is to end."""
        if self._interrupted is None:
            self._stopping.wait(TICK_S)
        if self._interrupted is not None and not self._stopping.is_set():
            log.info("%s: stopping", self._interrupted)
            self._stopping.set()
        return self._stopping.is_set()

    def reload(self) -> None:
        """Asks `run` to read the configuration again; see `edge.config.reload`. Safe in a signal handler."""
        self._live.ask()

    def run(self) -> int:
        """Runs until `interrupt` (SIGTERM, SIGINT), the end of a file, or a failure.

        Returns:
            The exit code.

        Raises:
            MienError: something that cannot work as configured.
        """
        config = self._config
        check_choices(config)
        has_camera = is_camera(config.camera)
        if not has_camera:
            self._open_source(None).close()  # a file that cannot be read is an error before anything is announced
        built = build_pipeline(
            config,
            frame_wh=(config.camera.width, config.camera.height),
            metrics=self._metrics,
            crash_guard=self._crash_guard,
            cancelled=self._is_ending,
        )
        self._trials = [trial_key(bundle.path) for bundle in built.bundles if bundle.source != SHIPPED]
        self._models = _describe_models(built)
        is_clean = False
        try:
            with claim_base_topic(config):
                self._serve(built, has_camera=has_camera)
            is_clean = self._failure is None and not self._inference_hangs
        except ConfigError:
            is_clean = True  # no model's fault
            raise
        finally:
            self._close_models(built, is_clean=is_clean)
        return self._exit_code()

    def _serve(self, built: BuiltPipeline, *, has_camera: bool) -> None:
        """From the first message to the goodbye."""
        config = self._config
        outgoing = Publisher(
            config.publish, origin=_origin(built, config), max_frame_age_ms=config.camera.max_frame_age_ms
        )
        grabber = Grabber(
            self._open_source,
            self._slot,
            clock=time.monotonic_ns,
            reopens=has_camera,
            on_state=lambda state, detail: self._camera_news.append((state, detail)),
            times=GrabberTimes.of(config.camera),
        )
        commands = self._commands = CommandQueue(self._verbs(grabber, built), boot_id=outgoing.origin.boot_id)
        sinks = open_sinks(config, on_request=commands.put)
        try:
            info = _info(built, config, outgoing.origin, sinks.previous())
            _send(sinks, outgoing.start(info, moment=read_moment()))
            self._work(built, outgoing, sinks, grabber, commands)
        finally:
            sinks.stop(timeout_s=FLUSH_TIMEOUT_S)

    def _close_models(self, built: BuiltPipeline, *, is_clean: bool) -> None:
        """Frees them; what is on trial and did not bring the daemon down no longer counts as begun."""
        has_ended = built.delegate_supervisor is None or built.delegate_supervisor.stop(clean=is_clean)
        self.driver_hangs = self.driver_hangs or self._inference_hangs or not has_ended
        if is_clean:
            for key in self._trials:
                self._crash_guard.end(key)
        if not self.driver_hangs:
            built.pipeline.close()

    def _exit_code(self) -> int:
        if self._failure is None:
            return EXIT_CLEAN
        if isinstance(self._failure, MienError):
            log.error("%s", self._failure)
            return self._failure.exit_code
        log.error("a worker failed", exc_info=self._failure)
        return EXIT_RUNTIME

    def _open_source(self, identity: str | None) -> Source:
        with config_context(self._file):
            return open_source(self._config.camera, clock=time.monotonic_ns, paced=True, identity=identity)

    def _work(
        self, built: BuiltPipeline, outgoing: Publisher, sinks: Fanout, grabber: Grabber, commands: CommandQueue
    ) -> None:
        """Starts the threads, watches them, ends them: camera first, then what was seen, then the network."""
        inference = threading.Thread(
            target=self._guarded, args=(lambda: self._infer(built, outgoing, sinks, grabber),), name="inference"
        )
        inference.start()
        self._start_capture(grabber)
        if built.delegate_supervisor is not None:
            built.delegate_supervisor.watch()
        try:
            self._watch(grabber, sinks, inference, commands)
        finally:
            notify(STOPPING=1, STATUS="stopping")
            self._stopping.set()
            grabber.stop()
            inference.join(JOIN_TIMEOUT_S)
            self._inference_hangs = inference.is_alive()
            self.driver_hangs = not grabber.wait_ended(JOIN_TIMEOUT_S)

    def _verbs(self, grabber: Grabber, built: BuiltPipeline) -> dict[str, Verb]:
        """What can be asked for over the network; carried out by the main thread."""

        def pause() -> dict[str, str]:
            if not self._paused:
                self._paused = True
                grabber.pause()
            return {}

        def resume() -> dict[str, str]:
            if self._paused:
                self._paused = False
                self._start_capture(grabber)
            return {}

        def reload() -> dict[str, tuple[str, ...]]:
            change = self._live.apply()
            return {"applied": change.applied, "pending": change.pending}

        def selftest() -> Mapping[str, Any]:
            return run_selftest(built.emotion.path, threads=self._config.emotion.threads)

        return {"ping": dict, "pause": pause, "resume": resume, "reload": reload, "selftest": selftest}

    def _start_capture(self, grabber: Grabber) -> None:
        # A daemon thread: a driver that never returns must not keep the process alive.
        threading.Thread(target=self._guarded, args=(grabber.run,), name="capture", daemon=True).start()

    def _guarded(self, work: Callable[[], None]) -> None:
        """The one place that catches everything: a worker that raises stops the process; systemd starts it again."""
        try:
            work()
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def _watch(self, grabber: Grabber, sinks: Fanout, inference: threading.Thread, commands: CommandQueue) -> None:
        """The main thread's loop: camera, requests, watchdog, readiness, status."""
        seen: tuple[int, int, int] = (0, 0, 0)
        ready, ticks = False, 0
        while not self._wait_ending() and inference.is_alive():
            if grabber.check(time.monotonic_ns()):
                self._start_capture(grabber)
            is_waiting = grabber.state is CameraState.LOST
            _send(sinks, commands.run_pending())
            progress = (
                self._inferred,
                grabber.progress_ns if is_waiting else 0,
                self._turns if self._paused else 0,
            )
            if progress != seen:
                seen = progress
                notify(WATCHDOG=1)
            if not ready and (self._inferred or is_waiting or self._paused):
                ready = True
                notify(READY=1, STATUS=self._status(grabber, sinks))
                while self._trials:
                    self._crash_guard.confirm(self._trials.pop())
                since_start = (time.monotonic_ns() - self._started_ns) / 1e9
                log.info("ready after %.2f s, camera %s", since_start, grabber.state.value)
            if ready and self._live.is_asked:
                notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
                self._live.reload()
                notify(READY=1)
            ticks += 1
            if ready and ticks % STATUS_TICKS == 0:
                notify(STATUS=self._status(grabber, sinks))

    def _infer(self, built: BuiltPipeline, outgoing: Publisher, sinks: Fanout, grabber: Grabber) -> None:
        """The inference thread: frames in, messages out, until the slot is closed and empty."""
        max_age_ms = self._config.camera.max_frame_age_ms
        while self._max_frames is None or self._inferred < self._max_frames:
            frame = self._slot.get(TICK_S)
            self._turns += 1
            self._tell_camera(built, outgoing, sinks)
            if changed := self._live.take():
                outgoing.configure(changed.publish)
                built.pipeline.configure(smooth=changed.smooth, quality=changed.quality)
            if built.delegate_supervisor is not None and (news := built.delegate_supervisor.take()):
                self._adopt(news, built, outgoing, sinks)
            moment = read_moment()
            _send(sinks, outgoing.problems(_problems(built, outgoing, sinks), moment=moment))
            if self._inferred and outgoing.is_health_due(moment=moment):
                _send(sinks, outgoing.health(self._vitals(moment, grabber, sinks), moment=moment))
            if frame is None:
                if self._slot.closed:
                    break
                _send(sinks, outgoing.tick(moment=moment))
            elif moment.age_ms(frame.timestamp_ns) > max_age_ms:
                self._metrics.counts["too_old"] += 1
            else:
                self._infer_frame(frame, built, outgoing, sinks)
        events = built.pipeline.end_all("stopped", time.monotonic_ns())
        _send(sinks, outgoing.stop(moment=read_moment(), events=events))
        self._stopping.set()

    def _infer_frame(self, frame: Frame, built: BuiltPipeline, outgoing: Publisher, sinks: Fanout) -> None:
        step = built.pipeline.step(frame)
        moment = read_moment()
        _send(sinks, outgoing.step(step, moment=moment))
        self._metrics.record("frame_age", moment.now_ns - frame.timestamp_ns)
        self._faces = len(step.faces)
        self._inferred += 1

    def _adopt(self, news: DelegateUpdate, built: BuiltPipeline, outgoing: Publisher, sinks: Fanout) -> None:
        """Goes over to the delegate that works now, or tells another reason why it does not."""
        built.apply_update(news)
        self._models = _describe_models(built)
        outgoing.origin = replace(outgoing.origin, delegate=built.emotion.model.interpreter.delegate)
        _send(sinks, [make_message("info", _info(built, self._config, outgoing.origin, sinks.previous()))])

    def _tell_camera(self, built: BuiltPipeline, outgoing: Publisher, sinks: Fanout) -> None:
        """Tells what the capture thread found out about the camera; a lost or paused one ends every track."""
        while self._camera_news:
            state, detail = self._camera_news.popleft()
            reason = "camera_lost" if state is CameraState.LOST else "paused" if detail == "paused" else None
            events = built.pipeline.end_all(reason, time.monotonic_ns()) if reason else ()
            _send(sinks, outgoing.camera(state.value, moment=read_moment(), events=events))

    def _vitals(self, moment: Moment, grabber: Grabber, sinks: Fanout) -> Vitals:
        stages = self._metrics.percentiles()
        return Vitals(
            uptime_s=(moment.now_ns - self._started_ns) / 1e9,
            fps=self._fps_of_health.read_hz(self._inferred, moment.now_ns),
            frame_age=stages.pop("frame_age", None),
            stages=stages,
            drops=self._slot.dropped,
            reconnects=grabber.reconnects,
            counts=dict(self._metrics.counts)
            | {"corrupt": grabber.corrupt, "hung": grabber.hung}
            | (self._commands.counts() if self._commands else {}),
            sinks=sinks.report(),
            temperature_c=cpu_temperature_c(),
            rss_bytes=resident_bytes(),
        )

    def _status(self, grabber: Grabber, sinks: Fanout) -> str:
        """One line for ``systemctl status``."""
        stages = self._metrics.percentiles()
        age = f"{stages['frame_age'].p50_ms:.0f} ms old" if "frame_age" in stages else "no frame yet"
        fps = self._fps_of_status.read_hz(self._inferred, time.monotonic_ns())
        camera = f"camera {'paused' if self._paused else grabber.state.value}, {fps:.1f} fps, {age}"
        return f"{camera}, {self._faces} faces, {self._models}, {sinks.status()}"


def run_daemon(config: Config, *, file: str, max_frames: int | None, reread: Callable[[], Config] | None = None) -> int:
    """`mien run`: the daemon with its signals and its log on standard error. SIGHUP calls ``reread``.

    Returns:
        The exit code.

    Raises:
        MienError: something that cannot work as configured.
    """
    limit_malloc_arenas(1)
    cv2.setNumThreads(config.emotion.threads)
    logging.basicConfig(level=config.log.level.upper(), format="%(levelname)s %(name)s: %(message)s", force=True)
    daemon = Daemon(config, file=file, max_frames=max_frames, reread=reread)

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


def _send(sinks: Fanout, messages: list[Message]) -> None:
    for message in messages:
        sinks.send(message)


def _problems(built: BuiltPipeline, outgoing: Publisher, sinks: Fanout) -> list[str]:
    """What somebody should look at, for ``…/problem``."""
    camera = outgoing.camera_state
    problems = [f"camera: {camera}"] if camera in ("stale", "lost") else []
    problems += [f"model: {bundle.reason}" for bundle in built.bundles if bundle.reason]
    if built.delegate_reason:
        problems.append(f"delegate: {built.delegate_reason}")
    return problems + sinks.problems()


def _origin(built: BuiltPipeline, config: Config) -> Origin:
    manifest = built.emotion.manifest
    return Origin(
        boot_id=secrets.token_hex(4),
        camera=config.camera.name,
        labels=manifest.labels,
        model=manifest.full_name,
        delegate=built.emotion.model.interpreter.delegate,
    )


def _info(built: BuiltPipeline, config: Config, origin: Origin, previous: tuple[str, int] | None) -> InfoPayload:
    """What runs here, for ``…/info``."""
    moment, emotion, camera = read_moment(), built.emotion.model, config.camera
    parity = ParityPart(
        samples=built.emotion.manifest.golden.count,
        worst_steps=emotion.parity.worst_steps,
        max_steps=emotion.parity.max_steps,
        class_flips=emotion.parity.class_flips,
    )
    delegate = DelegatePart(
        name=emotion.interpreter.delegate,
        requested=config.emotion.delegate,
        reason=built.delegate_reason,
        delegated_nodes=emotion.interpreter.delegated_nodes,
        total_nodes=emotion.interpreter.total_nodes,
    )
    camera_part = CameraPart(
        name=camera.name, source=redact(camera.source), width=camera.width, height=camera.height, fps=camera.fps
    )
    own_file = ModelPart(name=config.detect.detector, version=None, sha256=None, source=None, reason=None)
    return InfoPayload(
        boot_id=origin.boot_id,
        previous=BootMark(boot_id=previous[0], last_seq=previous[1]) if previous else None,
        ts=moment.utc(moment.now_ns),
        clock_synced=moment.clock_synced,
        version=__version__,
        schemas=dict(VERSIONS),
        camera=camera_part,
        model=_model_part(built.emotion),
        labels=list(origin.labels),
        detector=_model_part(built.detector_bundle) if built.detector_bundle else own_file,
        delegate=delegate,
        parity=parity,
    )


def _model_part(bundle: ChosenBundle[AnyManifest]) -> ModelPart:
    manifest = bundle.manifest
    return ModelPart(
        name=manifest.name,
        version=manifest.version,
        sha256=manifest.model.sha256,
        source=bundle.source,
        reason=bundle.reason,
    )


def _describe_models(built: BuiltPipeline) -> str:
    """What runs where, for ``systemctl status``; a stand-in is named."""
    delegate = built.emotion.model.interpreter.delegate
    stand_ins = [f"{bundle.manifest.full_name} as a stand-in" for bundle in built.bundles if bundle.reason]
    failed = f" ({built.delegate_reason})" if built.delegate_reason else ""
    return ", ".join([*stand_ins, delegate + failed])
