from __future__ import annotations

import os
import random
import select
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from brokers import wait_until

from edge.publish.outbox.base import Bounds, Gap, Record, StoredEvent
from edge.publish.outbox.sqlite import SqliteOutbox
from edge.publish.outbox.sqlite_file import DamagedError, SqliteFile

PATIENCE_S = 60.0
"""For a disk that is busy with other things; no test waits for it in vain."""

CHILD = """
import sys
from pathlib import Path
from edge.publish.outbox.base import Bounds, StoredEvent
from edge.publish.outbox.sqlite import SqliteOutbox
outbox = SqliteOutbox(Path(sys.argv[1]), Bounds(10_000_000, data_bytes=2**32), commit_s=0.05)
outbox.open()
for seq in range(1, 100_000):
    outbox.put(StoredEvent(sys.argv[2], seq, 0, b"x" * 500))
    if seq % 10 == 0 and outbox.flush(timeout_s=60):
        print(seq, flush=True)
"""


def event(seq: int, boot_id: str = "b") -> StoredEvent:
    return StoredEvent(boot_id, seq, 0, b"%d" % seq * 100)


def opened(path: Path, *, events: int = 100_000, retry_s: float = 0.1, is_read: bool = True) -> SqliteOutbox:
    """An outbox on a file; what an earlier start left is in it, however slow the disk is."""
    outbox = SqliteOutbox(path, Bounds(events, data_bytes=2**32), commit_s=0.05, retry_s=retry_s)
    outbox.open()
    if is_read:
        assert outbox.flush(timeout_s=PATIENCE_S), outbox.status()
    return outbox


def closed(outbox: SqliteOutbox) -> None:
    """Its file is free again: the next start in this process must not find it locked."""
    outbox.close(timeout_s=PATIENCE_S)
    assert not outbox._thread.is_alive()


def filled(path: Path, count: int = 200) -> None:
    outbox = opened(path)
    for seq in range(1, count + 1):
        outbox.put(event(seq))
    closed(outbox)


def take_all(outbox: SqliteOutbox) -> list[Record]:
    return list(iter(outbox.take, None))


def seqs(outbox: SqliteOutbox) -> list[int]:
    return [record.item.seq for record in take_all(outbox) if isinstance(record.item, StoredEvent)]


def test_what_was_not_acknowledged_comes_back_as_history_before_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "state" / "outbox.db"
    filled(path, 5)
    outbox = opened(path)
    assert outbox.previous() == ("b", 5)
    outbox.put(event(1, "c"))
    records = take_all(outbox)
    assert [(r.item.boot_id, r.attempted) for r in records] == [("b", True)] * 5 + [("c", False)]
    for record in records[:3]:
        outbox.done(record)
    closed(outbox)
    again = opened(path)
    assert seqs(again) == [4, 5, 1]
    assert again.previous() == ("c", 1)
    closed(again)


def test_a_full_queue_keeps_its_gap_over_a_restart(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "o.db", events=3)
    for seq in range(1, 8):
        outbox.put(event(seq))
    closed(outbox)
    again = opened(tmp_path / "o.db", events=3)
    first = again.take()
    assert first
    assert first.item == Gap("b", 1, 4, "queue_full")
    assert seqs(again) == [5, 6, 7]
    closed(again)


def test_sigkill_at_20_random_moments_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """The bounds are out of the way: on a fast machine twenty children fill the default 16 MiB."""
    rng = random.Random(5)
    path = tmp_path / "o.db"
    committed: dict[str, int] = {}
    for number in range(20):
        boot_id = f"b{number}"
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), boot_id], stdout=subprocess.PIPE)
        assert child.stdout
        assert select.select([child.stdout], [], [], PATIENCE_S)[0]
        time.sleep(rng.uniform(0, 0.15))
        child.kill()
        told = child.communicate()[0].split(b"\n")[:-1]
        committed[boot_id] = int(told[-1])
    outbox = opened(path, events=10_000_000)
    stored: dict[str, list[int]] = {}
    for record in take_all(outbox):
        assert isinstance(record.item, StoredEvent)
        stored.setdefault(record.item.boot_id, []).append(record.item.seq)
    closed(outbox)
    assert list(stored) == list(committed), "starts come in their order"
    for boot_id, last in committed.items():
        assert stored[boot_id] == list(range(1, len(stored[boot_id]) + 1))
        assert len(stored[boot_id]) >= last


@pytest.mark.parametrize("harm", ["garbage", "truncated", "flipped", "empty"])
def test_a_damaged_file_is_set_aside_and_the_queue_goes_on(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path)
    data = bytearray(path.read_bytes())
    if harm == "garbage":
        data = bytearray(random.Random(1).randbytes(len(data)))
    elif harm == "truncated":
        del data[len(data) // 2 :]
    elif harm == "empty":
        data.clear()
    else:
        at = data.find(b"150" * 100)
        data[at + 10] ^= 0xFF
    path.write_bytes(data)
    outbox = opened(path)
    outbox.put(event(1, "new"))
    assert outbox.flush(timeout_s=PATIENCE_S)
    closed(outbox)
    assert bool(list(tmp_path.glob("*.corrupt-*"))) == (harm != "empty")
    again = opened(path)
    found = seqs(again)
    closed(again)
    assert found[-1] == 1
    if harm == "flipped":
        assert found[:-1] == [seq for seq in range(1, 201) if seq != 150], "what is whole is saved"


def test_a_folder_that_cannot_be_had_is_told_and_caught_up_with_once_it_can(tmp_path: Path) -> None:
    blocker = tmp_path / "state"
    blocker.write_text("a file where the folder should be")
    outbox = opened(blocker / "o.db", is_read=False)
    outbox.put(event(1))
    assert "in memory only" in outbox.status()
    blocker.unlink()
    assert outbox.flush(timeout_s=PATIENCE_S)
    assert outbox.status() == ""
    closed(outbox)
    assert sqlite3.connect(blocker / "o.db").execute("SELECT count(*) FROM record").fetchone() == (1,)


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from edge.publish.outbox.base import Bounds, StoredEvent
from edge.publish.outbox.sqlite import SqliteOutbox
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
outbox = SqliteOutbox(Path(sys.argv[1]), Bounds(1000), commit_s=0.05, retry_s=0.1)
outbox.open()
for seq in range(1, 501):
    outbox.put(StoredEvent("b", seq, 0, b"x" * 1000))
while "in memory only" not in outbox.status():  # the test's own time limit ends this
    time.sleep(0.01)
assert len(outbox) == 500
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert outbox.flush(timeout_s=60), outbox.status()
outbox.close(timeout_s=60)
"""


def test_an_outbox_in_which_nothing_was_put_closes_and_leaves_no_thread_behind(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "o.db")
    closed(outbox)
    closed(opened(tmp_path / "o.db"))


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write = SqliteFile.write

    def slow(*arguments: Any, **options: Any) -> None:
        time.sleep(1.0)
        write(*arguments, **options)

    monkeypatch.setattr(SqliteFile, "write", slow)


@pytest.mark.usefixtures("slow_disk")
def test_a_close_waits_for_a_slow_disk_as_long_as_it_may(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path / "o.db", 3)
    outbox = opened(tmp_path / "o.db")
    assert seqs(outbox) == [1, 2, 3]
    outbox.release()
    outbox.put(event(1, "late"))
    assert "could not be stored" not in caplog.text
    outbox.close(timeout_s=0.01)
    assert "o.db: the newest events could not be stored within 0.0 s" in caplog.text
    wait_until(lambda: not outbox._thread.is_alive(), what="the writer's end")


def test_a_close_tries_a_disk_that_failed_one_last_time(tmp_path: Path) -> None:
    blocker = tmp_path / "state"
    blocker.write_text("a file where the folder should be")
    outbox = opened(blocker / "o.db", retry_s=3600, is_read=False)
    outbox.put(event(1))
    blocker.unlink()
    closed(outbox)
    again = opened(blocker / "o.db")
    assert seqs(again) == [1]
    closed(again)


HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA locking_mode=EXCLUSIVE")
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_holds_is_told_and_its_events_come_first_once_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path, 3)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        outbox = opened(path, is_read=False)
        assert outbox.status() == f"outbox in memory only: {path}: database is locked by another process"
        assert outbox.previous() is None
        outbox.put(event(1, "new"))
        outbox.put(event(2, "new"))
        holder.communicate()
    assert outbox.flush(timeout_s=PATIENCE_S)
    assert outbox.previous() == ("b", 3)
    assert seqs(outbox) == [1, 2, 3, 1, 2]
    closed(outbox)
    again = opened(path)
    assert seqs(again) == [1, 2, 3, 1, 2]
    closed(again)


def test_a_disk_that_damages_every_file_is_no_storage_and_keeps_one_file_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise DamagedError("database disk image is malformed")

    outbox = opened(tmp_path / "o.db", retry_s=3600)
    monkeypatch.setattr(SqliteFile, "write", damaged)
    outbox.put(event(1))
    wait_until(lambda: "damaged again" in outbox.status(), what=lambda: outbox.status(), timeout_s=PATIENCE_S)
    assert seqs(outbox) == [1]
    outbox.close(timeout_s=PATIENCE_S)
    assert len(list(tmp_path.glob("o.db.corrupt-*"))) == 1


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_an_events_age_is_the_time_that_the_service_ran_whatever_the_calendar_says(tmp_path: Path) -> None:
    """Each start's monotonic clock begins anew; years between two starts, or a clock that jumps, are not seen."""
    hour_ns = 3600 * 10**9
    clock = Clock()

    def start() -> SqliteOutbox:
        outbox = SqliteOutbox(tmp_path / "o.db", Bounds(100, age_s=2 * 3600), commit_s=0.05, clock_ns=clock)
        outbox.open()
        assert outbox.flush(timeout_s=PATIENCE_S)
        return outbox

    outbox = start()
    outbox.put(event(1))
    clock.now_ns = hour_ns
    outbox.put(event(2))
    closed(outbox)
    clock.now_ns = 0  # another start, maybe years later
    outbox = start()
    assert seqs(outbox) == [1, 2]
    outbox.release()
    clock.now_ns = hour_ns + 1
    records = take_all(outbox)
    assert [record.item for record in records] == [Gap("b", 1, 1, "too_old"), StoredEvent("b", 2, 0, b"2" * 100)]
    closed(outbox)


def test_a_full_disk_is_told_and_caught_up_with_once_there_is_room(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "o.db")], check=True, env=dict(os.environ))
    outbox = opened(tmp_path / "o.db")
    assert seqs(outbox) == list(range(1, 501))
    closed(outbox)


def test_a_flipped_bit_takes_one_event_not_the_outbox(tmp_path: Path) -> None:
    """Anywhere: header, tables, keys, texts. What lies in a page whose own frame is damaged may go with it."""
    path = tmp_path / "o.db"
    filled(path, 60)
    raw, rng = path.read_bytes(), random.Random(3)
    places = [rng.randrange(100) for _ in range(25)]  # the header
    places += [rng.randrange(3600, 4096) for _ in range(25)]  # the tables
    places += [rng.randrange(4096, len(raw)) for _ in range(70)]
    lost = []
    for place in places:
        data = bytearray(raw)
        data[place] ^= 1 << rng.randrange(8)
        for left in tmp_path.iterdir():
            left.unlink()
        path.write_bytes(data)
        outbox = opened(path, retry_s=5.0)
        lost.append(60 - len(seqs(outbox)))
        assert outbox.status() == "", place
        closed(outbox)
    assert max(lost[:50]) == 0, "nothing is in these pages but what every outbox has"
    assert max(lost) <= 8, "a page's worth"
    assert sum(lost) <= 110


def test_a_flipped_bit_of_the_mark_makes_no_event_too_old(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path, 3)
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE mark SET service_ns = {2**62}, last_seq = 99 WHERE id = 1")
    connection.commit()
    connection.close()
    outbox = SqliteOutbox(path, Bounds(100, age_s=3600), commit_s=0.05)
    outbox.open()
    assert outbox.flush(timeout_s=PATIENCE_S)
    assert outbox.previous() == ("b", 3)
    assert seqs(outbox) == [1, 2, 3]
    closed(outbox)


def test_a_file_of_a_later_version_is_kept_for_it(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path, 3)
    connection = sqlite3.connect(path)
    connection.executescript("ALTER TABLE record ADD COLUMN more TEXT; PRAGMA user_version=2;")
    connection.close()
    before = path.read_bytes()
    outbox = opened(path, is_read=False)
    outbox.put(event(1, "new"))
    wait_until(lambda: "of a later version" in outbox.status(), what=outbox.status)
    closed(outbox)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir() if "corrupt" in found.name] == []
