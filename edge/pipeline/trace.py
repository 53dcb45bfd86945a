"""Traces: what a pipeline saw, in numbers alone, one JSON object a line; the same events come out of them.

Boxes, landmarks, scores, quality and times; no pixels. What follows the classifier (smoothing, dwell, abstention,
events) is computed from them anew, so that ``smooth`` and ``quality`` can be tried with other values. The first line
says what made the trace. Numbers are written so that the same bits are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from edge import __version__
from edge.config.schema import Config, EventsConfig, QualityConfig, SmoothConfig
from edge.contract.manifest import EmotionManifest
from edge.errors import SourceError
from edge.pipeline.conclusions import Conclusions, Seen
from edge.pipeline.events import LEFT, EventMaker
from edge.pipeline.smoothing import EmotionSmoother
from edge.records import Floats, Frame, Quality, Step, Track, Tracks

SCHEMA: Final = "mien.trace/1"
_BEGINS: Final = b'{"schema":"mien.trace/'


class TraceHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line.

    Attributes:
        schema: of this format.
        mien: version that wrote it.
        camera: the camera's name, as events have it.
        stills: True where every picture stands for itself.
        labels: of the emotion model, in its order.
        model: its ``name@version``.
        delegate: what ran it.
        min_margin: the model's own.
        schedule: ``detect.schedule``.
        smooth: settings that the events were made with.
        quality: the same.
        events: the same.
    """

    schema: str
    mien: str
    camera: str
    stills: bool
    labels: tuple[str, ...]
    model: str
    delegate: str
    min_margin: float
    schedule: str
    smooth: SmoothConfig
    quality: QualityConfig
    events: EventsConfig = EventsConfig()


class TracedFace(msgspec.Struct, frozen=True, kw_only=True):
    """A track of one frame; ``scores`` and ``quality`` are null where it was not classified. See `edge.records`."""

    track: str
    xywh: tuple[float, float, float, float]
    landmarks: list[tuple[float, float]]
    score: float
    observed: bool
    followed: bool
    first_ns: int
    last_seen_ns: int
    scores: list[float] | None
    quality: Quality | None


class TracedFrame(msgspec.Struct, frozen=True, kw_only=True, tag="frame", tag_field="kind"):
    """A line for each frame. ``source`` is the last part of its name, without folders and addresses."""

    number: int
    source: str
    t_ns: int
    size_wh: tuple[int, int]
    discontinuity: bool
    detected: bool
    faces: list[TracedFace]
    ended: tuple[str, ...]


class TracedEnd(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="kind"):
    """Every face left, and no frame said so: the camera was lost or paused, the service stopped."""

    reason: str
    t_ns: int


class TracedSettings(msgspec.Struct, frozen=True, kw_only=True, tag="settings", tag_field="kind"):
    """Other settings were taken over while running."""

    smooth: SmoothConfig
    quality: QualityConfig


_encoder = msgspec.json.Encoder()
_lines = msgspec.json.Decoder(TracedFrame | TracedEnd | TracedSettings)


def make_header(config: Config, manifest: EmotionManifest, *, delegate: str, stills: bool) -> TraceHeader:
    """Describe what makes a trace."""
    return TraceHeader(
        schema=SCHEMA,
        mien=__version__,
        camera=config.camera.name,
        stills=stills,
        labels=manifest.labels,
        model=manifest.full_name,
        delegate=delegate,
        min_margin=manifest.thresholds.margin,
        schedule=config.detect.schedule,
        smooth=config.smooth,
        quality=config.quality,
        events=config.events,
    )


class TraceWriter:
    """Encodes what a pipeline tells of itself.

    Args:
        header: the first line.
        write: takes each line, its end included.
    """

    def __init__(self, header: TraceHeader, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._put(header)

    def frame(self, frame: Frame, seen: Seen, *, detected: bool) -> None:
        """Write down a frame."""
        rows = zip(seen.tracks.active, seen.scores, seen.qualities, strict=True)
        faces = [_traced(track, scores, quality) for track, scores, quality in rows]
        self._put(
            TracedFrame(
                number=frame.number,
                source=frame.source.rstrip("/").rpartition("/")[2],
                t_ns=frame.timestamp_ns,
                size_wh=frame.size_wh,
                discontinuity=frame.discontinuity,
                detected=detected,
                faces=faces,
                ended=seen.tracks.ended,
            )
        )

    def end(self, reason: str, timestamp_ns: int) -> None:
        """Write down that every face left for ``reason``."""
        self._put(TracedEnd(reason=reason, t_ns=timestamp_ns))

    def settings(self, smooth: SmoothConfig, quality: QualityConfig) -> None:
        """Write down that other settings were taken over."""
        self._put(TracedSettings(smooth=smooth, quality=quality))

    def _put(self, line: msgspec.Struct) -> None:
        self._write(_encoder.encode(line) + b"\n")


def is_trace(path: Path) -> bool:
    """Return whether a file is a trace of any version, by its first bytes."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(len(_BEGINS)) == _BEGINS
    except OSError:
        return False


class TraceReader:
    """Reads a trace and concludes from it what the pipeline concluded, or would have with other settings.

    Args:
        file: the trace, at its beginning.
        name: of the trace, for errors.

    Raises:
        SourceError: another version, or a damaged first line.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        first = file.readline()
        version = first.removeprefix(_BEGINS).partition(b'"')[0]
        if version != b"1":
            raise SourceError(name, f"is a trace of version {version.decode(errors='replace')}; this Mien reads 1")
        try:
            self.header = msgspec.json.decode(first, type=TraceHeader)
        except msgspec.MsgspecError as error:
            raise SourceError(name, f"line 1: {error}") from None

    def steps(
        self, adjust: Callable[[SmoothConfig, QualityConfig], tuple[SmoothConfig, QualityConfig]]
    ) -> Iterator[tuple[int | None, Step]]:
        """Yield a step for each line that makes one, with the frame's place among the frames; None: no frame made it.

        The frames have their size and no pixels.

        Args:
            adjust: changes settings, those of the header and those that were taken over later.

        Raises:
            SourceError: a line is damaged; the steps before it are good.
        """
        header = self.header
        smooth, quality = adjust(header.smooth, header.quality)
        smoother = EmotionSmoother(header.labels, smooth=smooth, quality=quality, min_margin=header.min_margin)
        conclusions = Conclusions(smoother, EventMaker(itertools.count(1).__next__, uncertain=header.events.uncertain))
        frames = itertools.count()
        frame = Frame(_no_pixels((1, 1)), 0, 0, "")
        for line in self._entries():
            if isinstance(line, TracedSettings):
                smooth, quality = adjust(line.smooth, line.quality)
                conclusions.configure(smooth=smooth, quality=quality)
            elif isinstance(line, TracedEnd):
                at_end = Frame(frame.image, line.t_ns, frame.number, frame.source)
                yield None, Step(at_end, (), conclusions.end_all(line.reason, line.t_ns), detected=False)
            else:
                frame = Frame(_no_pixels(line.size_wh), line.t_ns, line.number, line.source, line.discontinuity)
                ended = conclusions.end_all(LEFT, line.t_ns) if line.discontinuity else ()
                states, events = conclusions.update(_seen(line))
                yield next(frames), Step(frame, states, (*ended, *events), line.detected)

    def _entries(self) -> Iterator[TracedFrame | TracedEnd | TracedSettings]:
        count = len(self.header.labels)
        for number, line in enumerate(self._file, start=2):
            if not line.endswith(b"\n"):
                raise SourceError(self._name, f"line {number} is cut off")
            try:
                entry = _lines.decode(line)
            except msgspec.MsgspecError as error:
                raise SourceError(self._name, f"line {number}: {error}") from None
            if isinstance(entry, TracedFrame):
                for face in entry.faces:
                    if len(face.landmarks) != 5 or (face.scores is not None and len(face.scores) != count):
                        raise SourceError(self._name, f"line {number}: a face has 5 landmarks and {count} scores")
            yield entry


def _traced(track: Track, scores: Floats | None, quality: Quality | None) -> TracedFace:
    return TracedFace(
        track=track.id,
        xywh=track.xywh,
        landmarks=[(_short(x), _short(y)) for x, y in track.landmarks],
        score=track.score,
        observed=track.observed,
        followed=track.followed,
        first_ns=track.first_ns,
        last_seen_ns=track.last_seen_ns,
        scores=None if scores is None else [_short(score) for score in scores],
        quality=quality,
    )


def _short(value: np.float32) -> float:
    """Return a number of nine digits, from which the same float32 is read."""
    return float(f"{value:.9g}")


def _seen(line: TracedFrame) -> Seen:
    active = tuple(
        Track(
            id=face.track,
            xywh=face.xywh,
            landmarks=np.array(face.landmarks, np.float32),
            score=face.score,
            observed=face.observed,
            first_ns=face.first_ns,
            last_seen_ns=face.last_seen_ns,
            followed=face.followed,
        )
        for face in line.faces
    )
    return Seen(
        timestamp_ns=line.t_ns,
        frame_wh=line.size_wh,
        tracks=Tracks(active, line.ended),
        scores=[None if face.scores is None else np.array(face.scores, np.float32) for face in line.faces],
        qualities=[face.quality for face in line.faces],
    )


def _no_pixels(size_wh: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a picture (height, width, 3) that says its size and takes one byte."""
    return np.broadcast_to(np.uint8(0), (size_wh[1], size_wh[0], 3))
