"""The grabber: reading a source into the slot of the newest frame, and reopening a lost camera."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from edge.capture.base import Clock, Source
from edge.capture.hung_readers import Call, HungReaders, Reader
from edge.capture.latest_frame import LatestSlot
from edge.config.schema import CameraConfig
from edge.errors import SourceError, SourceLostError
from edge.records import Frame

_log = logging.getLogger(__name__)

_SLICE_S = 1.0
"""A long wait is cut into pieces of this length, so that it counts as progress."""


class CameraState(str, Enum):
    """The state of the camera."""

    OPENING = "opening"
    LIVE = "live"
    STALE = "stale"
    LOST = "lost"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class GrabberTimes:
    """Bounds of the grabber.

    Attributes:
        stale_after_ns: without a frame for so long the camera is stale.
        frozen_after_ns: a camera's read that takes so long never returns.
        open_within_ns: opening a camera that takes so long never returns.
        settled_after_ns: frames for so long make earlier failures forgotten.
        backoff_base_s: bound of the first wait before a camera is opened again; doubled with every failure.
        backoff_max_s: bound of all waits.
        max_age_ns: a live frame that is older is not handed on.
        catch_up_ns: a camera whose frames are too old for so long is opened again.
        max_hanging: readers stuck in a driver that are put up with; one more is an error.
    """

    stale_after_ns: int = 2_000_000_000
    frozen_after_ns: int = 6_000_000_000
    open_within_ns: int = 30_000_000_000
    settled_after_ns: int = 10_000_000_000
    backoff_base_s: float = 0.5
    backoff_max_s: float = 30.0
    max_age_ns: int = 1_000_000_000
    catch_up_ns: int = 5_000_000_000
    max_hanging: int = 3

    @classmethod
    def of(cls, config: CameraConfig) -> GrabberTimes:
        """Return the bounds of a camera; its rate, ``stale_after_ms`` and own time-outs move the others."""
        stale_ns = round(config.stale_after_ms * 1e6)
        own_ns = {
            key: round(1.2e9 * value) if isinstance(value := config.options.get(key), int | float) else 0
            for key in ("open_timeout_s", "read_timeout_s")
        }
        return cls(
            stale_after_ns=stale_ns,
            max_age_ns=round(config.max_frame_age_ms * 1e6),
            frozen_after_ns=max(6_000_000_000, 3 * stale_ns, round(5e9 / config.fps), own_ns["read_timeout_s"]),
            open_within_ns=max(30_000_000_000, 2 * own_ns["open_timeout_s"]),
        )


class Grabber:
    """Reader of a source into a `LatestSlot`; has no thread of its own.

    One thread calls `run`, another calls `check` a few times a second. Live sources drop what is not taken in time;
    others wait for a free place. At the end of a file ``ended`` is True and the slot is closed.

    Attributes:
        state: the camera's state.
        detail: why it is so; empty where there is nothing to say.
        frames: frames delivered so far.
        corrupt: frames without a picture in them, left out.
        too_old: live frames that had waited for too long before they came, left out.
        reconnects: how often a lost camera came back.
        progress_ns: when the grabber last did something: a frame, an attempt to open, a slice of a wait.
        ended: the source came to its end.
    """

    def __init__(
        self,
        open_source: Callable[[str | None], Source],
        slot: LatestSlot[Frame],
        *,
        clock: Clock,
        reopens: bool,
        on_state: Callable[[CameraState, str], None] = lambda _state, _detail: None,
        drop: bool | None = None,
        times: GrabberTimes | None = None,
        uniform: Callable[[], float] = random.random,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Store what it needs; nothing is opened yet.

        Args:
            open_source: opens the source; given the identity that an earlier one had, None at first.
            slot: takes the frames.
            clock: monotonic nanoseconds.
            reopens: True for cameras (`edge.capture.is_camera`): failing to open is a state. False for files: it is
                an error.
            on_state: told every new state with its reason, in order, by the thread that found out; must not call back.
            drop: whether frames that are not taken in time are dropped; None as the source is: live ones do.
            times: bounds.
            uniform: numbers in 0..1, for the jitter of the waits.
            wait: waits for so many seconds, less when `stop` is called; None is the real thing.
        """
        self._open_source, self._slot, self._clock = open_source, slot, clock
        self._reopens, self._on_state, self._drop = reopens, on_state, drop
        self._times, self._uniform = times or GrabberTimes(), uniform
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._inside = 0
        self._reader: Reader | None = None
        self._hung = HungReaders(self._times.max_hanging)
        self._identity: str | None = None
        self._failures = 0
        self._next_number = 0
        self._session_ns = 0
        self._last_frame_ns = 0
        self._told: tuple[CameraState, str] | None = None
        self.state, self.detail = CameraState.OPENING, ""
        self.frames = self.corrupt = self.too_old = self.reconnects = 0
        self._late_ns = 0
        self.progress_ns = clock()
        self.ended = False

    @property
    def hung(self) -> int:
        """Return how often a reader was left behind in a driver."""
        return self._hung.total

    @property
    def in_driver(self) -> Call | None:
        """Return the call into the driver that the reader is in; None outside."""
        reader = self._reader
        return reader.call if reader is not None and reader.busy_since_ns is not None else None

    def run(self) -> None:
        """Read until the source ends, `stop`, `pause`, or `check` gave this thread's camera to a fresh one.

        Raises:
            SourceError: a file that cannot be read.
            ConfigError: an unknown source or option, or a value out of range.
            MissingDependencyError: the source needs a package that is not installed.
        """
        reader = Reader()
        with self._lock:
            if self._reader is not None:
                raise RuntimeError("a reader is running already")
            self._reader = reader
            self._inside += 1
            if self.state in (CameraState.OPENING, CameraState.PAUSED):
                self._tell(CameraState.OPENING, "")
        try:
            while self._is_active(reader) and not self._serve(reader):
                self._back_off(reader)
        finally:
            with self._lock:
                reader.finished = True
                self._inside -= 1
                self._ended.notify_all()
                if self._reader is reader:
                    self._reader = None
                    self._slot.close()

    def check(self, now_ns: int) -> bool:
        """Look whether frames still come; call it a few times a second.

        Returns:
            True when the camera was taken from a reader that hangs in the driver: the caller starts a fresh thread
            in `run`. The old one ends by itself should the driver ever let it go.

        Raises:
            SourceError: too many readers hang; only a new process can help.
        """
        with self._lock:
            reader = self._reader
            if reader is None or self._stopped.is_set():
                return False
            if self._reopens and reader.hangs(
                now_ns, open_within_ns=self._times.open_within_ns, frozen_after_ns=self._times.frozen_after_ns
            ):
                self._tell(CameraState.LOST, f"the driver hangs {reader.call.value}")
                self._failures += 1
                self.progress_ns = now_ns
                self._reader = None
                self._hung.leave_behind(reader)
                return True
            silent_ns = now_ns - self._last_frame_ns
            if self.state is CameraState.LIVE and silent_ns > self._times.stale_after_ns and not reader.waiting:
                what = "no fresh frame" if self._late_ns else "no frame"
                self._tell(CameraState.STALE, f"{what} for {silent_ns / 1e9:.1f} s")
            return False

    def stop(self) -> None:
        """End `run` and close the slot; what lies in it can still be taken. From any thread, any number of times."""
        self._stopped.set()
        self._slot.close()
        with self._lock:
            source = self._reader.source if self._reader else None
        if source is not None:
            source.close()

    def wait_ended(self, timeout_s: float) -> bool:
        """Wait after `stop` until no reader is left in `run` or in a driver.

        A thread that comes back from OpenCV into an interpreter that is being shut down aborts the process: a clean
        exit waits for it first.

        Returns:
            False when the time ran out.
        """
        with self._ended:
            return self._ended.wait_for(lambda: self._inside == 0, timeout_s)

    def pause(self) -> None:
        """Close the camera and end `run`, but leave the slot open: a later `run` goes on."""
        with self._lock:
            if self._reader is not None:
                self._reader.release()
                self._reader = None
            self._failures = 0
            self._tell(CameraState.PAUSED, "")

    def _serve(self, reader: Reader) -> bool:
        """Open the source and read it; True when there is nothing more to do, False when it was lost."""
        try:
            source = self._open(reader)
            if source is None:
                return True
            try:
                return self._read_frames(reader, source)
            finally:
                self._enter_driver(reader, Call.CLOSE)
                source.close()
                reader.busy_since_ns = None
        except SourceError as error:
            if not self._reopens:
                raise
            with self._lock:
                reader.source, reader.busy_since_ns = None, None
                if self._is_active(reader):
                    self._failures += 1
                    self._tell(CameraState.LOST, error.problem)
            return False

    def _open(self, reader: Reader) -> Source | None:
        """Open the source; None when the camera was taken from this reader meanwhile."""
        self._enter_driver(reader, Call.OPEN)
        source = self._open_source(self._identity)
        with self._lock:
            reader.busy_since_ns = None
            if self._is_active(reader):
                reader.source = source
                self._identity = source.identity or self._identity
                self._session_ns, self._late_ns = self._clock(), 0
                return source
        source.close()
        return None

    def _read_frames(self, reader: Reader, source: Source) -> bool:
        drop = source.live if self._drop is None else self._drop
        base, is_first = self._next_number, True
        while self._is_active(reader):
            self._enter_driver(reader, Call.READ)
            frame = source.read()
            reader.busy_since_ns = None
            if not self._is_active(reader):
                break
            if frame is None:
                self.ended = True
                return True
            if not _has_picture(frame):
                self.corrupt += 1
                continue
            if self._reopens and source.live and self._is_too_old(frame, source):
                continue
            if base:  # a later session of the same camera: numbers go on, and nothing continues what was before
                frame = replace(frame, number=base + frame.number, discontinuity=frame.discontinuity or is_first)
            is_first = False
            self._deliver(reader, frame, drop=drop)
        return True

    def _is_too_old(self, frame: Frame, source: Source) -> bool:
        """Return whether a frame waited for too long somewhere, and count it.

        Raises:
            SourceLostError: a camera whose frames stay too old; opened again it begins with the present.
        """
        now_ns = self._clock()
        age_ns = now_ns - frame.timestamp_ns
        if age_ns <= self._times.max_age_ns:
            self._late_ns = 0
            return False
        self.too_old += 1
        self.progress_ns = now_ns
        self._late_ns = self._late_ns or now_ns
        if now_ns - self._late_ns > self._times.catch_up_ns:
            self._late_ns = 0
            raise SourceLostError(source.name, f"its frames are {age_ns / 1e9:.1f} s old and do not catch up")
        return True

    def _deliver(self, reader: Reader, frame: Frame, *, drop: bool) -> None:
        with self._lock:
            if not self._is_active(reader):
                return
            now_ns = self._clock()
            self.frames += 1
            self._next_number = frame.number + 1
            self.progress_ns = self._last_frame_ns = now_ns
            if now_ns - self._session_ns > self._times.settled_after_ns:
                self._failures = 0
            self.reconnects += self.state is CameraState.LOST
            self._tell(CameraState.LIVE, "")
        if drop:
            self._slot.put(frame)
            return
        reader.waiting = True
        while not self._slot.put_wait(frame, timeout_s=_SLICE_S) and self._is_active(reader):
            self.progress_ns = self._clock()
        reader.waiting = False
        self._last_frame_ns = self._clock()

    def _back_off(self, reader: Reader) -> None:
        """Wait before the next attempt: full jitter, so that cameras of one hub do not all try at once."""
        exponent = min(self._failures - 1, 16)
        rest_s = self._uniform() * min(self._times.backoff_max_s, self._times.backoff_base_s * 2**exponent)
        while rest_s > 0 and self._is_active(reader):
            self._wait(min(rest_s, _SLICE_S))
            rest_s -= _SLICE_S
            self.progress_ns = self._clock()

    def _enter_driver(self, reader: Reader, call: Call) -> None:
        with self._lock:
            now_ns = self._clock()
            reader.call, reader.busy_since_ns = call, now_ns
            if call is Call.OPEN:
                self.progress_ns = now_ns

    def _is_active(self, reader: Reader) -> bool:
        return not reader.released and not self._stopped.is_set()

    def _tell(self, state: CameraState, detail: str) -> None:
        """Note and report a state that is new, or whose reason is; with the lock held."""
        if (state, detail) == self._told:
            return
        self._told = self.state, self.detail = state, detail
        level = logging.WARNING if state is CameraState.LOST else logging.INFO
        _log.log(level, "camera %s%s", state.value, f": {detail}" if detail else "")
        self._on_state(state, detail)


def _has_picture(frame: Frame) -> bool:
    """Return whether there is a picture in a frame; drivers hand over empty ones."""
    image: object = frame.image
    return getattr(image, "ndim", 0) == 3 and getattr(image, "size", 0) > 0
