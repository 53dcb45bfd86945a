"""Doing less on a machine that is too hot or too busy, by declared steps, and again more when it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from edge.config.schema import PowerConfig
from edge.system.power import PowerReading

LOOK_NS: Final = 2_000_000_000
"""Between two looks at the machine."""
COOLER_C: Final = 5.0
"""Degrees below the limit at which the machine counts as cool again."""
CALM: Final = 0.5
"""Share of the limit below which the processor counts as free again: one step less doubles the work at most."""

Cause = Literal["thermal", "load"]


@dataclass(frozen=True, slots=True)
class Effort:
    """What is done at one step.

    Attributes:
        said: what is done less, for ``…/problem``; empty for nothing.
        rest_ms: how long the detector may rest at least; 0: as configured.
        max_hz: frames inferred a second at most; None: all of them.
        small_detector: look with a detector for 320 pixels.
    """

    said: str = ""
    rest_ms: float = 0.0
    max_hz: float | None = None
    small_detector: bool = False


EFFORTS: Final = (
    Effort(),
    Effort("the detector rests up to 500 ms", rest_ms=500),
    Effort("at most 5 frames/s, the detector rests up to 500 ms", rest_ms=500, max_hz=5),
    Effort(
        "at most 5 frames/s, a detector for 320 pixels that rests up to 500 ms",
        rest_ms=500,
        max_hz=5,
        small_detector=True,
    ),
)
"""From all that is configured to the least; every step includes the one before."""


class Governor:
    """Chooses the step. Has no clock and reads no sensor: both are handed in.

    It goes one step down when the machine is too hot, is throttled by its firmware, or inference takes more than
    ``power.max_busy`` of the time, and stays there for ``power.hold_s`` at least. It goes one step up when the machine
    was cool and calm for three times as long.

    Attributes:
        step: index into `EFFORTS`.
        cause: of the last step down; None at step 0.
        is_under_voltage: the power supply is too weak.
    """

    def __init__(self, config: PowerConfig) -> None:
        self._config = config
        self._hold_ns = config.hold_s * 1e9
        self._changed_ns: int | None = None
        self._trouble_ns = 0
        self.step = 0
        self.cause: Cause | None = None
        self.is_under_voltage = False

    @property
    def effort(self) -> Effort:
        """What is to be done now."""
        return EFFORTS[self.step]

    def update(self, reading: PowerReading, *, busy: float, now_ns: int) -> bool:
        """Take a look at the machine; return whether the step changed.

        Args:
            reading: sensors and throttle bits.
            busy: share of the time since the last look in which inference worked, 0..1.
            now_ns: monotonic clock.
        """
        self.is_under_voltage = reading.is_under_voltage
        if not self._config.governor:
            return False
        self._changed_ns = now_ns if self._changed_ns is None else self._changed_ns
        cause = self._cause(reading, busy)
        if not self._is_at_ease(reading, busy):
            self._trouble_ns = now_ns
        if cause and self.step < len(EFFORTS) - 1 and now_ns - self._changed_ns >= self._hold_ns:
            self.step, self.cause, self._changed_ns = self.step + 1, cause, now_ns
            return True
        at_ease_ns = now_ns - max(self._changed_ns, self._trouble_ns)
        if self.step and at_ease_ns >= 3 * self._hold_ns:
            self.step, self._changed_ns = self.step - 1, now_ns
            self.cause = self.cause if self.step else None
            return True
        return False

    def describe(self) -> str | None:
        """Return the line for ``…/problem``; None at step 0."""
        return f"degraded: {self.cause}: {self.effort.said}" if self.step else None

    def _cause(self, reading: PowerReading, busy: float) -> Cause | None:
        temperature = reading.temperature_c
        if reading.is_throttled or (temperature is not None and temperature > self._config.max_temperature_c):
            return "thermal"
        return "load" if busy > self._config.max_busy else None

    def _is_at_ease(self, reading: PowerReading, busy: float) -> bool:
        temperature = reading.temperature_c
        is_cool = temperature is None or temperature < self._config.max_temperature_c - COOLER_C
        return is_cool and not reading.is_throttled and busy < CALM * self._config.max_busy
