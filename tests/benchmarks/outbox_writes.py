"""What the outbox writes to the disk: ``python tests/benchmarks/outbox_writes.py FOLDER [EVENTS_PER_S] [SECONDS]``.

Events of 900 bytes at an even pace; bytes from ``/proc/self/io`` (``write_bytes``: handed to the block layer, so FOLDER
must be on a disk, not a tmpfs). Once with a broker that acknowledges at once, once without a broker.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from edge.publish.outbox import Bounds, StoredEvent
from edge.publish.sqlite_outbox import SqliteOutbox


def written_bytes() -> int:
    rows = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(rows["write_bytes"])


def measure(folder: Path, *, rate_hz: float, seconds: float, has_broker: bool) -> float:
    """Bytes an hour."""
    outbox = SqliteOutbox(folder / "outbox.db", Bounds(100_000))
    outbox.open()
    outbox.begin("bench")
    outbox.flush(timeout_s=10)
    before = written_bytes()  # the file is made: what follows goes on for ever
    for seq in range(1, int(rate_hz * seconds) + 1):
        outbox.put(StoredEvent("bench", seq, 0, b"x" * 900))
        if has_broker and (record := outbox.take()):
            outbox.done(record)
        time.sleep(1 / rate_hz)
    written = written_bytes() - before
    outbox.close(timeout_s=10)
    return written * 3600 / seconds


def main() -> None:
    folder, rate_hz, seconds = Path(sys.argv[1]), float((sys.argv[2:] or ["1"])[0]), float((sys.argv[3:] or ["60"])[0])
    for has_broker in (True, False):
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            per_hour = measure(Path(inner), rate_hz=rate_hz, seconds=seconds, has_broker=has_broker)
        print(f"{rate_hz:g} events/s, broker {'there' if has_broker else 'away'}: {per_hour / 1e6:.2f} MB an hour")


if __name__ == "__main__":
    main()
