"""The grabber: newest frame, camera states, lost and frozen cameras."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture import open_source
from edge.capture.grabber import CameraState, Grabber, GrabberTimes
from edge.capture.hung_readers import Call
from edge.capture.latest_frame import LatestSlot
from edge.config.loader import make_config
from edge.errors import SourceBusyError, SourceError, SourceLostError, SourceNotFoundError
from edge.records import Frame

PATIENCE_S = 20
now = time.monotonic_ns
TIMES = GrabberTimes(stale_after_ns=2_000, frozen_after_ns=6_000, open_within_ns=30_000, max_age_ns=10**15)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Script:
    """A camera that does what the script says: a shape is a frame, an error is raised, an event is waited for."""

    reopens = True
    live = True

    def __init__(self, *steps: object, identity: str | None = None) -> None:
        self.name, self.identity = "camera", identity
        self._steps, self._number, self.closed = list(steps), 0, threading.Event()

    def read(self) -> Frame | None:
        while True:
            step = self._steps.pop(0) if self._steps else self.closed
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                step.wait(PATIENCE_S)
                if step is self.closed:
                    return None
                continue
            image: Any = None if step is None else np.zeros(step, np.uint8)  # type: ignore[call-overload]
            self._number += 1
            return Frame(image=image, timestamp_ns=self._number, number=self._number - 1, source=self.name)

    def close(self) -> None:
        self.closed.set()


class Bench:
    """A grabber over scripted cameras, and what it said."""

    def __init__(
        self,
        *cameras: Script | Exception,
        open_source: Callable[[str | None], Script] | None = None,
        **keys: Any,
    ) -> None:
        self.cameras, self.asked, self.states, self.waits = list(cameras), [], [], []
        self.clock, self.slot = Clock(), LatestSlot[Frame]()
        self.grabber = Grabber(
            open_source or self.open,
            self.slot,
            clock=self.clock,
            on_state=lambda state, detail: self.states.append((state.value, detail)),
            **{"reopens": True, "times": TIMES, "uniform": lambda: 1.0, "wait": self.waits.append, **keys},
        )

    def open(self, identity: str | None) -> Script:
        self.asked.append(identity)
        camera = self.cameras.pop(0)
        if isinstance(camera, Exception):
            raise camera
        return camera

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.grabber.run, daemon=True)
        thread.start()
        return thread

    @contextmanager
    def running(self) -> Iterator[threading.Thread]:
        thread = self.start()
        yield thread
        self.grabber.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.001)


SHAPE = (4, 6, 3)


def test_the_states_of_a_camera_that_delivers_are_opening_and_live() -> None:
    bench = Bench(Script(SHAPE, SHAPE))
    with bench.running():
        until(lambda: bench.grabber.frames == 2)
    assert bench.states == [("opening", ""), ("live", "")]
    assert bench.slot.closed
    assert not bench.grabber.ended


def test_only_the_newest_frame_of_a_live_source_is_kept() -> None:
    bench = Bench(Script(*[SHAPE] * 50))
    with bench.running():
        until(lambda: bench.grabber.frames == 50)
        frame = bench.slot.get(0)
    assert frame is not None
    assert frame.number == 49
    assert bench.slot.dropped == 49


def test_no_frame_is_dropped_where_dropping_is_forbidden() -> None:
    bench = Bench(Script(*[SHAPE] * 50), drop=False)
    with bench.running():
        numbers = [frame.number for frame in iter(lambda: bench.slot.get(0.5), None)]
    assert numbers == list(range(50))
    assert bench.slot.dropped == 0


def test_a_camera_that_is_missing_at_start_is_lost_until_it_comes() -> None:
    missing = SourceNotFoundError("camera", "there is no camera")
    bench = Bench(missing, SourceBusyError("camera", "in use"), Script(SHAPE))
    with bench.running():
        until(lambda: bench.grabber.frames == 1)
    assert bench.states == [("opening", ""), ("lost", "there is no camera"), ("lost", "in use"), ("live", "")]
    assert bench.grabber.reconnects == 1


def test_a_lost_camera_is_reopened_by_its_identity_and_its_frames_go_on_after_a_cut() -> None:
    lost = SourceLostError("camera", "unplugged")
    bench = Bench(Script(SHAPE, SHAPE, lost, identity="/dev/v4l/by-id/x"), Script(SHAPE, SHAPE), drop=False)
    with bench.running():
        frames = [bench.slot.get(PATIENCE_S) for _ in range(4)]
    assert bench.asked == [None, "/dev/v4l/by-id/x"]
    assert [(frame.number, frame.discontinuity) for frame in frames if frame] == [
        (0, False),
        (1, False),
        (2, True),
        (3, False),
    ]
    assert bench.states[1:4] == [("live", ""), ("lost", "unplugged"), ("live", "")]


def test_a_lost_camera_is_closed_before_it_is_opened_again() -> None:
    first = Script(SHAPE, SourceLostError("camera", "unplugged"))
    bench = Bench(first, Script(SHAPE))
    with bench.running():
        until(lambda: len(bench.asked) == 2)
        assert first.closed.is_set()


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_waits_are_jittered_over_their_full_width_and_bounded(jitter: list[float]) -> None:
    errors = [SourceNotFoundError("camera", "away") for _ in jitter]
    draws = iter(jitter)
    bench = Bench(*errors, Script(SHAPE), uniform=lambda: next(draws))
    with bench.running():
        until(lambda: bench.grabber.frames == 1)
    bounds_s = [min(30.0, 0.5 * 2**failure) for failure in range(len(jitter))]
    assert sum(bench.waits) == pytest.approx(sum(a * b for a, b in zip(jitter, bounds_s, strict=True)))
    assert all(wait <= 1 for wait in bench.waits), "a longer one would look like no progress"


def test_waits_begin_short_again_once_the_camera_was_well_for_a_while() -> None:
    lost = SourceLostError("camera", "unplugged")
    gate = threading.Event()
    bench = Bench(*[SourceNotFoundError("camera", "away")] * 6, Script(SHAPE, gate, SHAPE, lost), Script(SHAPE))
    with bench.running():
        until(lambda: bench.grabber.frames == 1)
        before = len(bench.waits)
        bench.clock.now_ns += TIMES.settled_after_ns + 1
        gate.set()
        until(lambda: bench.grabber.frames == 3)
    assert bench.waits[before:] == [0.5]


def test_a_camera_without_frames_becomes_stale_and_live_again() -> None:
    gate = threading.Event()
    bench = Bench(Script(SHAPE, gate, SHAPE))
    with bench.running():
        until(lambda: bench.grabber.frames == 1)
        assert not bench.grabber.check(2_000)
        assert bench.grabber.state is CameraState.LIVE
        assert not bench.grabber.check(2_001)
        assert bench.grabber.state is CameraState.STALE
        gate.set()
        until(lambda: bench.grabber.frames == 2)
    assert [state for state, _ in bench.states] == ["opening", "live", "stale", "live"]


def test_a_camera_is_not_stale_while_the_slot_is_full() -> None:
    bench = Bench(Script(SHAPE, SHAPE), drop=False)
    with bench.running():
        until(lambda: bench.grabber.frames == 2)
        assert not bench.grabber.check(10_000_000)
        assert bench.grabber.state is CameraState.LIVE


def test_a_read_that_never_returns_is_abandoned_and_a_fresh_reader_takes_over() -> None:
    stuck, second = threading.Event(), Script(SHAPE, SHAPE)
    first = Script(SHAPE, stuck, SHAPE)
    bench = Bench(first, second)
    hanging = bench.start()
    until(lambda: bench.grabber.frames == 1)
    until(lambda: bench.grabber.in_driver is Call.READ)
    assert not bench.grabber.check(6_000)
    assert bench.grabber.check(6_001)
    assert not bench.grabber.check(6_002), "the daemon is told once"
    assert bench.states[-1] == ("lost", "the driver hangs in a read")
    assert first.closed.is_set()

    with bench.running():
        until(lambda: bench.grabber.frames == 3)
        stuck.set()
        hanging.join(PATIENCE_S)
        assert not hanging.is_alive()
        assert not bench.slot.closed, "the old reader leaves the slot to the new one"
        assert bench.grabber.frames == 3, "what the old reader brings is thrown away"
    assert bench.grabber.hung == 1


def test_an_opening_that_never_returns_is_abandoned_and_closed_when_it_does() -> None:
    entered, stuck, late, second = threading.Event(), threading.Event(), Script(SHAPE), Script(SHAPE)
    openings = iter([True, False])

    def open_(identity: str | None) -> Script:
        if next(openings):
            entered.set()
            stuck.wait(PATIENCE_S)
            return late
        return bench.open(identity)

    bench = Bench(second, open_source=open_)
    hanging = bench.start()
    entered.wait(PATIENCE_S)
    assert bench.grabber.check(30_001)
    with bench.running():
        until(lambda: bench.grabber.frames == 1)
        stuck.set()
        hanging.join(PATIENCE_S)
    assert late.closed.is_set()
    assert bench.grabber.frames == 1


def test_too_many_hanging_readers_are_an_error() -> None:
    stuck = threading.Event()
    bench = Bench(*[Script(stuck) for _ in range(4)])
    for number in range(4):
        bench.start()
        until(lambda: bench.grabber.in_driver is Call.READ)
        bench.clock.now_ns += 6_001
        if number < 3:
            assert bench.grabber.check(bench.clock.now_ns)
    with pytest.raises(SourceError, match="4 readers hang"):
        bench.grabber.check(bench.clock.now_ns)
    stuck.set()
    bench.grabber.stop()


def test_frames_of_changing_size_black_or_empty_ones_kill_nothing() -> None:
    shapes = [(4, 6, 3), (8, 2, 3), None, (0, 0, 3), (4, 6), (2000, 1, 3)]
    bench = Bench(Script(*shapes))
    with bench.running():
        until(lambda: bench.grabber.frames + bench.grabber.corrupt == len(shapes))
    assert (bench.grabber.frames, bench.grabber.corrupt) == (3, 3)


def test_stop_ends_a_reader_in_a_read_and_one_that_waits_for_a_camera() -> None:
    for camera in (Script(SHAPE), SourceNotFoundError("camera", "away")):
        bench = Bench(camera, wait=None, uniform=lambda: 1.0)
        with bench.running():
            until(lambda: bool(bench.states[1:]))  # noqa: B023
        assert bench.slot.closed


def test_a_paused_camera_is_closed_and_goes_on_later() -> None:
    first = Script(SHAPE)
    bench = Bench(first, Script(SHAPE))
    thread = bench.start()
    until(lambda: bench.grabber.frames == 1)
    bench.grabber.pause()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert first.closed.is_set()
    assert not bench.slot.closed
    with bench.running():
        until(lambda: bench.grabber.frames == 2)


def test_the_end_of_a_file_is_told_and_closes_the_slot() -> None:
    config = make_config(
        {"camera": {"source": "synthetic", "options": {"frames": 7}, "width": 64, "height": 64}}
    ).camera
    slot = LatestSlot[Frame]()
    grabber = Grabber(
        lambda _: open_source(config, clock=now, paced=False),
        slot,
        clock=now,
        reopens=False,
    )
    thread = threading.Thread(target=grabber.run)
    thread.start()
    numbers = [frame.number for frame in iter(lambda: slot.get(PATIENCE_S), None)]
    thread.join(PATIENCE_S)

    assert numbers == list(range(7))
    assert grabber.ended
    assert slot.closed


def test_a_file_that_cannot_be_read_is_an_error_and_no_state(tmp_path: Path) -> None:
    config = make_config({"camera": {"source": str(tmp_path / "a.mp4")}}).camera
    slot = LatestSlot[Frame]()
    grabber = Grabber(lambda _: open_source(config, clock=now, paced=True), slot, clock=now, reopens=False)
    with pytest.raises(SourceNotFoundError):
        grabber.run()
    assert slot.closed
    assert grabber.state is CameraState.OPENING


def test_the_bounds_follow_the_configuration() -> None:
    times = GrabberTimes.of(make_config({"camera": {"fps": 1, "stale_after_ms": 3000}}).camera)
    assert (times.stale_after_ns, times.frozen_after_ns) == (3_000_000_000, 9_000_000_000)


def test_a_source_with_long_time_outs_of_its_own_is_not_taken_for_frozen() -> None:
    options = {"open_timeout_s": 60, "read_timeout_s": 20}
    times = GrabberTimes.of(make_config({"camera": {"options": options}}).camera)
    assert times.frozen_after_ns > 20_000_000_000
    assert times.open_within_ns > 60_000_000_000


@pytest.mark.parametrize("fps", [1, 30])
def test_stop_ends_a_file_that_waits_for_its_next_frame(fps: int) -> None:
    config = make_config({"camera": {"source": "synthetic", "fps": fps}}).camera
    slot = LatestSlot[Frame]()
    grabber = Grabber(
        lambda _: open_source(config, clock=lambda: 0, paced=True), slot, clock=now, reopens=False, drop=False
    )
    thread = threading.Thread(target=grabber.run)
    thread.start()
    assert slot.get(PATIENCE_S) is not None
    grabber.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert not grabber.ended


LEAVE = """
import sys, threading, time
from pathlib import Path
from edge.capture import open_source
from edge.capture.grabber import Grabber
from edge.config.loader import make_config
from edge.capture.latest_frame import LatestSlot

config = make_config({"camera": {"source": sys.argv[1], "options": {"loop": True}}}).camera
now, slot = time.monotonic_ns, LatestSlot()
grabber = Grabber(lambda _: open_source(config, clock=now, paced=False), slot, clock=now, reopens=False, drop=True)
threading.Thread(target=grabber.run, daemon=True).start()
slot.get(20)
grabber.stop()
assert grabber.wait_ended(20)
"""


def test_a_process_that_waits_for_its_reader_exits_cleanly(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (1280, 720))
    for _ in range(20):
        writer.write(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8))
    writer.release()
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", LEAVE, str(tmp_path / "a.avi")], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_waiting_for_a_reader_that_hangs_ends_in_the_time_that_was_given() -> None:
    stuck = threading.Event()
    bench = Bench(Script(stuck))
    thread = bench.start()
    until(lambda: bench.grabber.in_driver is Call.READ)
    bench.grabber.stop()
    assert not bench.grabber.wait_ended(0.01)
    stuck.set()
    assert bench.grabber.wait_ended(PATIENCE_S)
    thread.join(PATIENCE_S)
