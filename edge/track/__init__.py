"""Trackers: which face is whose from frame to frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge.config.schema import TrackConfig
from edge.errors import UsageError
from edge.track.base import FaceTracker
from edge.track.kalman import KalmanTracker

TRACKERS: Final = ("kalman",)
"""What ``track.tracker`` may be."""


def open_tracker(config: TrackConfig, *, new_id: Callable[[], str], start_score: float = 0.0) -> FaceTracker:
    """Make the configured tracker; see `KalmanTracker`.

    Raises:
        UsageError: an unknown tracker; the message lists the valid ones.
    """
    if config.tracker not in TRACKERS:
        raise UsageError(f"track.tracker: {config.tracker!r} is unknown; there are {', '.join(TRACKERS)}")
    return KalmanTracker(config, new_id=new_id, start_score=start_score)
