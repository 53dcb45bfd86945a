"""Latencies and counts of a running process, cheap enough for every frame."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW = 900
"""Samples kept for a stage: half a minute at 30 frames a second."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Distribution of a latency in milliseconds over the newest samples."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    n: int


class Metrics:
    """Collects per-stage durations and event counts. Written by one thread, read by any.

    Attributes:
        counts: how often something happened since the start.
        observer: takes each duration as well, on the thread that records it; None for nobody.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._durations_ns: dict[str, deque[int]] = {}
        self.counts: Counter[str] = Counter()
        self.observer: Callable[[str, int], None] | None = None

    def record(self, stage: str, duration_ns: int) -> None:
        """Adds one duration of a stage."""
        durations = self._durations_ns.get(stage)
        if durations is None:
            durations = self._durations_ns[stage] = deque(maxlen=self._window)
        durations.append(duration_ns)
        if self.observer is not None:
            self.observer(stage, duration_ns)

    def percentiles(self) -> dict[str, Percentiles]:
        """Per stage the percentiles over the newest samples, in order of first use."""
        return {stage: percentiles_of(list(ns)) for stage, ns in list(self._durations_ns.items()) if ns}


def percentiles_of(durations_ns: list[int]) -> Percentiles:
    """p50, p95 and p99 in milliseconds of a non-empty list of nanoseconds, interpolated between neighbours.

    In plain Python: numpy's percentile touches 10 MB of memory at its first call.
    """
    ordered = sorted(durations_ns)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = ordered[int(place)]
        high = ordered[min(int(place) + 1, len(ordered) - 1)]
        return round((low + (high - low) * (place % 1)) / 1e6, 4)

    return Percentiles(at(0.50), at(0.95), at(0.99), len(ordered))


class Speedometer:
    """How fast a count grew since it was last read.

    Args:
        now_ns: when the count was 0.
    """

    def __init__(self, now_ns: int) -> None:
        self._last: tuple[int, int] = (now_ns, 0)

    def read_hz(self, count: int, now_ns: int) -> float:
        """Things a second since the last call."""
        since_ns, before = self._last
        self._last = (now_ns, count)
        return (count - before) / max((now_ns - since_ns) / 1e9, 1e-3)
