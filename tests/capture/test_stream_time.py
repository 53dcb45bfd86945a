"""The age of frames that waited in sockets and decoders, told by the stream's own time."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.capture import open_source
from edge.capture.grabber import CameraState, Grabber, GrabberTimes
from edge.capture.latest_frame import LatestSlot
from edge.capture.stream_time import StreamClock
from edge.config.schema import CameraConfig
from edge.errors import SourceLostError
from edge.records import Frame

S = 1_000_000_000
MS = 1_000_000


def ages_ms(clock: StreamClock, frames: list[tuple[float, float]]) -> list[int]:
    """Arrival and stream time in seconds to ages."""
    return [round((arrival * S - clock.stamp_ns(round(arrival * S), round(pts * S))) / MS) for arrival, pts in frames]


def test_frames_that_come_as_they_are_made_are_new_whatever_the_jitter() -> None:
    jitter = itertools.cycle([0.0, 0.02, 0.005, 0.03])
    frames = [(100 + i / 25 + next(jitter), i / 25) for i in range(100)]
    assert max(ages_ms(StreamClock(), frames)) <= 30


def test_what_waited_is_as_old_as_the_wait_and_new_again_when_it_caught_up() -> None:
    clock = StreamClock()
    ages_ms(clock, [(100 + i / 25, i / 25) for i in range(50)])
    backlog = [(106 + i * 0.001, 2 + i / 25) for i in range(100)]
    ages = ages_ms(clock, backlog)
    assert ages[0] == pytest.approx(4000, abs=5)
    assert ages[50] == pytest.approx(2050, abs=10)
    assert max(ages_ms(clock, [(106.1 + i / 25, 6.1 + i / 25) for i in range(50)])) <= 5


def test_a_first_burst_moves_the_reference_to_the_newest() -> None:
    clock = StreamClock()
    ages_ms(clock, [(100 + i * 0.001, i / 25) for i in range(25)])
    assert max(ages_ms(clock, [(101 + i / 25, 1.976 + i / 25) for i in range(25)])) <= 5


def test_a_growing_lag_is_age_and_a_slower_clock_is_not() -> None:
    clock, slow = StreamClock(), StreamClock()
    assert ages_ms(clock, [(100 + i, i * 0.9) for i in range(60)])[-1] > 5000
    assert max(ages_ms(slow, [(100 + i, i * (1 - 100e-6)) for i in range(36_000)])) < 10


@pytest.mark.parametrize("pts", [[0.0] * 9, [5, 4, 3, 2, 1], [0, 1, 2, 4000, 4001], [7000, 7001, 0, 1, 2]])
def test_time_that_does_not_go_on_or_jumps_makes_nothing_old(pts: list[float]) -> None:
    assert max(ages_ms(StreamClock(), [(100.0 + i, at) for i, at in enumerate(pts)])) == 0


class Late:
    """A camera whose frames are ``ages`` old."""

    reopens, live, identity, name = True, True, None, "late"

    def __init__(self, clock: list[int], ages: Iterator[float]) -> None:
        self._clock, self._ages, self._number = clock, ages, 0

    def read(self) -> Frame:
        self._clock[0] += 100 * MS
        self._number += 1
        image = np.zeros((8, 8, 3), np.uint8)
        return Frame(image, self._clock[0] - round(next(self._ages) * S), number=self._number, source="late")

    def close(self) -> None: ...


def test_frames_that_are_too_old_are_left_out_counted_and_end_in_a_lost_camera() -> None:
    clock, states, opened = [S], [], 0
    ages = itertools.chain([0.01] * 5, [3.0] * 100)

    def open_(identity: str | None) -> Late:
        nonlocal opened
        opened += 1
        if opened == 2:
            grabber.stop()
        return Late(clock, ages)

    slot = LatestSlot[Frame]()
    grabber = Grabber(
        open_,  # type: ignore[arg-type]
        slot,
        clock=lambda: clock[0],
        reopens=True,
        on_state=lambda state, detail: states.append((state, detail)),
        times=GrabberTimes(),
        wait=lambda _: None,
    )
    grabber.run()
    assert grabber.frames == 5
    assert 50 <= grabber.too_old <= 52
    assert states[-1] == (CameraState.LOST, "its frames are 3.0 s old and do not catch up")
    assert opened == 2


def test_a_pause_in_a_late_spell_does_not_make_the_next_late_frame_a_loss() -> None:
    clock, states = [S], []
    ages = itertools.chain([3.0] * 20, [3.0, 0.01, 0.01])
    grabber = Grabber(
        lambda _: Late(clock, ages),  # type: ignore[arg-type, return-value]
        LatestSlot[Frame](),
        clock=lambda: clock[0],
        reopens=True,
        on_state=lambda state, _: states.append(state),
        wait=lambda _: None,
    )
    reads = itertools.count(1)
    taken = Late.read

    def read(camera: Late) -> Frame:
        if next(reads) == 20:
            grabber.pause()
        return taken(camera)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Late, "read", read)
        grabber.run()
        clock[0] += 60 * S
        with pytest.raises((RuntimeError, StopIteration)):
            grabber.run()
    assert CameraState.LOST not in states
    assert grabber.frames == 2


def test_a_lag_that_ends_in_time_is_no_loss() -> None:
    clock, states = [S], []
    ages = itertools.chain([0.01] * 5, [3.0] * 30, [0.01] * 5)
    slot = LatestSlot[Frame]()
    grabber = Grabber(
        lambda _: Late(clock, ages),  # type: ignore[arg-type, return-value]
        slot,
        clock=lambda: clock[0],
        reopens=True,
        on_state=lambda state, _: states.append(state),
        wait=lambda _: None,
    )
    with pytest.raises((RuntimeError, StopIteration)):
        grabber.run()
    assert (grabber.frames, grabber.too_old) == (10, 30)
    assert CameraState.LOST not in states


def send_live(server: socket.socket, path: Path, seconds: float) -> None:
    """A live camera: each packet when it is due; what the socket does not take waits in it."""
    data, sent = path.read_bytes(), 0
    server.accept()[0].close()  # the look whether somebody listens
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        start = time.monotonic()
        while sent < len(data):
            due = min(len(data), round((time.monotonic() - start) / seconds * len(data)) // 188 * 188)
            connection.sendall(data[sent:due])
            sent = max(sent, due)
            time.sleep(0.02)


def test_a_stream_that_waited_in_the_socket_is_told_as_old(tmp_path: Path) -> None:
    """Read nothing for 2.5 s, as a stopped process does."""
    pytest.importorskip("av", reason="pip install 'av>=14,<16'")
    from odd_videos import pictures, write

    path = write(tmp_path / "a.ts", list(itertools.islice(itertools.cycle(pictures(48)), 480)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=send_live, args=(server, path, 19.2), daemon=True).start()
        config = CameraConfig(source=f"http://127.0.0.1:{server.getsockname()[1]}/live.ts")
        source = open_source(config, clock=time.monotonic_ns, paced=True)
        try:
            for _ in range(20):
                assert source.read() is not None
            time.sleep(2.5)
            ages = []
            for _ in range(30):
                frame = source.read()
                assert frame is not None
                ages.append((time.monotonic_ns() - frame.timestamp_ns) / S)
        except SourceLostError as error:  # pragma: no cover
            pytest.fail(str(error))
        finally:
            source.close()
    assert max(ages[:3]) > 1.5
    assert ages[0] > ages[-1] + 0.5
