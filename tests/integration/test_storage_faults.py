"""Disks that are full or read-only, and a calendar that jumps by years, under a daemon that runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import Mosquitto, Subscriber, free_port, wait_until
from integration.daemon_process import DaemonProcess, told_places
from tools import require_library

pytestmark = pytest.mark.broker

Start = Callable[..., DaemonProcess]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own: half a megabyte in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "mien-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leaves no room at all."""
    with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)


def test_a_full_disk_is_told_memory_is_bounded_and_room_at_the_stop_is_used(
    disk: Path, start_daemon: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    state = disk / "state"
    daemon = start_daemon(free_port(), state=state, mqtt="queue_max = 10\n")
    wait_until(lambda: (state / "outbox-front.db").exists(), what=lambda: daemon.log)
    daemon.wait_made(2)
    fill(disk)
    daemon.wait_log("disk is full; events wait in memory only, tried again every 30 s")
    daemon.wait_status("outbox in memory only: ")
    daemon.wait_made(len(daemon.made()) + 15)
    assert daemon.process.poll() is None
    (disk / "filler").unlink()
    daemon.stop()
    assert daemon.stored() == daemon.made(), "the last ten, and a gap for the others"
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    again = start_daemon(broker.port, state=state)
    wait_until(
        lambda: set(daemon.made()) <= set(told_places(subscriber.on("history"))),
        what=lambda: f"{subscriber.on('history')} {again.log}",
        timeout_s=60,
    )
    gap = json.loads(subscriber.on("history")[0])
    assert (gap["type"], gap["from_seq"], gap["reason"]) == ("gap", 1, "queue_full")


def test_a_state_folder_that_is_read_only_is_told_and_the_events_wait_in_memory(
    disk: Path, start_daemon: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    broker = mosquitto()
    broker.kill()
    daemon = start_daemon(broker.port, state=disk / "state", mqtt="queue_max = 5\n")
    daemon.wait_log("Read-only file system")
    daemon.wait_status("outbox in memory only: ")
    daemon.wait_made(12)
    broker.start()
    subscriber = subscribe(broker.port)
    wait_until(
        lambda: set(daemon.made()[:12]) <= set(told_places(subscriber.on("history") + subscriber.on("event"))),
        what=lambda: f"{subscriber.messages} {daemon.log}",
        timeout_s=60,
    )
    assert json.loads(subscriber.on("history")[0])["reason"] == "queue_full"
    daemon.stop()


def test_a_damaged_outbox_file_is_set_aside_and_the_daemon_goes_on(start_daemon: Start, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "outbox-front.db").write_bytes(b"this is no database" * 1000)
    daemon = start_daemon(free_port())
    daemon.wait_log("outbox-front.db is damaged")
    daemon.wait_made(3)
    daemon.stop()
    assert daemon.stored() == daemon.made()
    assert len(list(state.glob("outbox-front.db.corrupt-*"))) == 1


def test_a_calendar_that_jumps_by_years_ages_loses_and_stops_nothing(
    start_daemon: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    """The monotonic clock stays what it is, as it does when ntpd or an admin sets the time."""
    offset = tmp_path / "offset"
    environment = {
        "LD_PRELOAD": str(require_library("faketime/libfaketime.so.1", "apt-get install faketime")),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    offset.write_text("+0\n")
    broker = mosquitto()
    broker.kill()
    options = {"mqtt": "queue_max_age_h = 1\n", "environment": environment}
    first = start_daemon(broker.port, **options)
    first.wait_made(3)
    for jump in ("+4000d", "-4000d"):
        offset.write_text(f"{jump}\n")
        first.wait_made(len(first.made()) + 5)
    years = {event["ts"][:4] for event in first.events()}
    assert len(years) == 3, "the calendar did jump"
    monotonic_ms = [event["mono_ms"] for event in first.events()]
    assert monotonic_ms == sorted(monotonic_ms)
    first.stop()
    assert first.stored() == first.made()
    broker.start()
    subscriber = subscribe(broker.port)
    offset.write_text("+8000d\n")
    second = start_daemon(broker.port, **options)
    wait_until(
        lambda: set(first.made()) <= set(told_places(subscriber.on("history"))),
        what=lambda: f"{subscriber.on('history')} {second.log}",
        timeout_s=60,
    )
    assert not any(b'"gap"' in data for data in subscriber.on("history"))
    second.stop()
