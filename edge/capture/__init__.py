"""Frame sources: cameras, files, folders, synthetic pictures."""

from __future__ import annotations

import importlib
import os
from typing import cast

from edge.capture.base import Clock, Sleep, Source, SourceRequest
from edge.capture.source_uri import SourceSpec, parse_source
from edge.capture.turned import TurnedSource
from edge.config.loader import decode_options
from edge.config.schema import CameraConfig
from edge.errors import ConfigError
from edge.registry import load_entry

# FFmpeg's own messages hold addresses with their passwords; OpenCV reads this once, at its first use of FFmpeg.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

__all__ = [
    "SOURCES",
    "Clock",
    "Source",
    "SourceSpec",
    "check_source",
    "is_camera",
    "is_stills",
    "open_source",
    "parse_source",
]

SOURCES = {
    "v4l2": "edge.capture.v4l2:V4l2Source",
    "network": "edge.capture.network:NetworkSource",
    "picamera2": "edge.capture.picamera2:Picamera2Source",
    "gstreamer": "edge.capture.gstreamer:GstreamerSource",
    "video": "edge.capture.video:VideoSource",
    "pictures": "edge.capture.pictures:PicturesSource",
    "synthetic": "edge.capture.synthetic:SyntheticSource",
    "demo": "edge.capture.demo_scene:DemoSource",
}
"""Kind of source to its class: ``open(SourceRequest) -> Source``; ``KIND:TARGET`` names one explicitly."""


def open_source(
    config: CameraConfig,
    *,
    clock: Clock,
    paced: bool,
    loop: bool = False,
    identity: str | None = None,
    sleep: Sleep | None = None,
) -> Source:
    """Open the configured source.

    Args:
        config: what to open and what to ask of it.
        clock: monotonic nanoseconds.
        paced: files: True plays at their own pace, stamped with the clock; False as fast as they are read, stamped
            with media time. Cameras always keep their own pace.
        loop: files: begin again at the end, the first frame marked as a discontinuity; also set by the option ``loop``.
        identity: what an earlier source of the same configuration said it was; opened in place of ``config.source``,
            so that a camera is found again under another number.
        sleep: paces files; None waits so that `Source.close` ends the wait.

    Raises:
        ConfigError: an unknown source or option, or a value out of range.
        SourceNotFoundError: no such camera or file.
        SourceBusyError: another process holds the camera.
        SourcePermissionError: this user may not open it.
        SourceError: it cannot be opened for another reason.
        MissingDependencyError: the kind needs a package that is not installed.
    """
    written = parse_source(config.source, kinds=SOURCES)
    spec = parse_source(identity, kinds=SOURCES) if identity else written
    request = SourceRequest(
        target=spec.target,
        name=written.name,
        config=config,
        clock=clock,
        paced=paced,
        loop=loop,
        sleep=sleep,
    )
    _check_turn(config)
    source: Source = load_entry(SOURCES, spec.kind, what="source").open(request)
    if not (config.rotate or config.flip):
        return source
    return cast(Source, TurnedSource(source, rotate=config.rotate, flip=config.flip))  # its `reopens` is the source's


def check_source(config: CameraConfig) -> None:
    """Check a source without opening it: how it is written, and the options of its kind.

    Raises:
        ConfigError: an unknown source or option, or a value out of range.
    """
    _check_turn(config)
    module = SOURCES[parse_source(config.source, kinds=SOURCES).kind].partition(":")[0]
    decode_options(config.options, importlib.import_module(module).Options, key="camera.options")


def _check_turn(config: CameraConfig) -> None:
    """Refuse two ways of turning at once.

    Raises:
        ConfigError: ``camera.rotate`` or ``camera.flip`` beside a source's own.
    """
    own = [key for key in ("hflip", "vflip") if config.options.get(key)]
    if own and (config.rotate or config.flip):
        key = "camera.rotate" if config.rotate else "camera.flip"
        raise ConfigError(key, f"is set, and camera.options.{own[0]} as well: keep camera.rotate and camera.flip")


def is_camera(config: CameraConfig) -> bool:
    """Return whether the source is one that may be away for a while and come back, unlike a file.

    Raises:
        ConfigError: an unknown source.
    """
    kind = parse_source(config.source, kinds=SOURCES).kind
    return bool(load_entry(SOURCES, kind, what="source").reopens)


def is_stills(config: CameraConfig) -> bool:
    """Return whether the source is pictures that each stand for itself.

    Raises:
        ConfigError: an unknown source.
    """
    return parse_source(config.source, kinds=SOURCES).kind == "pictures"
