"""`mien replay`: run every frame of a file through the pipeline; write JSON lines, a video or pictures."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, combinations
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from edge.capture import is_stills, open_source
from edge.capture.paths import printable
from edge.commands.canvas import open_canvas
from edge.commands.seen import StillsTable, StreamSummary
from edge.config.loader import load_config, make_config, override_config
from edge.config.schema import CameraConfig, Config
from edge.errors import MienError, SourceError, UsageError
from edge.images import is_picture
from edge.infer.delegates import without_own_library
from edge.pipeline.build import STILLS_OVERRIDES, BuiltPipeline, build_pipeline
from edge.publish import Moment, Origin
from edge.publish.encode import make_event
from edge.publish.payloads import Confidence, Emotion, EventPayload, TrackId
from edge.records import FaceState, Step
from edge.system.files import is_same, is_special, open_replacing

BOOT_ID = "replay"
"""Stands in the events of a replay."""


def replay_files(
    source: str,
    *,
    config_file: Path | None,
    overrides: Mapping[str, str],
    out: Path | None,
    render_to: Path | None,
    trace: Path | None,
    loads_library: bool = False,
    console: Console,
) -> None:
    """Run every frame of a file through a pipeline; write what is asked for and say what was seen.

    Args:
        source: a video, a picture or a folder of pictures. In the last two every picture stands for itself.
        config_file: a configuration; None for the defaults.
        overrides: of the configuration.
        out: JSON lines, one object a frame; ``-`` is standard output.
        render_to: a video, a picture (the last frame's) or a folder (a picture a frame).
        trace: numbers alone, see `edge.pipeline.trace`; ``-`` is standard output.
        loads_library: whether a delegate's library that the configuration names may be loaded, which runs it.
        console: progress and summary.

    Raises:
        SourceError: the source cannot be read.
        UsageError: an output would destroy what is read.
        MienError: the configuration, a bundle or an output cannot be used.
    """
    base = load_config(config_file) if config_file else make_config()
    stills = is_stills(CameraConfig(source=source))
    refuse_overlap(source, config_file, out=out, render_to=render_to, trace=trace)
    settings = {"camera.source": source, **(STILLS_OVERRIDES if stills else {}), **overrides}
    config = override_config(base, settings)
    if not loads_library:
        config, left_out = without_own_library(config)
        if left_out:
            console.print(
                Text(f"{left_out} is not loaded: the CPU is used; --load-library asks for it"), soft_wrap=True
            )
    opened = open_source(config.camera, clock=time.monotonic_ns, paced=False)
    with closing(opened), show_progress(console) as advance, sigterm_as_interrupt():
        frames = iter(opened.read, None)
        first = next(frames, None)
        if first is None:
            raise SourceError(opened.name, "holds no frame")
        built = build_pipeline(config, frame_wh=None if stills else first.size_wh, seed=0)
        fps = getattr(opened, "fps", None) or config.camera.fps  # of a camera: what it was asked for
        seen = StillsTable() if stills else StreamSummary()
        written: list[Path] = []  # from the first frame on
        with closing(built.pipeline), ExitStack() as stack:
            stack.callback(seen.show, console)
            # Left after the outputs below are closed: what could not be finished is not called written.
            stack.push(lambda kind, *_: say_written(console, written, is_whole=kind is None))
            lines = stack.enter_context(open_output(out)) if out else None
            canvas = stack.enter_context(closing(open_canvas(render_to, fps=fps, stills=stills))) if render_to else None
            if trace:
                built.write_trace(config, stack.enter_context(open_output(trace)).write, stills=stills)
            encoder = LineEncoder(_origin(built, config))
            for number, frame in enumerate(chain([first], frames)):
                step = built.pipeline.step(frame)
                if lines:
                    lines.write(encoder.encode(step, number) + b"\n")
                if canvas:
                    canvas.add(step)
                seen.add(step)
                written = [path for path in (out, render_to, trace) if path is not None and path != Path("-")]
                advance()


def say_written(console: Console, paths: Sequence[Path], *, is_whole: bool) -> None:
    """Say what was written, and of an early end that it is only what was done until then."""
    said = "written" if is_whole else "ended early, holds what was done so far"
    for path in paths:
        console.print(f"{said}: {printable(path)}", markup=False, soft_wrap=True)


def implied_path(source: str) -> Path:
    """Return where ``--render`` without a path draws: a name like the source's, in the current folder."""
    path = Path(source)
    stem = f"{path.stem or 'camera'}_seen"
    if path.is_dir():
        return Path(stem)
    return Path(f"{stem}.png" if is_stills(CameraConfig(source=source)) else f"{stem}.mp4")


def refuse_overlap(
    source: str, config_file: Path | None, *, out: Path | None, render_to: Path | None, trace: Path | None
) -> None:
    """Refuse an output that would destroy an input or another output, before anything is written.

    Raises:
        UsageError: it would.
    """
    read = [path for path in (Path(source), config_file) if path is not None and path.exists()]
    outputs = {"--out": out, "--render": render_to, "--trace": trace}
    for option, target in outputs.items():
        if target is None or target == Path("-") or is_special(target):
            continue
        taken = next((path for path in read if is_same(path, target)), None)
        if taken is not None:
            raise UsageError(f"{option}: {printable(target)} is what is read; name another file or folder")
        folder = Path(source) if Path(source).is_dir() else None
        if folder is not None and option != "--render" and is_same(folder, target.parent) and is_picture(target):
            raise UsageError(f"{option}: {printable(target)} lies among the pictures that are read")
        if option == "--render" and target.is_dir() and Path(source).is_file() and is_same(Path(source).parent, target):
            raise UsageError(f"--render: {printable(target)} is the folder of what is read; name another one")
    for (one, first), (other, second) in combinations(outputs.items(), 2):
        if first is not None and second is not None and first.absolute() == second.absolute():
            raise UsageError(f"{one} and {other}: both are {printable(first)}")


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that what was done so far is kept whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _origin(built: BuiltPipeline, config: Config) -> Origin:
    manifest = built.emotion.manifest
    return Origin(
        boot_id=BOOT_ID,
        camera=config.camera.name,
        labels=manifest.labels,
        model=manifest.full_name,
        delegate=built.emotion.model.interpreter.delegate,
    )


class ReplayFace(msgspec.Struct, frozen=True, kw_only=True):
    """One face of a frame; numbers are rounded, boxes may reach over the frame's edge."""

    track: TrackId
    xywh: Annotated[tuple[float, float, float, float], Meta(description="left, top, width, height, pixels")]
    score: Annotated[float, Meta(description="the detector's, when it last saw the face")]
    observed: Annotated[bool, Meta(description="false: the detector did not see it here, its place is predicted")]
    followed: Annotated[bool, Meta(description="the detector rested, and the face was followed by its pixels")]
    landmarks: Annotated[
        list[tuple[float, float]],
        Meta(description="right eye, left eye, nose, right and left corner of the mouth: x, y in pixels"),
    ]
    emotion: Emotion
    confidence: Confidence
    scores: Annotated[dict[str, float], Meta(description="score of every label: of this frame, else the smoothed ones")]
    reason: Annotated[str | None, Meta(description="why the face is uncertain, else null")]


class ReplayLine(msgspec.Struct, frozen=True, kw_only=True):
    """One frame, a line of ``mien replay --out``."""

    frame: Annotated[int | None, Meta(description="its number from 0; null for events that no frame made")]
    source: Annotated[str, Meta(description="the file it comes from")]
    t_ms: Annotated[float, Meta(description="time in the file, milliseconds")]
    detected: Annotated[bool, Meta(description="whether the detector ran on this frame")]
    faces: list[ReplayFace]
    events: Annotated[list[EventPayload], Meta(description="as over MQTT; `ts` counts from 1970 by the file's time")]


class LineEncoder:
    """Encoder of steps as the JSON lines that ``mien replay --out`` documents.

    Events carry the same payload as over MQTT. There is no wall time in a replay: ``ts`` counts from 1970 with the
    file's own time, and ``boot_id`` is `BOOT_ID`, so that the same file gives the same bytes.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def encode(self, step: Step, number: int | None) -> bytes:
        """Return one frame as JSON; ``number`` is None for events that no frame made."""
        frame = step.frame
        moment = Moment(now_ns=frame.timestamp_ns, utc_offset_ns=0, clock_synced=False)
        return msgspec.json.encode(
            ReplayLine(
                frame=number,
                source=frame.source,
                t_ms=round(frame.timestamp_ns / 1e6, 3),
                detected=step.detected,
                faces=[_face(face, self._origin.labels) for face in step.faces],
                events=[make_event(event, origin=self._origin, moment=moment) for event in step.events],
            )
        )


def _face(face: FaceState, labels: tuple[str, ...]) -> ReplayFace:
    scores = face.smoothed if face.scores is None else face.scores
    left, top, width, height = (round(float(value), 2) for value in face.track.xywh)
    return ReplayFace(
        track=face.track.id,
        xywh=(left, top, width, height),
        score=round(face.track.score, 4),
        observed=face.track.observed,
        followed=face.track.followed,
        landmarks=[(round(float(x), 2), round(float(y), 2)) for x, y in face.track.landmarks],
        emotion=face.emotion,
        confidence=round(face.confidence, 4),
        scores={label: round(float(score), 4) for label, score in zip(labels, scores, strict=True)},
        reason=face.reason.value if face.reason else None,
    )


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("frames", total=None)
        yield lambda: progress.advance(task)


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when it is complete, or ends early; ``-`` is standard output.

    What is there and no regular file (a pipe, a device) is written to; see `edge.system.files.replacing`.

    Raises:
        UsageError: the file cannot be written.
    """
    if path == Path("-"):
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    try:
        with open_replacing(path, keep_partial=True) as file:
            yield file
    except MienError:
        raise  # of what was being written, not of the file
    except OSError as error:
        raise UsageError(f"{printable(path)}: {error.strerror or error}") from None
