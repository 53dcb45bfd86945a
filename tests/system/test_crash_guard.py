"""What was begun and never ended is known to the next process, whatever ended this one."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.system.crash_guard import DAMAGED, ENTRIES_MAX, FAILURES_MAX, FILE, CrashGuard


def test_an_attempt_whose_process_was_killed_is_a_failure(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from edge.system.crash_guard import CrashGuard\n"
        "CrashGuard(Path(sys.argv[1])).begin('risky'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for times in (1, 2, 3):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
        found = CrashGuard(tmp_path).find("risky")
        assert (found.failures, found.open, found.confirmed) == (times, False, False)


def test_what_ended_well_is_no_failure_and_what_was_confirmed_starts_anew(tmp_path: Path) -> None:
    first = CrashGuard(tmp_path)
    first.begin("a")
    second = CrashGuard(tmp_path)
    assert second.find("a").failures == 1
    second.begin("a")
    second.end("a")
    third = CrashGuard(tmp_path)
    assert third.find("a").failures == 1, "an end in order neither adds nor forgives"
    third.begin("a")
    third.confirm("a")
    assert (CrashGuard(tmp_path).find("a").failures, CrashGuard(tmp_path).find("a").confirmed) == (0, True)


def test_forgiving_keeps_the_attempt_open(tmp_path: Path) -> None:
    for _ in range(3):
        CrashGuard(tmp_path).begin("a")
    last = CrashGuard(tmp_path)
    last.begin("a")
    last.forgive("a")
    assert CrashGuard(tmp_path).find("a").failures == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"schema": "mien.attempts/2", "entries": {}}', b"[]"])
def test_a_damaged_file_is_told_and_not_fatal(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    crash_guard = CrashGuard(tmp_path)
    assert crash_guard.find("a").failures == 0
    crash_guard.begin("a")
    assert CrashGuard(tmp_path).find("a").failures == 1


def test_without_a_folder_nothing_is_kept_and_a_folder_that_is_gone_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = CrashGuard(None)
    memory.begin("a")
    assert memory.find("a").open
    assert not memory.is_kept
    assert not memory.writable
    gone = CrashGuard(tmp_path / "gone")
    gone.begin("a")
    assert gone.is_kept
    assert not gone.writable
    assert caplog.text.count("a crash will not be remembered") == 1, "once, not at every write"


def test_the_file_stays_small(tmp_path: Path) -> None:
    crash_guard = CrashGuard(tmp_path)
    for number in range(3 * ENTRIES_MAX):
        crash_guard.begin(f"bundle {number}")
    assert CrashGuard(tmp_path).find(f"bundle {3 * ENTRIES_MAX - 1}").failures == 1
    assert CrashGuard(tmp_path).find("bundle 0").failures == 0
    assert (tmp_path / FILE).stat().st_size < 8192
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_flipped_bit_is_never_the_end_and_what_was_there_is_kept(tmp_path: Path) -> None:
    crash_guard = CrashGuard(tmp_path)
    for key in ("delegate external /usr/lib/x.so", "bundle /var/lib/mien/bundles/a/0001-1.0.0"):
        crash_guard.begin(key)
        crash_guard.end(key)
    raw, rng = (tmp_path / FILE).read_bytes(), random.Random(5)
    set_aside = 0
    for _ in range(1000):
        data = bytearray(raw)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / FILE).write_bytes(data)
        again = CrashGuard(tmp_path)
        assert again.find("delegate external /usr/lib/x.so").failures <= FAILURES_MAX
        aside = tmp_path / (FILE + DAMAGED)
        if aside.exists():
            assert aside.read_bytes() == data
            aside.unlink()
            set_aside += 1
    assert set_aside > 300
    (tmp_path / FILE).write_bytes(b"[" * 100_000)
    assert CrashGuard(tmp_path).find("a").failures == 0
