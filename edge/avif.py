"""The turning of AVIF pictures: boxes ``irot`` and ``imir`` of the primary item, which OpenCV leaves unheeded.

ISO/IEC 23008-12 (HEIF), 6.5.10 and 6.5.12.
"""

from __future__ import annotations

from collections.abc import Iterator


def avif_turn(data: bytes) -> tuple[int, int | None]:
    """Return how the decoded picture is to be turned, and then mirrored.

    Args:
        data: the file's bytes.

    Returns:
        Quarter turns against the clock, 0..3; and as ``cv2.flip`` takes it 0 (upside down), 1 (left to right) or None.
    """
    try:
        return _turn(data)
    except (IndexError, ValueError):  # not the boxes that the standard asks for: as it was decoded
        return 0, None


def _turn(data: bytes) -> tuple[int, int | None]:
    meta = _child(data, b"meta")[4:]
    properties = _child(meta, b"iprp")
    chain = list(_boxes(_child(properties, b"ipco")))
    pitm = _child(meta, b"pitm")
    primary = int.from_bytes(pitm[4:6] if pitm[0] == 0 else pitm[4:8], "big")
    turns, mirrored = 0, None
    for index in _associated(_child(properties, b"ipma"), primary):
        if not 0 < index <= len(chain):
            continue
        kind, content = chain[index - 1]
        if kind == b"irot":
            turns = content[0] & 3
        elif kind == b"imir":
            mirrored = 1 if content[0] & 1 else 0
    return turns, mirrored


def _associated(ipma: bytes, item: int) -> list[int]:
    """Return the positions of an item's properties, from 1."""
    version, wide = ipma[0], bool(ipma[3] & 1)
    id_bytes, at = (2 if version < 1 else 4), 8
    for _ in range(int.from_bytes(ipma[4:8], "big")):
        number = int.from_bytes(ipma[at : at + id_bytes], "big")
        count, at = ipma[at + id_bytes], at + id_bytes + 1
        width = 2 if wide else 1
        entries = [int.from_bytes(ipma[at + k * width : at + (k + 1) * width], "big") for k in range(count)]
        at += count * width
        if number == item:
            return [entry & (0x7FFF if wide else 0x7F) for entry in entries]
    return []


def _child(data: bytes, kind: bytes) -> bytes:
    for found, content in _boxes(data):
        if found == kind:
            return content
    raise ValueError(f"no box {kind!r}")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        header = 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = len(data) if length == 0 else at + length
        if length and length < header:
            return
        yield data[at + 4 : at + 8], data[at + header : end]
        at = end
