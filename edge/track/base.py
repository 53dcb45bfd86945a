"""What every tracker offers: two verbs."""

from __future__ import annotations

from typing import Protocol

from edge.records import Faces, Tracks


class FaceTracker(Protocol):
    """Follows faces from frame to frame. Has no clock: time is an argument."""

    def update(self, faces: Faces | None, timestamp_ns: int, *, frame_wh: tuple[int, int] | None = None) -> Tracks:
        """Moves all tracks to a frame's time.

        Args:
            faces: what the detector found in the frame; None when it did not run, so that places are predicted.
            timestamp_ns: the frame's time of capture; never earlier than the last one.
            frame_wh: width and height of the frame in pixels, so that a face that walks out is told from one that is
                hidden; None where they are not known.
        """
        ...

    def follow(self, tracks: Tracks) -> None:
        """Takes in where faces of the last update were found without the detector.

        Args:
            tracks: of that update, with those places in what is ``followed``.
        """
        ...

    def reset(self) -> tuple[str, ...]:
        """Forgets all tracks and returns the ids of those that were confirmed (camera lost, cut, end)."""
        ...
