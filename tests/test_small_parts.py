"""Slot, metrics, notify, registry and the way commands end."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge.capture.latest_frame import LatestSlot
from edge.errors import MissingDependencyError, UsageError
from edge.registry import load_entry
from edge.system.metrics import Metrics, Speedometer
from edge.system.sdnotify import notify


def test_the_newest_value_wins_and_what_it_replaced_is_counted() -> None:
    slot: LatestSlot[int] = LatestSlot()
    for value in range(5):
        slot.put(value)
    assert slot.get() == 4
    assert slot.dropped == 4
    assert slot.get(timeout_s=0.01) is None


def test_a_closed_slot_wakes_whoever_waits() -> None:
    slot: LatestSlot[int] = LatestSlot()
    got: list[int | None] = []
    waiting = threading.Thread(target=lambda: got.append(slot.get()))
    waiting.start()
    slot.close()
    waiting.join(timeout=5)
    assert got == [None]


def test_a_patient_put_loses_nothing() -> None:
    slot: LatestSlot[int] = LatestSlot()
    taken: list[int] = []

    def take() -> None:
        while (value := slot.get(timeout_s=5)) is not None:
            taken.append(value)
            time.sleep(0.001)

    taker = threading.Thread(target=take)
    taker.start()
    assert all(slot.put_wait(value, timeout_s=5) for value in range(50))
    slot.close()
    taker.join(timeout=10)
    assert taken == list(range(50))
    assert slot.dropped == 0
    assert not slot.put_wait(1)


def test_percentiles_are_in_milliseconds_over_a_window() -> None:
    metrics = Metrics(window=100)
    for value in range(1, 201):
        metrics.record("step", value * 1_000_000)
    found = metrics.percentiles()["step"]
    assert found.n == 100
    assert 150 <= found.p50_ms <= 151
    assert found.p50_ms < found.p95_ms < found.p99_ms <= 200


def test_a_notification_reaches_the_manager_and_none_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY=1)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify(READY=1)
    for address in (str(tmp_path / "notify"), f"\0mien-test-{tmp_path.name}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
            assert notify(READY=1, STATUS="15 fps")
            assert manager.recv(100) == b"READY=1\nSTATUS=15 fps"


def test_an_unknown_key_of_a_table_lists_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="'c' is unknown; there are a, b"):
        load_entry({"a": "x:y", "b": "x:y"}, "c", what="detector")


def test_a_failed_import_is_an_error_with_the_install_line() -> None:
    with pytest.raises(MissingDependencyError, match="needs not_there: pip install it"):
        load_entry({"a": "not_there:Thing"}, "a", what="detector", install="pip install it")


def test_an_error_is_one_line_with_its_exit_code_and_a_traceback_only_on_demand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge", "config", "check", str(tmp_path / "none.toml")]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode == 78
    assert plain.stderr == f"mien: error: {tmp_path}/none.toml: No such file or directory\n"
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in debug.stderr


def test_a_speedometer_reads_the_speed_since_it_was_last_read() -> None:
    meter = Speedometer(1_000_000_000)
    assert meter.read_hz(30, 3_000_000_000) == 15
    assert meter.read_hz(40, 4_000_000_000) == 10
