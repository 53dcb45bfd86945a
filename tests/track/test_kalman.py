from __future__ import annotations

from math import cos, pi, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from track_scenes import FRAME_WH, FRONTAL, Outcome, Person, follow, make_tracker, steady, walk

from edge.config.schema import TrackConfig
from edge.errors import UsageError
from edge.records import NO_FACES, Faces, Tracks
from edge.track import kalman as module
from edge.track import open_tracker

SEEDS = range(5)
S = 1_000_000_000
MS = 1_000_000


def face(x: float, y: float, side: float = 60.0, score: float = 0.9) -> Faces:
    return faces((x, y, side), score=score)


def faces(*at: tuple[float, float, float], score: float = 0.9) -> Faces:
    xywh = [(x - s / 2, y - s / 2, s, s) for x, y, s in at]
    points = [(x, y) + FRONTAL * s for x, y, s in at]
    return Faces(
        np.array(xywh, np.float32).reshape(-1, 4),
        np.full(len(at), score, np.float32),
        np.array(points, np.float32).reshape(-1, 5, 2),
    )


def ids(tracks: Tracks) -> list[str]:
    return [track.id for track in tracks.active]


def assert_kept_apart(outcome: Outcome, people: int) -> None:
    assert outcome.switches == 0
    assert len({row[0][1] for row in outcome.ids}) == people
    assert len(outcome.shown) == people


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fps", [5, 10, 15, 30])
def test_two_people_who_cross_keep_their_ids(seed: int, fps: float) -> None:
    near = Person(walk((0, 140, 230), (4, 500, 230)), steady(70), depth=0)
    far = Person(walk((0, 480, 240), (4, 160, 240)), steady(60), depth=1)
    assert_kept_apart(follow([near, far], seconds=4, fps=fps, seed=seed), 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("depth", [0, 1])
def test_somebody_who_passes_before_or_behind_a_sitting_person_takes_no_id(seed: int, depth: int) -> None:
    sitting = Person(walk((0, 320, 240), (5, 320, 240)), steady(70), depth=0.5)
    passing = Person(walk((0, 100, 250), (5, 540, 250)), steady(65), depth=depth)
    assert_kept_apart(follow([sitting, passing], seconds=5, seed=seed), 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_somebody_who_turns_round_behind_another_keeps_the_id(seed: int) -> None:
    sitting = Person(walk((0, 320, 240), (5, 320, 240)), steady(60), depth=0)
    turning = Person(walk((0, 140, 230), (2, 300, 230), (2.2, 300, 230), (4.2, 140, 230)), steady(45), depth=1)
    assert_kept_apart(follow([sitting, turning], seconds=4.2, seed=seed), 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("speed_px", [0, 60])
def test_a_face_that_is_hidden_for_a_second_comes_back_with_its_id(seed: int, speed_px: float) -> None:
    path = walk((0, 250, 200), (4, 250 + 4 * speed_px, 200))
    hidden = Person(lambda t: None if 1.5 < t < 2.5 else path(t), steady(60))
    beside = Person(walk((0, 300, 400), (4, 300, 400)), steady(60))
    assert_kept_apart(follow([hidden, beside], seconds=4, seed=seed), 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fps", [15, 30])
def test_two_people_who_swap_places_fast_keep_their_ids(seed: int, fps: float) -> None:
    def moved(t: float) -> float:
        return (1 - cos(pi * min(max((t - 1) / 0.6, 0), 1))) / 2

    left = Person(lambda t: (250 + 140 * moved(t), 240), steady(64), depth=0)
    right = Person(lambda t: (390 - 140 * moved(t), 250), steady(60), depth=1)
    assert_kept_apart(follow([left, right], seconds=3, fps=fps, seed=seed), 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fps", [5, 15])
def test_a_face_that_comes_near_fast_stays_one(seed: int, fps: float) -> None:
    coming = Person(walk((0, 300, 200), (2, 340, 250)), lambda t: 20 * 10 ** (t / 2))
    beside = Person(walk((0, 100, 100), (2, 100, 100)), steady(30))
    assert_kept_apart(follow([coming, beside], seconds=2, fps=fps, seed=seed, miss=0.05), 2)


def seated(row: int, column: int) -> Person:
    x, y, phase = 80 + 120 * column, 70 + 110 * row, row * 1.3 + column
    return Person(
        lambda t: (x + 14 * sin(2 * t + phase) + 4 * sin(7 * t + phase), y + 7 * sin(3 * t + phase)),
        steady(36 + 4 * column),
        turn=lambda t: 0.15 * sin(t + phase),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_restless_faces_found_with_gaps_and_scatter_keep_their_ids(seed: int) -> None:
    people = [seated(row, column) for row in range(4) for column in range(5)]
    outcome = follow(people, seconds=6, fps=10, seed=seed, miss=0.1, jitter=0.03)
    assert_kept_apart(outcome, 20)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_streams_of_ten_walkers_that_pass_through_each_other_keep_their_ids(seed: int) -> None:
    def walker(index: int, direction: int) -> Person:
        start, y = 320 - direction * 260, 50 + 40 * index
        return Person(walk((0, start, y), (6, start + direction * 520, y)), steady(30 + index % 3 * 4), depth=direction)

    people = [walker(index, direction) for index in range(10) for direction in (-1, 1)]
    assert_kept_apart(follow(people, seconds=6, fps=15, seed=seed, miss=0.02), 20)


def test_the_detector_may_rest_on_two_of_three_frames() -> None:
    near = Person(walk((0, 140, 230), (4, 500, 230)), steady(70), depth=0)
    far = Person(walk((0, 480, 240), (4, 160, 240)), steady(60), depth=1)
    assert_kept_apart(follow([near, far], seconds=4, fps=15, detect_every=3), 2)


def test_whoever_walks_out_ends_sooner_than_whoever_is_hidden_and_returns_as_somebody_new() -> None:
    leaving = Person(
        lambda t: (560 + 80 * t, 240) if t < 1 else (640 - 80 * (t - 4), 240) if t > 4 else None, steady(60)
    )
    hidden = Person(lambda t: (200, 240) if t < 1 or t > 4 else None, steady(60))
    outcome = follow([leaving, hidden], seconds=5)
    ended = {id: t for t, id in outcome.ended}
    first, second = outcome.ids_of(0)
    assert ended[first] < 1.0 + 0.3 + 0.2
    assert ended[outcome.ids_of(1)[0]] > 1.0 + 1.4
    assert second != first


def test_whoever_leans_out_of_the_picture_for_a_moment_keeps_the_id() -> None:
    leaning = Person(
        lambda t: (560 + 80 * t, 240) if t < 1 else (640 - 80 * (t - 1.2), 240) if t > 1.2 else None, steady(60)
    )
    assert len(follow([leaning], seconds=2).ids_of(0)) == 1


def test_a_face_is_shown_once_it_was_seen_for_the_confirmation_time() -> None:
    tracker = make_tracker(confirm_ms=100)
    assert not tracker.update(face(100, 100), 0).active
    pending = tracker.update(face(100, 100), 66 * MS)
    assert not pending.active
    assert pending.unsettled
    shown = tracker.update(face(100, 100), 133 * MS)
    assert [(track.first_ns, track.observed) for track in shown.active] == [(0, True)]
    assert not shown.unsettled


def test_without_a_confirmation_time_a_face_is_shown_in_the_first_frame() -> None:
    assert len(make_tracker(confirm_ms=0).update(face(100, 100), 5).active) == 1


def test_what_was_seen_once_is_never_shown() -> None:
    tracker = make_tracker(confirm_ms=100)
    tracker.update(face(100, 100), 0)
    assert not any(tracker.update(NO_FACES, n * 50 * MS).active for n in range(1, 40))
    assert tracker.reset() == ()


def test_a_weak_face_continues_a_track_but_starts_none() -> None:
    tracker = open_tracker(TrackConfig(confirm_ms=0), new_id=iter("abc").__next__, start_score=0.6)
    assert not tracker.update(face(100, 100, score=0.5), 0).active
    assert ids(tracker.update(face(100, 100, score=0.7), 66 * MS)) == ["a"]
    weak = tracker.update(face(101, 100, score=0.5), 133 * MS)
    assert [(track.id, track.observed) for track in weak.active] == [("a", True)]


def test_an_unseen_face_is_predicted_with_its_landmarks_and_says_so() -> None:
    tracker = make_tracker(confirm_ms=0)
    for n in range(10):
        tracker.update(face(100 + 6 * n, 100), n * 66 * MS)
    (track,) = tracker.update(None, 10 * 66 * MS).active
    assert not track.observed
    assert track.last_seen_ns == 9 * 66 * MS
    assert track.xywh[0] + track.xywh[2] / 2 == pytest.approx(160, abs=3)
    centre = np.array((track.xywh[0] + track.xywh[2] / 2, track.xywh[1] + track.xywh[3] / 2))
    np.testing.assert_allclose(track.landmarks, centre + FRONTAL * 60, atol=1.0)


def test_while_the_detector_rests_no_face_ends() -> None:
    tracker = make_tracker(confirm_ms=0)
    tracker.update(face(100, 100), 0)
    for n in range(1, 60):
        assert len(tracker.update(None, n * 66 * MS).active) == 1
    assert len(tracker.update(NO_FACES, 60 * 66 * MS).active) == 1


def test_a_face_that_was_missed_is_awaited_for_a_moment_and_leaves_on_time_while_the_detector_rests() -> None:
    tracker = make_tracker(confirm_ms=0)  # keep_ms is 1500
    tracker.update(face(100, 100), 0)
    assert tracker.update(NO_FACES, 66 * MS).unsettled
    assert not tracker.update(NO_FACES, 133 * MS).unsettled
    assert tracker.update(None, 1466 * MS).ended == ()
    assert len(tracker.update(None, 1533 * MS).ended) == 1


def test_a_face_that_ended_stands_in_ended_once() -> None:
    tracker = make_tracker(confirm_ms=0)
    (id,) = ids(tracker.update(face(100, 100), 0))
    ended = [tracker.update(NO_FACES, n * 100 * MS).ended for n in range(1, 40)]
    assert [row for row in ended if row] == [(id,)]
    assert ended.index((id,)) == 15


def test_after_a_gap_longer_than_keep_the_face_is_somebody_new_in_the_same_frame() -> None:
    tracker = make_tracker(confirm_ms=0)
    (before,) = ids(tracker.update(face(100, 100), 0))
    tracks = tracker.update(face(100, 100), 5 * S)
    assert tracks.ended == (before,)
    assert ids(tracks) != [before]


def test_reset_returns_the_confirmed_ids_and_forgets_all() -> None:
    tracker = make_tracker(confirm_ms=100)
    tracker.update(face(100, 100), 0)
    shown = ids(tracker.update(faces((100, 100, 60), (400, 300, 60)), 200 * MS))
    assert tracker.reset() == tuple(shown)
    assert tracker.reset() == ()
    assert not tracker.update(None, 300 * MS).active


def test_time_may_start_anew_after_a_reset() -> None:
    tracker = make_tracker(confirm_ms=0)
    tracker.update(face(100, 100), 100 * S)
    tracker.reset()
    (track,) = tracker.update(face(100, 100), 0).active
    assert track.first_ns == 0


def test_active_tracks_stand_in_order_of_their_first_appearance() -> None:
    tracker = make_tracker(confirm_ms=0)
    first = ids(tracker.update(face(400, 300), 0))
    both = ids(tracker.update(faces((100, 100, 60), (400, 300, 60)), 66 * MS))
    assert both[0] == first[0]


def test_an_unknown_tracker_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="kalman"):
        open_tracker(TrackConfig(tracker="magic"), new_id=str)


coordinates = st.floats(-200, 900, width=32)
boxes = st.tuples(coordinates, coordinates, st.floats(0, 600, width=32), st.floats(0, 600, width=32))
one_frame = st.tuples(st.integers(0, 3 * S), st.none() | st.lists(boxes, max_size=8))


def run_frames(frames: list[tuple[int, list[tuple[float, float, float, float]] | None]], seed: int = 3) -> list[Tracks]:
    tracker, now, out = make_tracker(seed, confirm_ms=50), 0, []
    for passed, found in frames:
        now += passed
        seen = None
        if found is not None:
            xywh = np.array(found, np.float32).reshape(-1, 4)
            points = xywh[:, None, :2] + np.float32(0.5) * xywh[:, None, 2:] + np.zeros((1, 5, 2), np.float32)
            seen = Faces(xywh, np.full(len(xywh), 0.8, np.float32), points)
        out.append(tracker.update(seen, now, frame_wh=FRAME_WH))
    return out


@settings(max_examples=150, deadline=None)
@given(st.lists(one_frame, max_size=25))
def test_whatever_is_found_whenever_ids_are_unique_and_numbers_finite(
    frames: list[tuple[int, list[tuple[float, float, float, float]] | None]],
) -> None:
    gone: set[str] = set()
    before: list[str] = []
    for tracks in run_frames(frames):
        now = ids(tracks)
        assert len(set(now)) == len(now)
        assert not gone & set(now)
        assert set(before) - set(now) == set(tracks.ended)
        assert [id for id in now if id in before] == [id for id in before if id in now]
        for track in tracks.active:
            assert np.isfinite(track.xywh).all()
            assert np.isfinite(track.landmarks).all()
            assert track.xywh[2] > 0
            assert track.xywh[3] > 0
        gone.update(tracks.ended)
        before = now


@settings(max_examples=40, deadline=None)
@given(st.lists(one_frame, max_size=15))
def test_the_same_frames_make_the_same_tracks(
    frames: list[tuple[int, list[tuple[float, float, float, float]] | None]],
) -> None:
    assert repr(run_frames(frames)) == repr(run_frames(frames))


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=6), st.lists(boxes, min_size=1, max_size=6), st.integers(0, S))
def test_arrays_and_plain_floats_give_the_same_gains(
    first: list[tuple[float, float, float, float]], second: list[tuple[float, float, float, float]], passed: int
) -> None:
    def observed(found: list[tuple[float, float, float, float]]) -> module._Observations:
        xywh = np.array(found, np.float32)
        points = xywh[:, None, :2] + np.zeros((1, 5, 2), np.float32)
        return module._Observations(Faces(xywh, np.full(len(xywh), 0.8, np.float32), points))

    seen = observed(first)
    states = [module._Face(str(n), seen, n, 0) for n in range(len(first))]
    plain = module._gains(states, observed(second))
    by_arrays = module._gains_of_many(states, observed(second))
    assert [edge[:2] for edge in plain] == [edge[:2] for edge in by_arrays]
    np.testing.assert_allclose([edge[2] for edge in plain], [edge[2] for edge in by_arrays], rtol=1e-9, atol=1e-9)
