"""Pictures by content, whatever they are called; what cannot be read is named with what to do."""

from __future__ import annotations

import logging
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.avif import avif_turn
from edge.capture import open_source
from edge.config.schema import CameraConfig
from edge.errors import SourceError
from edge.images import decode_picture, picture_kind

PICTURE = np.dstack([np.full((40, 60), value, np.uint8) for value in (20, 90, 200)])
PICTURE[:10, :20] = 255  # not the same when turned


def encode(suffix: str, image: np.ndarray = PICTURE) -> bytes:
    done, data = cv2.imencode(suffix, image)
    assert done
    return data.tobytes()


def read(path: Path) -> list[np.ndarray]:
    source = open_source(CameraConfig(source=str(path)), clock=time.monotonic_ns, paced=False)
    return [frame.image for frame in iter(source.read, None)]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm", ".jp2"])
@pytest.mark.parametrize("name", ["picture", "picture.mp4", "picture.txt"])
def test_a_picture_is_known_by_its_content(suffix: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encode(suffix))
    (image,) = read(tmp_path / name)
    assert image.shape == (40, 60, 3)
    assert np.abs(image[30, 40].astype(int) - (20, 90, 200)).max() < 12


def gif(pictures: int) -> bytes:
    """Minimal GIFs of 1 x 1 pixels, by the standard's example."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    one = b"\x21\xf9\x04\0\x0a\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return head + one * pictures + b"\x3b"


def test_a_still_gif_is_a_picture_and_an_animated_one_a_video(tmp_path: Path) -> None:
    for pictures, kind in ((1, "gif"), (2, None)):
        (tmp_path / "a.gif").write_bytes(gif(pictures))
        assert picture_kind(tmp_path / "a.gif") == kind


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which OpenCV does not read: save it as JPEG"),
        (b"\0\0\x01\0\x01\0\x10\x10", "an icon (ICO)"),
        (b"\xff\x0a\xff\xff", "JPEG XL"),
        (b"8BPS\0\x01", "Photoshop"),
    ],
)
def test_a_kind_that_cannot_be_read_is_named_with_what_to_do(head: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "phone.dat").write_bytes(head + bytes(64))
    with pytest.raises(SourceError) as error:
        read(tmp_path / "phone.dat")
    assert said in str(error.value)


def test_a_folder_takes_pictures_without_a_suffix_and_says_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(encode(".jpg"))
    (tmp_path / "b.jfif").write_bytes(encode(".jpg"))
    (tmp_path / "c.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "notes.txt").write_text("notes")
    with caplog.at_level(logging.WARNING):
        assert len(read(tmp_path)) == 2
    assert "left out c.heic (HEIC), notes.txt (no picture)" in caplog.text
    for name in ("a", "b.jfif"):
        (tmp_path / name).unlink()
    with pytest.raises(SourceError, match="no picture in this folder that can be read"):
        read(tmp_path)
    assert "c.heic (HEIC)" in caplog.text


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_bits_of_a_camera_in_sixteen_are_stretched(bits: int) -> None:
    ramp = np.linspace(0, (1 << bits) - 1, 100).astype(np.uint16)
    image = decode_picture(encode(".png", np.tile(ramp, (20, 1))))
    assert image is not None
    assert image.dtype == np.uint8
    assert image.shape == (20, 100, 3)
    assert (int(image.min()), int(image.max())) == (0, 255)
    assert np.abs(image[0, :, 0].astype(float) - np.linspace(0, 255, 100)).max() <= 1


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ([(b"irot", b"\x01")], (1, None)),
        ([(b"irot", b"\x03"), (b"imir", b"\x01")], (3, 1)),
        ([(b"imir", b"\x00")], (0, 0)),
        ([], (0, None)),
    ],
)
def test_the_turning_of_the_primary_item_is_read(
    properties: list[tuple[bytes, bytes]], expected: tuple[int, int | None]
) -> None:
    others = box(b"ispe", bytes(12)) + box(b"irot", b"\x02")  # of a thumbnail
    ipco = box(b"ipco", others + b"".join(box(*one) for one in properties))
    mine = bytes([1 + 0, *(0x80 | 3 + k for k in range(len(properties)))])
    ipma = b"\0\0\0\0" + struct.pack(">I", 2) + b"\0\x02\x01\x82" + b"\0\x01" + bytes([len(mine)]) + mine
    meta = box(b"meta", b"\0\0\0\0" + box(b"pitm", b"\0\0\0\0\0\x01") + box(b"iprp", ipco + box(b"ipma", ipma)))
    assert avif_turn(box(b"ftyp", b"avif\0\0\0\0") + meta) == expected


def test_broken_boxes_turn_nothing() -> None:
    for data in (b"", b"\0\0\0\x08ftyp", box(b"ftyp", b"avif") + box(b"meta", b"\0\0\0\0" + box(b"pitm", b"\0"))):
        assert avif_turn(data) == (0, None)
