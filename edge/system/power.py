"""What the machine says of heat and power: thermal zones, and a Raspberry Pi's throttle bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYS: Final = Path("/sys")
THROTTLED: Final = "devices/platform/soc/soc:firmware/get_throttled"
"""Of a Raspberry Pi's firmware, hexadecimal: what ``vcgencmd get_throttled`` says."""
UNDER_VOLTAGE: Final = 1 << 0
TOO_HOT: Final = 1 << 1 | 1 << 2 | 1 << 3
"""The clock is capped, the processor is throttled, the soft temperature limit is active; all now."""


@dataclass(frozen=True, slots=True)
class PowerReading:
    """One look at the machine.

    Attributes:
        temperature_c: of the hottest thermal zone in °C; None where there is no sensor.
        is_throttled: the firmware holds the processor back because of heat.
        is_under_voltage: the power supply is too weak.
    """

    temperature_c: float | None
    is_throttled: bool
    is_under_voltage: bool


def read_power(sys: Path = SYS) -> PowerReading:
    """Read sensors and throttle bits; what is not there counts as not hot and not throttled.

    Args:
        sys: where sysfs is mounted.
    """
    bits = _read_bits(sys / THROTTLED)
    return PowerReading(
        temperature_c=max(
            (celsius for file in (sys / "class/thermal").glob("thermal_zone*/temp") if (celsius := _read_zone(file))),
            default=None,
        ),
        is_throttled=bool(bits & TOO_HOT),
        is_under_voltage=bool(bits & UNDER_VOLTAGE),
    )


def _read_zone(file: Path) -> float | None:
    try:
        return int(file.read_text()) / 1000
    except (OSError, ValueError):
        return None  # a zone that is switched off


def _read_bits(file: Path) -> int:
    try:
        return int(file.read_text().strip(), 16)
    except (OSError, ValueError):
        return 0  # no Raspberry Pi
