"""Doing less by declared steps: against a simulated sysfs and clock, with hysteresis both ways."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from edge.config.schema import PowerConfig
from edge.service.governor import EFFORTS, Governor
from edge.system.power import THROTTLED, PowerReading, read_power

S = 1_000_000_000
COOL = PowerReading(50.0, is_throttled=False, is_under_voltage=False)


class Machine:
    """A sysfs whose values can be set."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "class/thermal/thermal_zone0").mkdir(parents=True)
        (root / "class/thermal/thermal_zone1").mkdir()
        (root / THROTTLED).parent.mkdir(parents=True)
        self.set(temperature_c=45)

    def set(self, *, temperature_c: float, bits: int = 0) -> None:
        (self.root / "class/thermal/thermal_zone0/temp").write_text("31000\n")
        (self.root / "class/thermal/thermal_zone1/temp").write_text(f"{round(1000 * temperature_c)}\n")
        (self.root / THROTTLED).write_text(f"{bits:x}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def steps(
    governor: Governor, read: Callable[[float], PowerReading], *, until_s: float, busy: float = 0.1
) -> list[tuple[float, int]]:
    """The changes of the step, looking every two seconds."""
    return [
        (second, governor.step)
        for second in range(0, round(until_s), 2)
        if governor.update(read(second), busy=busy, now_ns=second * S)
    ]


def test_sensors_and_throttle_bits_are_read_and_what_is_missing_is_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.set(temperature_c=71.5)
    assert read_power(machine.root) == PowerReading(71.5, is_throttled=False, is_under_voltage=False)
    for bits, is_throttled, is_under_voltage in ((0x1, False, True), (0x2, True, False), (0x4, True, False),
                                                 (0x8, True, False), (0x70000, False, False)):  # fmt: skip
        machine.set(temperature_c=60, bits=bits)
        assert read_power(machine.root) == PowerReading(60.0, is_throttled, is_under_voltage)
    (machine.root / "class/thermal/thermal_zone1/temp").write_text("off\n")
    assert read_power(machine.root).temperature_c == 31
    assert read_power(tmp_path / "nothing") == PowerReading(None, is_throttled=False, is_under_voltage=False)


def test_heat_takes_it_down_step_by_step_and_it_comes_back_when_it_was_cool_for_long(machine: Machine) -> None:
    def read(second: float) -> PowerReading:
        machine.set(temperature_c=84 if second < 24 else 70)
        return read_power(machine.root)

    governor = Governor(PowerConfig(hold_s=10))
    assert steps(governor, read, until_s=200) == [(10, 1), (20, 2), (52, 1), (82, 0)]


def test_the_firmwares_throttling_counts_as_heat(machine: Machine) -> None:
    machine.set(temperature_c=60, bits=0x4)
    governor = Governor(PowerConfig(hold_s=2))
    steps(governor, lambda _: read_power(machine.root), until_s=100)
    assert (governor.step, governor.cause) == (len(EFFORTS) - 1, "thermal")
    assert governor.describe() == f"degraded: thermal: {EFFORTS[-1].said}"


def test_a_temperature_about_the_limit_does_not_swing() -> None:
    def read(second: float) -> PowerReading:
        return PowerReading(81.0 if second % 20 < 10 else 78.0, is_throttled=False, is_under_voltage=False)

    changes = steps(Governor(PowerConfig(hold_s=4)), read, until_s=600)
    assert [step for _, step in changes] == [1, 2, 3]


def test_load_takes_it_down_and_only_much_less_load_brings_it_back() -> None:
    governor = Governor(PowerConfig(hold_s=2))
    assert steps(governor, lambda _: COOL, until_s=4, busy=0.95) == [(2, 1)]
    assert governor.describe() == f"degraded: load: {EFFORTS[1].said}"
    assert steps(governor, lambda _: COOL, until_s=100, busy=0.6) == []
    for second in range(100, 120, 2):
        governor.update(COOL, busy=0.3, now_ns=second * S)
    assert (governor.step, governor.cause, governor.describe()) == (0, None, None)


def test_a_busy_moment_alone_changes_nothing() -> None:
    governor = Governor(PowerConfig(hold_s=10))
    assert not governor.update(COOL, busy=1.0, now_ns=0)
    assert steps(governor, lambda _: COOL, until_s=60) == []


def test_where_it_is_not_wanted_it_does_nothing_but_tells_under_voltage() -> None:
    governor = Governor(PowerConfig(governor=False, hold_s=1))
    hot = PowerReading(110.0, is_throttled=True, is_under_voltage=True)
    assert steps(governor, lambda _: hot, until_s=100, busy=1.0) == []
    assert governor.is_under_voltage


def test_every_step_includes_the_one_before() -> None:
    for before, after in pairwise(EFFORTS):
        assert after.rest_ms >= before.rest_ms
        assert (after.max_hz or 1e9) <= (before.max_hz or 1e9)
        assert after.small_detector >= before.small_detector
        assert after.said
