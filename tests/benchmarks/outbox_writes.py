"""What the outbox writes to the disk, for a few commit intervals: ``python tests/benchmarks/outbox_writes.py FOLDER``.

Options: ``--rate`` events a second, ``--seconds`` of each measurement, ``--commit`` intervals in seconds.

Events of 900 bytes at an even pace; bytes from ``/proc/self/io`` (``write_bytes``: handed to the block layer, so FOLDER
must be on a disk, not a tmpfs). With a broker that acknowledges at once, and without one. The life of a card is what a
card of 32 GB bears, 500 times its size, over what is written, were the card to write four times as much by itself
(it erases blocks, not pages): assumptions, not measurements.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from edge.publish.outbox.base import Bounds, StoredEvent
from edge.publish.outbox.sqlite import SqliteOutbox

CARD_BYTES = 32e9 * 500 / 4
"""What the outbox may write in the life of a card; see the module."""
HOURS_A_YEAR = 24 * 365


def written_bytes() -> int:
    rows = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(rows["write_bytes"])


def measure(folder: Path, *, rate_hz: float, seconds: float, commit_s: float, has_broker: bool) -> float:
    """Bytes an hour."""
    outbox = SqliteOutbox(folder / "outbox.db", Bounds(100_000), commit_s=commit_s)
    outbox.open()
    outbox.begin("bench")
    outbox.flush(timeout_s=10)
    before = written_bytes()  # the file is made: what follows goes on for ever
    began_s = time.monotonic()
    for seq in range(1, int(rate_hz * seconds) + 1):
        outbox.put(StoredEvent("bench", seq, 0, b"x" * 900))
        if has_broker and (record := outbox.take()):
            outbox.done(record)
        time.sleep(max(0.0, began_s + seq / rate_hz - time.monotonic()))
    written = written_bytes() - before
    took_s = time.monotonic() - began_s
    outbox.close(timeout_s=10)
    return written * 3600 / took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--commit", type=float, nargs="+", default=[0.1, 0.5, 1.0])
    options = parser.parse_args()
    for commit_s in options.commit:
        for has_broker in (True, False):
            with tempfile.TemporaryDirectory(dir=options.folder) as inner:
                per_hour = measure(
                    Path(inner),
                    rate_hz=options.rate,
                    seconds=options.seconds,
                    commit_s=commit_s,
                    has_broker=has_broker,
                )
            years = CARD_BYTES / per_hour / HOURS_A_YEAR
            print(
                f"{options.rate:g} events/s, commit {commit_s:g} s, broker {'there' if has_broker else 'away'}: "
                f"{per_hour / 1e6:.2f} MB an hour, a card's life {years:.0f} years",
                flush=True,
            )


if __name__ == "__main__":
    main()
