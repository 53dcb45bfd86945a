from __future__ import annotations

from itertools import pairwise
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config.schema import QualityConfig, SmoothConfig
from edge.contract.labels import LABELS, UNCERTAIN
from edge.pipeline.smoothing import EmotionSmoother
from edge.records import FaceState, Floats, Quality, Reason, Track, Tracks

MS = 1_000_000
GOOD = Quality(face_px=90, blur=0.2, yaw=0.0, brightness=0.5)
HAPPY, NEUTRAL = LABELS.index("happy"), LABELS.index("neutral")


def smoother(margin: float = 0.05, **keys: float) -> EmotionSmoother:
    return EmotionSmoother(LABELS, smooth=SmoothConfig(**keys), quality=QualityConfig(), min_margin=margin)


def scores(**of: float) -> Floats:
    rest = (1 - sum(of.values())) / (len(LABELS) - len(of))
    return np.array([of.get(label, rest) for label in LABELS], np.float32)


def tracks(*ids: str, observed: bool = True) -> Tracks:
    landmarks = np.zeros((5, 2), np.float32)
    return Tracks(tuple(Track(id, (0, 0, 90, 110), landmarks, 0.9, observed, 0, 0) for id in ids))


def step(to: EmotionSmoother, ms: float, given: Floats | None, quality: Quality | None = GOOD) -> FaceState:
    observed = given is not None
    (state,) = to.update(tracks("a", observed=observed), [given], [quality if observed else None], round(ms * MS))
    return state


def feed(to: EmotionSmoother, given: Floats, *, start: float, stop: float, every: float = 66) -> list[FaceState]:
    return [step(to, ms, given) for ms in np.arange(start, stop, every)]


def test_the_first_observation_sets_the_filter() -> None:
    state = step(smoother(), 0, scores(happy=0.8))
    assert (state.emotion, state.reason, state.evidence_frames) == ("happy", None, 1)
    assert state.confidence == pytest.approx(0.8)
    np.testing.assert_array_equal(state.smoothed, state.scores)


def test_the_filter_answers_a_step_by_its_time_constant_whatever_the_intervals() -> None:
    even, uneven = smoother(time_constant_ms=350), smoother(time_constant_ms=350)
    for one in (even, uneven):
        step(one, 0, scores(neutral=1.0))
    for ms in range(50, 701, 50):
        last_even = step(even, ms, scores(happy=1.0))
    for ms in (10, 300, 301, 650, 700):
        last_uneven = step(uneven, ms, scores(happy=1.0))
    assert last_even.smoothed[HAPPY] == pytest.approx(1 - exp(-2), abs=1e-5)
    np.testing.assert_allclose(last_even.smoothed, last_uneven.smoothed, atol=1e-5)


def test_without_time_constant_and_dwell_every_frame_stands_for_itself() -> None:
    to = smoother(time_constant_ms=0, min_dwell_ms=0)
    assert step(to, 0, scores(happy=0.9)).emotion == "happy"
    state = step(to, 1, scores(sad=0.9))
    assert state.emotion == "sad"
    np.testing.assert_array_equal(state.smoothed, scores(sad=0.9))


def test_a_single_contrary_frame_changes_nothing() -> None:
    to = smoother()
    feed(to, scores(neutral=0.9), start=0, stop=2000)
    assert step(to, 2000, scores(happy=0.95)).emotion == "neutral"
    assert all(state.emotion == "neutral" for state in feed(to, scores(neutral=0.9), start=2066, stop=4000))


def test_a_lasting_change_is_told_once_with_its_evidence() -> None:
    to = smoother()
    feed(to, scores(neutral=0.9), start=0, stop=2000)
    states = feed(to, scores(happy=0.9), start=2000, stop=4000)
    emotions = [state.emotion for state in states]
    assert emotions == sorted(emotions, reverse=True)
    change = next(state for state in states if state.emotion == "happy")
    assert change.since_ns <= 2700 * MS
    assert change.evidence_frames >= 1
    assert states[-1].since_ns == change.since_ns
    assert states[-1].evidence_frames > change.evidence_frames


def test_two_emotions_that_take_turns_at_the_top_hardly_flicker() -> None:
    to, rng = smoother(margin=0.0), np.random.default_rng(1)
    raw, steady = [], []
    for number in range(300):
        happy = float(np.clip(0.42 + 0.1 * rng.standard_normal(), 0.1, 0.75))
        state = step(to, number * 66, scores(happy=happy, neutral=0.84 - happy))
        raw.append(happy > 0.42)
        steady.append(state.emotion)
    assert 20 * sum(a != b for a, b in pairwise(steady)) < sum(a != b for a, b in pairwise(raw))


def test_a_rival_that_stays_ahead_takes_over_although_the_present_one_is_above_its_exit() -> None:
    to = smoother(enter=0.45, exit=0.35)
    feed(to, scores(neutral=0.9), start=0, stop=1000)
    assert feed(to, scores(happy=0.52, neutral=0.38), start=1000, stop=5000)[-1].emotion == "happy"


def test_an_emotion_holds_at_least_its_dwell() -> None:
    to = smoother(time_constant_ms=0, min_dwell_ms=500)
    emotions = [
        step(to, ms, scores(happy=0.9) if ms // 100 % 2 else scores(sad=0.9)).emotion for ms in range(0, 3000, 100)
    ]
    runs = [emotions[0]]
    lengths = [0]
    for emotion in emotions:
        if emotion != runs[-1]:
            runs.append(emotion)
            lengths.append(0)
        lengths[-1] += 1
    assert all(length >= 5 for length in lengths[:-1])
    assert len(runs) > 2


@pytest.mark.parametrize(
    ("quality", "reason"),
    [
        (Quality(10, 0.2, 0.0, 0.5), Reason.TOO_SMALL),
        (Quality(90, 0.95, 0.0, 0.5), Reason.BLURRED),
        (Quality(90, 0.2, -0.9, 0.5), Reason.TURNED),
        (Quality(90, 0.2, 0.9, 0.5), Reason.TURNED),
        (Quality(90, 0.2, 0.0, 0.01), Reason.DARK),
        (Quality(90, 0.2, 0.0, 0.5, cut=0.4), Reason.CUT_OFF),
    ],
)
def test_a_face_that_cannot_be_read_is_uncertain_with_the_reason(quality: Quality, reason: Reason) -> None:
    state = step(smoother(), 0, scores(happy=0.95), quality)
    assert (state.emotion, state.reason) == (UNCERTAIN, reason)


def test_two_scores_too_near_each_other_are_uncertain() -> None:
    state = step(smoother(margin=0.1), 0, scores(happy=0.45, neutral=0.4))
    assert (state.emotion, state.reason) == (UNCERTAIN, Reason.LOW_MARGIN)
    assert state.confidence == pytest.approx(0.45)


def test_the_configured_margin_goes_before_the_models() -> None:
    given = scores(happy=0.45, neutral=0.4)
    assert step(smoother(margin=0.1, min_margin=0.0), 0, given).emotion == "happy"
    assert step(smoother(margin=0.0, min_margin=0.1), 0, given).emotion == UNCERTAIN


def test_a_blurred_moment_does_not_interrupt_an_emotion_and_does_not_feed_the_filter() -> None:
    to = smoother(time_constant_ms=350)
    feed(to, scores(happy=0.9), start=0, stop=1000)
    state = step(to, 1056, scores(sad=0.99), Quality(90, 0.99, 0.0, 0.5))
    assert state.emotion == "happy"
    assert state.smoothed[HAPPY] == pytest.approx(0.9, abs=1e-4)
    assert state.quality.blur == 0.99


def test_a_head_that_stays_turned_becomes_uncertain_and_is_read_again_when_it_turns_back() -> None:
    to = smoother()
    feed(to, scores(happy=0.9), start=0, stop=1000)
    turned = [step(to, ms, scores(sad=0.9), Quality(90, 0.2, 0.8, 0.5)) for ms in range(1000, 2000, 66)]
    assert (turned[-1].emotion, turned[-1].reason) == (UNCERTAIN, Reason.TURNED)
    assert feed(to, scores(sad=0.9), start=2000, stop=3000)[-1].emotion == "sad"


def test_an_unreadable_face_must_clearly_pass_the_limit_to_be_read_again() -> None:
    to = smoother(time_constant_ms=0, min_dwell_ms=0)
    assert step(to, 0, scores(happy=0.9), Quality(90, 0.2, 0.7, 0.5)).emotion == UNCERTAIN
    assert step(to, 66, scores(happy=0.9), Quality(90, 0.2, 0.62, 0.5)).emotion == UNCERTAIN
    assert step(to, 133, scores(happy=0.9), Quality(90, 0.2, 0.5, 0.5)).emotion == "happy"


def test_the_reason_is_none_for_an_emotion_and_follows_what_hinders_now() -> None:
    to = smoother(time_constant_ms=0, min_dwell_ms=0)
    assert step(to, 0, scores(happy=0.9), Quality(10, 0.2, 0.0, 0.5)).reason is Reason.TOO_SMALL
    assert step(to, 66, scores(happy=0.9), Quality(90, 0.95, 0.0, 0.5)).reason is Reason.BLURRED
    assert step(to, 133, scores(happy=0.9)).reason is None


def test_while_a_face_is_only_predicted_everything_holds() -> None:
    to = smoother()
    before = feed(to, scores(happy=0.9), start=0, stop=1000)[-1]
    held = step(to, 1700, None)
    assert held.scores is None
    assert not held.track.observed
    assert (held.emotion, held.since_ns, held.evidence_frames) == (
        before.emotion,
        before.since_ns,
        before.evidence_frames,
    )
    np.testing.assert_array_equal(held.smoothed, before.smoothed)
    assert held.quality == before.quality


def test_a_face_that_was_never_classified_has_no_state_yet() -> None:
    assert smoother().update(tracks("a"), [None], [None], 0) == ()


def test_tracks_do_not_influence_each_other_and_ended_ones_are_forgotten() -> None:
    to = smoother()
    both = to.update(tracks("a", "b"), [scores(happy=0.9), scores(sad=0.9)], [GOOD, GOOD], 0)
    assert [state.emotion for state in both] == ["happy", "sad"]
    to.update(tracks("b"), [scores(sad=0.9)], [GOOD], 66 * MS)
    again = to.update(tracks("b", "a"), [scores(sad=0.9), scores(fear=0.9)], [GOOD, GOOD], 133 * MS)
    assert [(state.track.id, state.emotion, state.evidence_frames) for state in again] == [
        ("b", "sad", 3),
        ("a", "fear", 1),
    ]


def test_reset_forgets_all() -> None:
    to = smoother()
    feed(to, scores(happy=0.9), start=0, stop=1000)
    to.reset()
    assert step(to, 1066, scores(sad=0.9)).emotion == "sad"


qualities = st.builds(
    Quality, face_px=st.floats(0, 400), blur=st.floats(0, 1), yaw=st.floats(-1, 1), brightness=st.floats(0, 1)
)
rows = st.lists(st.floats(0.001, 1), min_size=7, max_size=7)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4000), st.none() | st.tuples(rows, qualities)), min_size=1, max_size=30),
    st.sampled_from([0.0, 350.0, 5000.0]),
    st.sampled_from([0.0, 500.0]),
)
def test_whatever_comes_states_are_sound(
    frames: list[tuple[int, tuple[list[float], Quality] | None]], tau: float, dwell: float
) -> None:
    to, now = smoother(time_constant_ms=tau, min_dwell_ms=dwell), 0
    before: FaceState | None = None
    for passed, found in frames:
        now += passed
        given = None if found is None else (np.array(found[0]) / sum(found[0])).astype(np.float32)
        quality = None if found is None else found[1]
        for state in to.update(tracks("a"), [given], [quality], now * MS):
            assert np.isfinite(state.smoothed).all()
            assert state.smoothed.sum() == pytest.approx(1, abs=1e-3)
            assert (state.reason is None) == (state.emotion != UNCERTAIN)
            assert state.emotion in (*LABELS, UNCERTAIN)
            assert state.evidence_frames >= 1
            assert state.since_ns <= now * MS
            if before is not None and state.emotion != before.emotion:
                assert state.since_ns - before.since_ns >= dwell * MS
                assert state.since_ns == now * MS
            before = state
