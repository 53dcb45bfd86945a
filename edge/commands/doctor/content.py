"""Pictures that are no pictures: a camera that delivers frames may still show nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Find = Callable[[Picture], Sequence[float]]

NO_PICTURE: Final = "the picture is"
"""Begins what is said where nothing can be seen."""
DARK: Final = 12.0
"""Mean grey below which a picture is black: video black is 16 of 255, sensors' noise lies above."""
FLAT: Final = 2.0
"""Standard deviation of grey below which a picture shows nothing."""
FACES_MARGIN: Final = 0.05
"""By how much the best face's score must be better when turned: five portraits upside down lost 0.06 to 0.26."""


def doubt_pictures(
    pictures: Sequence[Picture], *, is_live: bool, find: Callable[[Picture], Sequence[float]]
) -> str | None:
    """Return what is wrong with what a camera shows; None where nothing is.

    Args:
        pictures: BGR frames, in order of time.
        is_live: whether they come from a camera, whose noise makes no two frames the same.
        find: returns the scores of the faces in a picture.
    """
    greys = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in pictures]
    if all(float(grey.std()) < FLAT for grey in greys):
        if all(float(grey.mean()) < DARK for grey in greys):
            return f"{NO_PICTURE} black"
        return f"{NO_PICTURE} one flat colour"
    if all(float(grey.mean()) < DARK for grey in greys):
        return f"{NO_PICTURE} almost black"
    if is_live and len(greys) > 1 and all(np.array_equal(greys[0], grey) for grey in greys[1:]):
        return f"{len(greys)} frames in a row are the same to the last bit: frozen?"
    return _turned(pictures[-1], find)


def _turned(picture: Picture, find: Find) -> str | None:
    """Say so where faces are found better in the turned picture."""
    turns = {0: None, 90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    found = {
        degrees: max(find(picture if turn is None else np.asarray(cv2.rotate(picture, turn), np.uint8)), default=0.0)
        for degrees, turn in turns.items()
    }
    best = max(found, key=lambda degrees: found[degrees])
    if best and found[best] > found[0] + FACES_MARGIN:
        return f"faces are found better when it is turned: camera.rotate = {best}"
    return None
