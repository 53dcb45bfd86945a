"""The only place of this folder that reads a clock for others: the daemon calls it and hands the moment down."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from edge.publish.encode import Moment

_TIME_ERROR = 5
_TIMEX_BYTES = 512
_adjtimex = ctypes.CDLL(None).adjtimex
_TIMESYNCD_MARK = Path("/run/systemd/timesync/synchronized")


def read_moment() -> Moment:
    """The present: monotonic clock, its distance to UTC, and whether the system clock is synchronized."""
    now_ns = time.monotonic_ns()
    return Moment(now_ns=now_ns, utc_offset_ns=time.time_ns() - now_ns, clock_synced=is_clock_synced())


def is_clock_synced() -> bool:
    """Whether the kernel holds the clock for synchronized (adjtimex(2) with no modes set: a read).

    A unit with ``ProtectClock=`` may not ask the kernel; there systemd-timesyncd's mark decides.
    """
    state = int(_adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return _TIMESYNCD_MARK.exists() if state < 0 else state != _TIME_ERROR
