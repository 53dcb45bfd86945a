#!/usr/bin/env python3
"""The first and only process of the system whose power is cut: mounts the disk, runs Mien, tells what is committed.

Argument: the block device. Tells JSON objects on the console: ``found`` at the start, then ``committed``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

CONSOLE = Path("/dev/console")
STATE = Path("/run/state")
OUTBOX = STATE / "outbox-scene.db"
LOG = OUTBOX.with_name(f"{OUTBOX.name}-wal")
CONFIG = f"""
device = "pi"
[camera]
name = "scene"
source = "demo"
width = 320
height = 240
fps = 5
max_frame_age_ms = 20000
[mqtt]
outbox_dir = "{STATE}"
outbox_commit_s = 0.25
"""

Stored = dict[str, list[int]]
"""First seq, last seq and number of the events stored, for each ``boot_id``."""


def tell(**values: object) -> None:
    """One object on the console, on a line of its own."""
    CONSOLE.write_text(f"\nMIEN {json.dumps(values)}\n")


def mount(kind: str, what: str, where: str) -> None:
    Path(where).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, what, where], check=True)


def look_into_outbox() -> Stored | None:
    """What is stored; None when it was just being changed.

    The daemon holds the file exclusively, so a copy is read. A commit that is seen there was written, but perhaps not
    flushed; the next one begins only after that: see `watch`.
    """
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        before = _state()
        copies = [shutil.copy(file, folder) for file in (OUTBOX, LOG) if file.exists()]
        if before != _state():
            return None
        with contextlib.closing(sqlite3.connect(copies[0])) as db:
            if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise RuntimeError("the outbox is damaged")
            events = "SELECT boot_id, min(from_seq), max(to_seq), count(*) FROM record WHERE reason IS NULL GROUP BY 1"
            return {boot_id: numbers for boot_id, *numbers in db.execute(events)}


def _state() -> tuple[object, ...]:
    """Changes when the log is carried over into the file, and when the log begins anew."""
    head = b""
    if LOG.exists():
        with LOG.open("rb") as stream:
            head = stream.read(32)
    return head, OUTBOX.stat().st_mtime_ns


def watch(daemon: subprocess.Popen[bytes]) -> None:
    """Tells what is committed, until the power goes: of two states seen, the earlier one."""
    seen: Stored = {}
    while daemon.poll() is None:
        with contextlib.suppress(FileNotFoundError, sqlite3.OperationalError):
            now = look_into_outbox()
            if now and now != seen:
                if seen:
                    tell(committed=seen)
                seen = now
        time.sleep(0.1)
    raise RuntimeError(f"mien run ended with status {daemon.returncode}")


def main() -> None:
    mount("proc", "proc", "/proc")
    mount("tmpfs", "tmpfs", "/run")
    mount("ext4", sys.argv[1], str(STATE))
    found = look_into_outbox() if OUTBOX.exists() and OUTBOX.stat().st_size else {}
    tell(found=found, aside=[file.name for file in STATE.glob("*.corrupt-*")])
    config = Path("/run/mien.toml")
    config.write_text(CONFIG)
    with CONSOLE.open("wb") as console:
        command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
        watch(subprocess.Popen(command, stdout=console, stderr=console))


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 - nobody else would tell
        tell(failed=traceback.format_exc())
        time.sleep(3600)  # the first process must not end
