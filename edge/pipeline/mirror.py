"""Which view of a face a frame is read from: the crop, its mirror image, or both.

A network's opinions of a face and of its mirror image differ by chance; their mean is better than either. A track's
frames alternate, so that the smoother averages both views at no cost. Where it cannot (the first frame of a track,
frames far apart, no smoothing) both views are read and averaged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.records import Floats

BOTH: Final = (False, True)
FAR_APART: Final = 0.5
"""Share of the smoother's time constant from which on consecutive frames of a track are far apart."""

Views = tuple[bool, ...]
"""Of one face: False is the crop, True its mirror image."""


class ViewSchedule:
    """Chooses the views of every face.

    Args:
        mirror: False reads crops as they are, always.
        time_constant_ms: the smoother's.
    """

    def __init__(self, *, mirror: bool, time_constant_ms: float) -> None:
        self._mirror = mirror
        self._last: dict[str, tuple[int, bool]] = {}
        self.configure(time_constant_ms=time_constant_ms)

    def configure(self, *, time_constant_ms: float) -> None:
        """Take another time constant from the next frame on."""
        self._far_ns = FAR_APART * time_constant_ms * 1e6

    def choose(self, track_ids: Sequence[str], timestamp_ns: int) -> list[Views]:
        """Return the views of each face that is read in this frame.

        Args:
            track_ids: of the faces.
            timestamp_ns: the frame's time of capture.
        """
        if not self._mirror:
            return [(False,)] * len(track_ids)
        views = [self._views(track_id, timestamp_ns) for track_id in track_ids]
        self._last.update({name: (timestamp_ns, chosen[-1]) for name, chosen in zip(track_ids, views, strict=True)})
        return views

    def keep(self, track_ids: Sequence[str]) -> None:
        """Forget all tracks but these."""
        if len(self._last) > len(track_ids):
            self._last = {name: self._last[name] for name in track_ids if name in self._last}

    def _views(self, track_id: str, timestamp_ns: int) -> Views:
        last = self._last.get(track_id)
        if last is None or timestamp_ns - last[0] >= self._far_ns:
            return BOTH
        return (not last[1],)


def view_crops(crops: npt.NDArray[np.uint8], views: Sequence[Views]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the chosen views (height, width, channels) of crops (n, height, width, channels), face by face."""
    for crop, chosen in zip(crops, views, strict=True):
        for is_mirrored in chosen:
            yield np.ascontiguousarray(crop[:, ::-1]) if is_mirrored else crop


def average_views(scores: Floats, views: Sequence[Views]) -> Iterator[Floats]:
    """Yield the mean scores (labels,) of each face, of the scores (views, labels) of all views in their order."""
    start = 0
    for chosen in views:
        yield scores[start] if len(chosen) == 1 else scores[start : start + len(chosen)].mean(axis=0)
        start += len(chosen)
