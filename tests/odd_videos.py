"""Videos for tests, encoded by PyAV: interlaced, with odd time stamps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np


def pictures(count: int) -> list[np.ndarray]:
    """A bright disc that moves over grey."""
    made = []
    for number in range(count):
        picture = np.full((240, 320, 3), 110, np.uint8)
        cv2.circle(picture, (60 + 4 * number, 120), 40, (30, 200, 240), -1)
        made.append(picture)
    return made


def write(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    interlaced: bool = False,
    times_ms: Sequence[int] | None = None,
) -> Path:
    """Encode pictures at 25 frames a second, or at the given times."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if interlaced:
            stream.codec_context.options = {"flags": "+ildct+ilme"}
            if codec == "libx264":
                stream.codec_context.options["x264opts"] = "tff=1"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame = frame.reformat(format="yuv420p")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
