"""Quality of a face: size, blur, turn, brightness and cut, in a few tens of microseconds a face."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.contract.preprocess import resize, to_grey
from edge.records import Floats, Image, Quality, Track

BLUR_SIDE_PX: Final = 32
"""Blur is measured on the crop at this size, so that a near face and a far one compare."""
HALF_BLURRED: Final = 0.1
"""Power of the Laplacian relative to the contrast's at which ``blur`` is one half.

Medians over 1,500 FER2013 faces: sharp 0.93 (``blur`` 0.10; 0.24 for the softest in a hundred); after a Gaussian blur
of 2, 4, 6 and 8 % of the face's side 0.23, 0.055, 0.022 and 0.012 (``blur`` 0.30, 0.64, 0.82, 0.90)."""


def measure_quality(track: Track, crop: Image, *, frame_wh: tuple[int, int]) -> Quality:
    """Measure how well one face can be read.

    Args:
        track: its box and landmarks.
        crop: (height, width[, 3]) uint8, the face's square; the model's input does, and is cheaper than the frame's own
            resolution (shrinking 200 to 32 px takes 0.2 ms).
        frame_wh: width and height of the frame in pixels.
    """
    grey = resize(to_grey(crop), (BLUR_SIDE_PX, BLUR_SIDE_PX))
    mean, deviation = cv2.meanStdDev(grey)
    return Quality(
        face_px=min(track.xywh[2], track.xywh[3]),
        blur=_blur(grey, float(deviation[0, 0])),
        yaw=yaw_of(track.landmarks),
        brightness=float(mean[0, 0]) / 255.0,
        cut=outside_share(track.xywh, frame_wh),
    )


def outside_share(xywh: tuple[float, float, float, float], frame_wh: tuple[int, int]) -> float:
    """Return the share of a face's box that lies beyond the frame's edges, 0..1.

    The detector completes the box of a face that is cut. Of 36 faces of 60 pixels and more, each cut at three edges,
    17.6, 24.0 and 19.2 % of the readings named another emotion with confidence at 30, 40 and 50 % beyond the edge;
    leaving out what has more than 0.15 of its box outside 3.9, 4.2 and 2.6 %, and none of the whole faces
    (``tests/benchmarks/cut_faces.py``).

    Args:
        xywh: left, top, width, height in pixels.
        frame_wh: width and height of the frame in pixels.
    """
    x, y, w, h = xywh
    inside_w, inside_h = min(x + w, frame_wh[0]) - max(x, 0.0), min(y + h, frame_wh[1]) - max(y, 0.0)
    if inside_w <= 0 or inside_h <= 0 or w <= 0 or h <= 0:
        return 1.0
    return 1.0 - (inside_w * inside_h) / (w * h)


def yaw_of(landmarks: Floats) -> float:
    """Return how far a head is turned, by the nose between the eyes: -1..1, 0 frontal, positive to the right.

    The nose is projected onto the line through the eyes, so that a tilted head is not taken for a turned one. The
    result is ``2 t - 1`` where ``t`` is 0 at the eye on the picture's left and 1 at the other.

    Args:
        landmarks: (5, 2) float32 in pixels: right eye, left eye, nose, mouth corners.
    """
    points: list[list[float]] = landmarks.tolist()
    (rx, ry), (lx, ly), (nx, ny) = points[:3]
    ux, uy = lx - rx, ly - ry
    along = (nx - (lx + rx) / 2) * ux + (ny - (ly + ry) / 2) * uy
    length = ux * ux + uy * uy
    return max(-1.0, min(1.0, 2.0 * along / length)) if length else 0.0


def _blur(grey: npt.NDArray[np.uint8], deviation: float) -> float:
    """Return the variance of the Laplacian (Pech-Pacheco et al. 2000) over the picture's own, mapped onto 0..1."""
    if deviation < 1.0:
        return 1.0
    edges = cv2.Laplacian(grey, cv2.CV_16S)
    power = float(cv2.norm(edges, cv2.NORM_L2SQR)) / grey.size
    return 1.0 / (1.0 + power / (deviation * deviation) / HALF_BLURRED)
