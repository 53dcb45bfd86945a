"""Trackers: which face is whose from frame to frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge.config.schema import TrackConfig
from edge.registry import load_entry
from edge.track.base import FaceTracker

TRACKERS: Final = {"kalman": "edge.track.kalman:KalmanTracker"}
"""Key of the configuration to the class; a class takes the configuration, ``new_id`` and ``start_score``."""


def open_tracker(config: TrackConfig, *, new_id: Callable[[], str], start_score: float = 0.0) -> FaceTracker:
    """Makes the configured tracker.

    Args:
        config: the section ``track``.
        new_id: makes the ids of new tracks; see `edge.track.ids.TrackIds`.
        start_score: a face below this detector score continues a track but starts none, 0..1.

    Raises:
        UsageError: an unknown tracker; the message lists the valid ones.
    """
    tracker: FaceTracker = load_entry(TRACKERS, config.tracker, what="track.tracker")(
        config, new_id=new_id, start_score=start_score
    )
    return tracker
