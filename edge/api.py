"""The programming interface: faces and emotions of pictures and streams, in a few lines.

```python
from edge import read_faces, read_stream

for face in read_faces("group.jpg"):
    print(face.emotion, face.confidence, face.xywh)

for step in read_stream("0"):
    print(step.camera, [face.emotion for face in step.faces or ()])
```

The names in `edge.__all__` are stable; everything else of `edge` may change in any version. ``import edge`` alone
loads neither OpenCV nor the interpreter.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edge.capture import is_camera, is_stills, open_source
from edge.capture.base import Source
from edge.capture.grabber import CameraState, Grabber, GrabberTimes
from edge.capture.latest_frame import LatestSlot
from edge.capture.pictures import read_picture
from edge.config.loader import load_config, make_config, override_config
from edge.config.schema import Config
from edge.errors import SourceError, UsageError
from edge.pipeline.build import STILLS_OVERRIDES, BuiltPipeline, build_pipeline
from edge.records import EmotionEvent, FaceState, Floats, Frame, Image

Picture: TypeAlias = npt.NDArray[Any] | str | PathLike[str]
"""A picture's pixels, or its file."""
_TICK_S: Final = 0.25
"""The longest wait for a frame before the state of the camera is looked at."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face of one picture or frame.

    Attributes:
        track: id of the followed face; of a single picture it says nothing.
        xywh: left, top, width, height in the picture's pixels; may reach over its edge.
        landmarks: (5, 2) float32 in the picture's pixels: right eye, left eye, nose, right and left mouth corner.
        score: the detector's, 0..1.
        emotion: the label, or ``uncertain``.
        confidence: of the strongest label, 0..1, calibrated; smoothed over time in a stream.
        scores: label to probability, in the model's order.
        reason: why the face is ``uncertain`` (``too_small``, ``blurred``, ``turned``, ``dark``, ``cut_off``,
            ``low_margin``, …), else None.
    """

    track: str
    xywh: tuple[float, float, float, float]
    landmarks: Floats
    score: float
    emotion: str
    confidence: float
    scores: Mapping[str, float]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something changed about a face of a stream.

    Attributes:
        type: ``face_appeared``, ``emotion_changed`` or ``face_left``.
        seq: counts the events of this stream from 1.
        face: as of this event; for ``face_left`` as last seen.
        previous: the emotion before; None where there was none.
        reason: of ``face_left`` why (``left``, ``camera_lost``, …); else why the face is ``uncertain``, or None.
    """

    type: str
    seq: int
    face: Face
    previous: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class StreamStep:
    """What is known of a stream after a frame, or after the camera's state changed.

    Attributes:
        camera: ``opening``, ``live``, ``stale`` or ``lost``; a file is always ``live``.
        detail: why it is so; empty where there is nothing to say.
        image: (height, width, 3) uint8 BGR, not to be written to; None where there is no frame.
        time_s: time of capture, monotonic clock; of a file its own time.
        age_ms: how long ago that was; 0 for a file, None where there is no frame.
        faces: in order of first appearance; None, not empty, where there is no frame: nothing is known then.
        events: what changed.
        dropped: frames since the last step that a newer one replaced or that were older than ``max_frame_age_ms``.
    """

    camera: str
    detail: str
    image: Image | None
    time_s: float
    age_ms: float | None
    faces: tuple[Face, ...] | None
    events: tuple[Event, ...]
    dropped: int


class FaceReader:
    """Reader of faces in single pictures; holds the models until it is closed. Several threads may share one."""

    def __init__(
        self,
        *,
        model: str | PathLike[str] | None = None,
        config: Config | str | PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Load the models and check them with their golden samples.

        Args:
            model: an emotion model, by name or folder; None for the configured one.
            config: a configuration or its file; None for the defaults.
            settings: dotted key to value, in place of the configuration's: ``{"detect.score": 0.4}``.

        Raises:
            ConfigError: a key unknown or out of range.
            BundleError: a model that does not verify.
        """
        config = _load(config, model=model, settings=settings, stills=True)
        self._lock = threading.Lock()
        self._built = build_pipeline(config, frame_wh=None)
        self._number = 0
        self._is_closed = False

    def read(self, image: Picture) -> list[Face]:
        """Return all faces of a picture.

        Args:
            image: a picture's file, or its pixels, (height, width, 3) or (height, width) uint8, BGR.

        Raises:
            SourceError: the file cannot be read or is no picture.
            UsageError: the array is no picture, or the reader is closed.
        """
        pixels, name = _pixels(image)
        with self._lock:
            if self._is_closed:
                raise UsageError("FaceReader: is closed")
            frame = Frame(pixels, self._number * 1_000_000_000, self._number, name, discontinuity=self._number > 0)
            self._number += 1
            step = self._built.pipeline.step(frame)
        return list(_faces(step.faces, self._built.emotion.manifest.labels))

    def close(self) -> None:
        """Free the models; any number of times."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._built.pipeline.close()

    def __enter__(self) -> FaceReader:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def read_faces(image: Picture, *, model: str | PathLike[str] | None = None) -> list[Face]:
    """Return all faces of a picture; thread-safe. The models stay loaded for the next call.

    Args:
        image: a picture's file, or its pixels, (height, width, 3) or (height, width) uint8, BGR.
        model: an emotion model, by name or folder; None for the default.

    Raises:
        SourceError: the file cannot be read or is no picture.
        UsageError: the array is no picture.
        BundleError: a model that does not verify.
    """
    with _reader_lock:  # two first calls at once would load the models twice
        reader = _reader(_model_text(model))
    return reader.read(image)


def read_stream(
    source: str | PathLike[str] | None = None,
    *,
    model: str | PathLike[str] | None = None,
    config: Config | str | PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Iterator[StreamStep]:
    """Yield what is seen, frame by frame, through the daemon's own pipeline.

    A camera delivers its newest frame, and a step without a frame whenever its state changes: a lost camera is waited
    for. A file delivers every frame, as fast as they are taken, and ends; of a folder
    every picture stands for itself. Closing the iterator closes the camera. The
    iterator belongs to one thread at a time; several may run side by side.

    Args:
        source: as ``camera.source`` has it: ``"0"``, ``rtsp://…``, a video, a folder; None for the configured one.
        model: an emotion model, by name or folder; None for the configured one.
        config: a configuration or its file; None for the defaults.
        settings: dotted key to value, in place of the configuration's.
        on_event: called with each event before its step is yielded.

    Raises:
        ConfigError: a key unknown or out of range, or a source that cannot be.
        SourceError: a file that cannot be read.
        BundleError: a model that does not verify.
    """
    loaded = _load(config, source=source, model=model, settings=settings)
    steps = _read_camera(loaded) if is_camera(loaded.camera) else _read_file(loaded)
    with closing(steps):
        for step in steps:
            for event in step.events if on_event else ():
                assert on_event is not None
                on_event(event)
            yield step


@lru_cache(maxsize=4)
def _reader(model: str | None) -> FaceReader:
    return FaceReader(model=model)


_reader_lock = threading.Lock()


def _load(
    config: Config | str | PathLike[str] | None,
    *,
    source: str | PathLike[str] | None = None,
    model: str | PathLike[str] | None,
    settings: Mapping[str, Any] | None,
    stills: bool = False,
) -> Config:
    """Return the configuration; where every picture stands for itself, `STILLS_OVERRIDES` below the settings."""
    loaded = config if isinstance(config, Config) else make_config() if config is None else load_config(Path(config))
    if source is not None:
        loaded = override_config(loaded, {"camera.source": _toml(str(source))})
    overrides = dict(STILLS_OVERRIDES) if stills or is_stills(loaded.camera) else {}
    overrides |= {key: _toml(value) for key, value in (settings or {}).items()}
    if model is not None:
        overrides["emotion.bundle"] = _toml(_model_text(model))
    return override_config(loaded, overrides)


def _model_text(model: str | PathLike[str] | None) -> str | None:
    """Return a name as it is, a path so that it is taken for a folder."""
    return model if model is None or isinstance(model, str) else str(Path(model).absolute())


def _toml(value: Any) -> str:
    """Return a value as it is written in TOML; tables are not taken."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return repr(value)


def _pixels(image: Picture) -> tuple[Image, str]:
    """Return pixels (height, width, 3) uint8 BGR, and what they came from."""
    if not isinstance(image, np.ndarray):
        path = Path(image)
        return read_picture(path), str(path)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        what = f"{image.dtype} {image.shape}"
        raise UsageError(f"image: {what}; allowed is uint8 (height, width, 3) in BGR or (height, width)")
    if image.ndim == 2:
        image = np.repeat(image[:, :, np.newaxis], 3, axis=2)
    return np.ascontiguousarray(image), "array"


def _faces(states: tuple[FaceState, ...], labels: tuple[str, ...]) -> tuple[Face, ...]:
    return tuple(
        Face(
            track=state.track.id,
            xywh=state.track.xywh,
            landmarks=state.track.landmarks,
            score=state.track.score,
            emotion=state.emotion,
            confidence=state.confidence,
            scores=dict(zip(labels, map(float, state.smoothed), strict=True)),
            reason=state.reason.value if state.reason else None,
        )
        for state in states
    )


def _events(events: tuple[EmotionEvent, ...], labels: tuple[str, ...]) -> tuple[Event, ...]:
    return tuple(
        Event(event.type.value, event.seq, _faces((event.face,), labels)[0], event.previous, event.reason)
        for event in events
    )


def _step(built: BuiltPipeline, frame: Frame, *, age_ms: float | None, dropped: int) -> StreamStep:
    labels = built.emotion.manifest.labels
    step = built.pipeline.step(frame)
    return StreamStep(
        camera=CameraState.LIVE.value,
        detail="",
        image=frame.image,
        time_s=frame.timestamp_ns / 1e9,
        age_ms=age_ms,
        faces=_faces(step.faces, labels),
        events=_events(step.events, labels),
        dropped=dropped,
    )


def _read_file(config: Config) -> Generator[StreamStep, None, None]:
    with closing(open_source(config.camera, clock=time.monotonic_ns, paced=False)) as source:
        frame = source.read()
        if frame is None:
            raise SourceError(source.name, "holds no frame")
        built = build_pipeline(config, frame_wh=None if is_stills(config.camera) else frame.size_wh)
        with closing(built.pipeline):
            while frame is not None:
                yield _step(built, frame, age_ms=0.0, dropped=0)
                frame = source.read()


def _read_camera(config: Config) -> Generator[StreamStep, None, None]:
    built = build_pipeline(config, frame_wh=config.camera.frame_wh)
    with closing(built.pipeline), closing(_CameraThread(config)) as camera:
        labels, dropped_before, too_old = built.emotion.manifest.labels, 0, 0
        while True:
            frame = camera.take()
            while camera.news:
                state, detail = camera.news.popleft()
                ended = built.pipeline.end_all("camera_lost", time.monotonic_ns()) if state is CameraState.LOST else ()
                if state is not CameraState.LIVE:
                    now_s = time.monotonic()
                    yield StreamStep(state.value, detail, None, now_s, None, None, _events(ended, labels), 0)
            if frame is None:
                if camera.slot.closed:
                    camera.raise_failure()
                    return
                continue
            age_ms = (time.monotonic_ns() - frame.timestamp_ns) / 1e6
            if age_ms > config.camera.max_frame_age_ms:
                too_old += 1
                continue
            dropped = camera.dropped + too_old
            yield _step(built, frame, age_ms=age_ms, dropped=dropped - dropped_before)
            dropped_before = dropped


class _CameraThread:
    """A camera that is read by a thread of its own.

    Attributes:
        slot: holds the newest frame.
        news: states of the camera that were not looked at yet.
    """

    def __init__(self, config: Config) -> None:
        self.slot = LatestSlot[Frame]()
        self.news: deque[tuple[CameraState, str]] = deque()
        self._config, self._failure = config, deque[Exception]()
        self._grabber = Grabber(
            self._open,
            self.slot,
            clock=time.monotonic_ns,
            reopens=True,
            on_state=lambda state, detail: self.news.append((state, detail)),
            times=GrabberTimes.of(config.camera),
        )
        self._start()

    def take(self) -> Frame | None:
        """Return the newest frame, waiting a moment for it."""
        if self._grabber.check(time.monotonic_ns()):
            self._start()
        return self.slot.get(_TICK_S)

    @property
    def dropped(self) -> int:
        """Return how many frames were replaced by a newer one or came too old."""
        return self.slot.dropped + self._grabber.too_old

    def raise_failure(self) -> None:
        """Raise what ended the thread."""
        if self._failure:
            raise self._failure[0]

    def close(self) -> None:
        """Stop reading; a driver that hangs is left behind."""
        self._grabber.stop()
        self._grabber.wait_ended(1.0)

    def _start(self) -> None:
        threading.Thread(target=self._run, name="mien-camera", daemon=True).start()

    def _run(self) -> None:
        try:
            self._grabber.run()
        except Exception as error:  # noqa: BLE001  handed to the thread that iterates
            self._failure.append(error)

    def _open(self, identity: str | None) -> Source:
        return open_source(self._config.camera, clock=time.monotonic_ns, paced=True, identity=identity)
