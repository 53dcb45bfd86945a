"""Interlaced video: OpenCV 4.13 and later say "read" and hand out a buffer that nothing was written to.

FFmpeg says so in its log, which Mien keeps silent because it holds addresses with their passwords. So a child process
reads the beginning once more, and what its FFmpeg says is looked at, never shown.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Final

import cv2
import numpy as np

from edge.capture.opencv import OpencvCapture
from edge.capture.pyav import AvCapture
from edge.errors import SourceError
from edge.records import Image

FLAT_BELOW: Final = 2.0
"""Standard deviation of a picture, in steps of 255, below which nothing is in it."""
_FRAMES: Final = 40
_TIMEOUT_S: Final = 8.0
_CHILD: Final = f"""
import sys, cv2
capture = cv2.VideoCapture(sys.stdin.read(), cv2.CAP_FFMPEG)
for _ in range({_FRAMES}):
    capture.grab() and capture.retrieve()
"""


def is_flat(image: Image) -> bool:
    """Return whether a picture shows nothing: one colour all over."""
    return float(np.std(image[::8, ::8], axis=(0, 1)).max()) < FLAT_BELOW


def is_suspicious(capture: OpencvCapture) -> bool:
    """Return whether the first pictures may be none: flat, or the same buffer each time. Takes three frames."""
    pictures = [capture.retrieve() for _ in range(3) if capture.grab()]
    first, *others = pictures or [None]
    if first is None or not others:
        return False
    return is_flat(first) or all(other is not None and np.array_equal(first, other) for other in others)


def is_interlaced(target: str) -> bool:
    """Return whether OpenCV's FFmpeg complains of interlaced pictures in a file or stream.

    Args:
        target: file or address; may hold credentials.
    """
    environment = {key: value for key, value in os.environ.items() if key != "OPENCV_FFMPEG_LOGLEVEL"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=os.fsencode(target),
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"interlaced" in done.stderr


def reopen_interlaced(target: str, *, name: str, options: dict[str, str] | None = None) -> AvCapture:
    """Open an interlaced file or stream through PyAV, which deinterlaces it.

    Args:
        target: file or address; may hold credentials.
        name: the source for messages.
        options: of FFmpeg.

    Raises:
        SourceError: PyAV is not installed, or cannot read it either.
    """
    if importlib.util.find_spec("av") is None:
        raise SourceError(
            name,
            f"is interlaced video, which OpenCV {cv2.__version__} reads as black pictures; install PyAV beside Mien "
            "(pip install 'av>=14,<16'), or deinterlace it first (ffmpeg -i IN -vf bwdif OUT)",
        )
    capture = AvCapture.open(target, options=options)
    if capture is None:
        raise SourceError(name, "is interlaced video that neither OpenCV nor PyAV can read")
    return capture
