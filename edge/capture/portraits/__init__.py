"""Photographs of real persons that are free to use, each with its origin and licence."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from edge.images import decode_picture
from edge.records import Image


class Portrait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A photograph and where it comes from; one entry of ``origins.json``.

    Attributes:
        file: name beside ``origins.json``.
        person: who it shows.
        face_xywh: the face's box in the picture: left, top, width, height in pixels, as YuNet frames it.
        title: of the original.
        author: who took it, or on whose behalf.
        licence: under which it may be used.
        licence_note: why, and who says so.
        source: page of the original.
        found_in: the package it was taken from.
        member: its path in there.
        member_sha256: of that file.
        changes: what was done to it.
        sha256: of ``file``.
    """

    file: str
    person: str
    face_xywh: tuple[float, float, float, float]
    title: str
    author: str
    licence: str
    licence_note: str
    source: str
    found_in: str
    member: str
    member_sha256: str
    changes: str
    sha256: str


@cache
def load_portraits() -> tuple[Portrait, ...]:
    """All photographs, in order of their file names."""
    origins = files(__name__).joinpath("origins.json").read_bytes()
    portraits = msgspec.json.decode(origins, type=tuple[Portrait, ...])
    return tuple(sorted(portraits, key=lambda portrait: portrait.file))


def read_portrait(portrait: Portrait) -> Image:
    """Return the photograph, (height, width, 3) uint8 BGR."""
    picture = decode_picture(files(__name__).joinpath(portrait.file).read_bytes())
    assert picture is not None
    return picture
