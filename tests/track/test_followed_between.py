"""What is found between two detections makes the tracker as sure of a face as a detection does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from track_scenes import make_tracker

from edge.records import Faces, Tracks

MS = 1_000_000


def face(x: float) -> Faces:
    box = np.array([[x - 30, 170, 60, 60]], np.float32)
    return Faces(box, np.array([0.9], np.float32), np.full((1, 5, 2), (x, 200), np.float32))


def test_a_face_followed_between_two_detections_is_predicted_where_it_went() -> None:
    alone, told = make_tracker(confirm_ms=0), make_tracker(confirm_ms=0)
    for tracker in (alone, told):
        tracker.update(face(100), 0)
        for n in (1, 2, 3, 4):
            tracks = tracker.update(None, n * 50 * MS)
            if tracker is told:  # it turned out to walk at 200 px/s
                moved = replace(tracks.active[0], xywh=(70 + 10 * n, 170, 60, 60), followed=True)
                tracker.follow(Tracks((moved,)))
    predicted = [tracker.update(None, 250 * MS).active[0].xywh[0] for tracker in (alone, told)]
    assert abs(predicted[1] - 120) < 2 < abs(predicted[0] - 120)


def test_a_face_that_was_not_followed_is_left_as_it_was() -> None:
    tracker = make_tracker(confirm_ms=0)
    tracker.update(face(100), 0)
    tracks = tracker.update(None, 50 * MS)
    tracker.follow(tracks)
    assert tracker.update(None, 50 * MS).active[0].xywh == tracks.active[0].xywh
