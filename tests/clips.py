"""Video clips for tests, composed of the free photographs that ship with the demo, written when needed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

PICTURES = Path(__file__).resolve().parent.parent / "edge" / "capture" / "portraits"


def free_faces() -> list[Path]:
    """The demo's photographs, each with one face, sorted."""
    return sorted(path for path in PICTURES.iterdir() if path.suffix in (".jpg", ".png"))


def write_clip(path: Path, *, people: int = 2, seconds: float = 2.0, fps: float = 15.0) -> Path:
    """A clip of 640x480 in which some people sway a little on a grey background.

    Args:
        path: an ``.avi`` file.
        people: 1 to 3.
        seconds: length.
        fps: frames a second.
    """
    heads = [cv2.imread(str(picture)) for picture in free_faces()[:people]]
    heads = [cv2.resize(head, (190, round(190 * head.shape[0] / head.shape[1]))) for head in heads]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (640, 480))
    assert writer.isOpened()
    for number in range(round(seconds * fps)):
        frame = np.full((480, 640, 3), 110, np.uint8)
        for index, head in enumerate(heads):
            left = 15 + index * 210 + round(6 * np.sin(number / 5 + index))
            height = min(head.shape[0], 440)
            frame[20 : 20 + height, left : left + 190] = head[:height]
        writer.write(frame)
    writer.release()
    return path


def write_blinking_clip(path: Path, *, fps: float = 15.0) -> Path:
    """A clip of 320x256 in which a face is there for three frames and away for three, and so on: ten events in 2 s."""
    head = cv2.resize(cv2.imread(str(free_faces()[0])), (180, 220))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (320, 256))
    assert writer.isOpened()
    for number in range(30):
        frame = np.full((256, 320, 3), 110, np.uint8)
        if number % 6 < 3:
            frame[18:238, 70:250] = head
        writer.write(frame)
    writer.release()
    return path
