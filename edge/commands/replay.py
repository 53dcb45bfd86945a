"""`mien replay`: run every frame of a file through the pipeline; write JSON lines, a video or pictures."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge.capture import SOURCES, open_source, parse_source
from edge.commands.render import render
from edge.config.loader import load_config, make_config, override_config
from edge.config.schema import Config
from edge.contract.preprocess import resize
from edge.errors import MienError, SourceError, UsageError
from edge.images import PICTURE_SUFFIXES, is_picture
from edge.pipeline.build import STILLS_OVERRIDES, BuiltPipeline, build_pipeline
from edge.publish import Moment, Origin
from edge.publish.encode import make_event
from edge.records import FaceState, Step
from edge.system.files import replacing

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov")


def replay_files(
    source: str,
    *,
    config_file: Path | None,
    overrides: Mapping[str, str],
    out: Path | None,
    render_to: Path | None,
    console: Console,
) -> None:
    """`mien replay`: opens the file, assembles a pipeline for it, runs every frame, says what was seen.

    Args:
        source: a video, a picture or a folder of pictures. In the last two every picture stands for itself.
        config_file: a configuration; None for the defaults.
        overrides: of the configuration.
        out: JSON lines, one object a frame; ``-`` is standard output.
        render_to: a video, a picture (the last frame's) or a folder (a picture a frame).
        console: progress and summary.

    Raises:
        SourceError: the source cannot be read.
        MienError: the configuration, a bundle or an output cannot be used.
    """
    base = load_config(config_file) if config_file else make_config()
    stills = parse_source(source, kinds=SOURCES).kind == "pictures"
    settings = {"camera.source": source, **(STILLS_OVERRIDES if stills else {}), **overrides}
    config = override_config(base, settings)
    opened = open_source(config.camera, clock=time.monotonic_ns, paced=False)
    with closing(opened), _progress(console) as advance:
        frames = iter(opened.read, None)
        first = next(frames, None)
        if first is None:
            raise SourceError(opened.name, "holds no frame")
        built = build_pipeline(config, frame_wh=None if stills else first.size_wh, seed=0)
        seen = Counter[str]()
        with closing(built.pipeline), ExitStack() as stack:
            lines = stack.enter_context(open_output(out)) if out else None
            canvas = stack.enter_context(closing(open_canvas(render_to, config.camera.fps))) if render_to else None
            encoder = _LineEncoder(built, config)
            for number, frame in enumerate(chain([first], frames)):
                step = built.pipeline.step(frame)
                if lines:
                    lines.write(encoder.encode(step, number) + b"\n")
                if canvas:
                    canvas.add(step)
                seen.update(frames=1, faces=len(step.faces), events=len(step.events))
                advance()
    per_frame = seen["faces"] / seen["frames"]
    console.print(f"{seen['frames']} frames, {per_frame:.2f} faces a frame, {seen['events']} events")


class _LineEncoder:
    """Encoder of steps as the JSON lines that ``mien replay --out`` documents.

    Events carry the same payload as over MQTT. There is no wall time in a replay: ``ts`` counts from 1970 with the
    file's own time, and ``boot_id`` is ``replay``, so that the same file gives the same bytes.
    """

    def __init__(self, built: BuiltPipeline, config: Config) -> None:
        manifest = built.emotion.manifest
        self._origin = Origin(
            boot_id="replay",
            camera=config.camera.name,
            labels=manifest.labels,
            model=manifest.full_name,
            delegate=built.emotion.model.interpreter.delegate,
        )

    def encode(self, step: Step, number: int) -> bytes:
        """Return one frame as JSON."""
        frame = step.frame
        moment = Moment(now_ns=frame.timestamp_ns, utc_offset_ns=0, clock_synced=False)
        return msgspec.json.encode(
            {
                "frame": number,
                "source": frame.source,
                "t_ms": round(frame.timestamp_ns / 1e6, 3),
                "faces": [_face(face, self._origin.labels) for face in step.faces],
                "events": [make_event(event, origin=self._origin, moment=moment) for event in step.events],
            }
        )


def _face(face: FaceState, labels: tuple[str, ...]) -> dict[str, Any]:
    scores = face.smoothed if face.scores is None else face.scores
    return {
        "track": face.track.id,
        "xywh": [round(float(value), 2) for value in face.track.xywh],
        "score": round(face.track.score, 4),
        "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in face.track.landmarks],
        "emotion": face.emotion,
        "confidence": round(face.confidence, 4),
        "scores": {label: round(float(score), 4) for label, score in zip(labels, scores, strict=True)},
        "reason": face.reason.value if face.reason else None,
    }


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("frames", total=None)
        yield lambda: progress.advance(task)


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is complete; ``-`` is standard output.

    Raises:
        UsageError: the file cannot be written.
    """
    if path == Path("-"):
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    try:
        with replacing(path) as beside, beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except MienError:
        raise  # of what was being written, not of the file
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None


class _Canvas:
    """Take the steps of a replay and draw them."""

    def add(self, step: Step) -> None:
        """Draw a step."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was drawn."""


class _Video(_Canvas):
    """A video of the rendered frames; frames of another size are fitted to the first one's."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def add(self, step: Step) -> None:
        if self._writer is None:
            self._size_wh = step.frame.size_wh
            fourcc = cv2.VideoWriter.fourcc(*("MJPG" if self._path.suffix == ".avi" else "mp4v"))
            self._writer = cv2.VideoWriter(str(self._path), fourcc, self._fps, self._size_wh)
            if not self._writer.isOpened():
                raise UsageError(f"--render: {self._path} cannot be written")
        picture = render(step.frame.image, step.faces)
        self._writer.write(picture if step.frame.size_wh == self._size_wh else resize(picture, self._size_wh))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


class _Pictures(_Canvas):
    """A folder of the rendered frames as pictures, named after their source or number."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._names = folder, set[str]()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, step: Step) -> None:
        source = Path(step.frame.source)
        name = f"{source.stem}.png" if is_picture(source) else f"frame_{step.frame.number:06d}.png"
        if name in self._names:  # a.jpg beside a.png
            name = f"{source.name}.png"
        self._names.add(name)
        _write_picture(self._folder / name, step)


class _Picture(_Canvas):
    """A picture of the last rendered frame."""

    def __init__(self, path: Path) -> None:
        self._path, self._last = path, list[Step]()

    def add(self, step: Step) -> None:
        self._last = [step]

    def close(self) -> None:
        for step in self._last:
            _write_picture(self._path, step)


def _write_picture(path: Path, step: Step) -> None:
    encoded, data = cv2.imencode(path.suffix, render(step.frame.image, step.faces))
    if not encoded:
        raise UsageError(f"--render: {path} cannot be encoded")
    with open_output(path) as file:
        file.write(data.tobytes())


def open_canvas(path: Path, fps: float) -> _Canvas:
    """Return where rendered frames go, by the name of the path.

    Raises:
        UsageError: it is neither a folder nor named like a video or a picture that can be written.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _Video(path, fps)
    if is_picture(path) and cv2.haveImageWriter(path.name):
        return _Picture(path)
    if not path.suffix or path.is_dir():
        return _Pictures(path)
    known = " ".join((*VIDEO_SUFFIXES, *PICTURE_SUFFIXES))
    raise UsageError(f"--render: {path.name} is neither a folder nor one of {known}")
