"""The syntax of sources: text to kind and target, and the same text without its secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge.errors import ConfigError
from edge.images import is_picture, picture_kind
from edge.system.redact import redact

NETWORK_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
NEEDS_NOTHING = frozenset({"synthetic", "demo"})
"""Kinds without a target."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KIND = re.compile(r"([a-z][a-z0-9_]*):(?!//)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source as written, taken apart.

    Attributes:
        kind: key of the table of sources.
        target: device, address, pipeline or path; may hold credentials.
        name: the text as written, credentials removed.
    """

    kind: str
    target: str
    name: str


def parse_source(text: str, *, kinds: Collection[str]) -> SourceSpec:
    """Parse a source; only look whether a path is a folder or begins like a picture.

    Args:
        text: camera number, ``/dev`` path, address, ``KIND:TARGET``, video, picture, folder, ``synthetic``
            or ``demo``.
        kinds: keys of the table of sources.

    Raises:
        ConfigError: empty, or an address of a scheme that is not read.
    """
    text = text.strip()
    name = redact(os.fsencode(text).decode("utf-8", "backslashreplace"))
    if not text or "\0" in text:
        raise ConfigError("camera.source", f"{name!r} names nothing; allowed are {_allowed(kinds)}")
    if text.isascii() and text.isdigit():
        return SourceSpec("v4l2", f"/dev/video{int(text)}", name)
    if text in NEEDS_NOTHING:
        return SourceSpec(text, "", name)
    prefix = _KIND.fullmatch(text)
    if prefix and prefix[1] in kinds:
        return SourceSpec(prefix[1], prefix[2].strip(), name)
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() == "file":
        return _path(unquote(urlsplit(text).path), name)
    if scheme and scheme[1].lower() in NETWORK_SCHEMES:
        return SourceSpec("network", text, name)
    if scheme:
        raise ConfigError("camera.source", f"{name!r}: {scheme[1]}:// is unknown; allowed are {_allowed(kinds)}")
    return _path(text, name)


def _path(text: str, name: str) -> SourceSpec:
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where there is no such user
    if path.is_relative_to("/dev"):
        return SourceSpec("v4l2", str(path), name)
    is_pictures = os.path.isdir(path) or is_picture(path) or picture_kind(path) is not None  # noqa: PTH112 - nor this
    return SourceSpec("pictures" if is_pictures else "video", str(path), name)


def _allowed(kinds: Collection[str]) -> str:
    prefixes = ", ".join(f"{kind}:…" for kind in sorted(kinds))
    return (
        "a camera number, a /dev path, rtsp://, rtsps://, http:// or https://, a video, a picture, a folder of "
        f"pictures, synthetic, demo, or {prefixes}"
    )
