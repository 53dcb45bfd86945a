"""`mien run` as a process whose status, log and events can be looked at, and what its outbox holds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brokers import wait_until

Place = tuple[str, int]
"""``boot_id`` and ``seq``: what names an event."""
QUICK = """
[track]
confirm_ms = 0
keep_ms = 0
leave_ms = 0
[smooth]
time_constant_ms = 0
min_dwell_ms = 0
"""
"""Every face that comes or goes is an event at once."""


class DaemonProcess:
    """A daemon that makes events as fast as a clip blinks, and notes each in ``made`` beside publishing it.

    Args:
        folder: takes its configuration, log and events; a new one for each start.
        clip: what the camera sees.
        port: of the broker.
        state: folder of the outbox file; kept from start to start.
        mqtt: more lines of the section.
        host: of the broker.
        prefix: a command that runs it, for example in another network.
        environment: on top of ours.
    """

    def __init__(
        self,
        folder: Path,
        clip: Path,
        port: int,
        *,
        state: Path,
        mqtt: str = "",
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir()
        self._folder, self._state = folder, state
        self.status = ""
        (folder / "mien.toml").write_text(
            f'device = "pi"\n[camera]\nsource = {json.dumps(str(clip))}\nname = "front"\nwidth = 320\nheight = 256\n'
            f'options = {{ loop = true }}\n{QUICK}[publish]\nsinks = ["mqtt", "jsonl"]\n'
            f'[jsonl]\npath = "{folder / "made.jsonl"}"\n[mqtt]\nhost = "{host}"\nport = {port}\nretry_max_s = 1\n'
            f'keepalive_s = 5\noutbox_dir = "{state}"\noutbox_commit_s = 0.2\n{mqtt}'
        )
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notifications.bind(str(folder / "notify"))
        threading.Thread(target=self._listen, daemon=True).start()
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "edge", "run", "--config", str(folder / "mien.toml")],
                stderr=log,
                env={**os.environ, **(environment or {}), "NOTIFY_SOCKET": str(folder / "notify")},
            )

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def wait_log(self, text: str, *, timeout_s: float = 60) -> None:
        wait_until(lambda: text in self.log, what=lambda: f"{text!r} in {self.log}", timeout_s=timeout_s)

    def wait_status(self, text: str, *, timeout_s: float = 60) -> None:
        """Waits for a text in what ``systemctl status`` would show."""
        wait_until(
            lambda: text in self.status, what=lambda: f"{text!r} in {self.status!r}: {self.log}", timeout_s=timeout_s
        )

    def events(self) -> list[dict[str, Any]]:
        """The events that were made, in order; of a daemon that was killed all but those of its last moments."""
        file = self._folder / "made.jsonl"
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        rows = [json.loads(line) for line in lines]
        return [row["payload"] for row in rows if row["kind"] == "event"]

    def made(self) -> list[Place]:
        return [(event["boot_id"], event["seq"]) for event in self.events()]

    def wait_made(self, count: int, *, timeout_s: float = 60) -> None:
        """Waits until so many events were made."""
        wait_until(lambda: len(self.made()) >= count, what=lambda: f"{count} events: {self.log}", timeout_s=timeout_s)

    def stored(self) -> list[Place]:
        """What the outbox file speaks of, in order, gaps seq by seq."""
        return stored_places(self._state / "outbox-front.db")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM; it must end by itself and say that all is well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log

    def close(self) -> None:
        self.kill()
        self._notifications.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                for line in self._notifications.recv(4096).decode().splitlines():
                    if line.startswith("STATUS="):
                        self.status = line.removeprefix("STATUS=")


def stored_places(path: Path) -> list[Place]:
    """Reads a copy of an outbox file and its log, as they lie on the disk: nobody may be writing."""
    if not path.exists():
        return []
    copy = path.parent / "copy"
    copy.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{path}{suffix}", copy / f"copy.db{suffix}")
    with contextlib.closing(sqlite3.connect(copy / "copy.db")) as db:
        has_table = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'record'").fetchone()
        rows = db.execute("SELECT boot_id, from_seq, to_seq FROM record ORDER BY key").fetchall() if has_table else []
    shutil.rmtree(copy)
    return [(boot_id, seq) for boot_id, first, last in rows for seq in range(first, last + 1)]


def told_places(payloads: Sequence[bytes]) -> list[Place]:
    """The events that payloads of ``…/event`` and ``…/history`` speak of, in order, gaps seq by seq."""
    told: list[Place] = []
    for payload in map(json.loads, payloads):
        seqs = range(payload["from_seq"], payload["to_seq"] + 1) if "from_seq" in payload else [payload["seq"]]
        told += [(payload["boot_id"], seq) for seq in seqs]
    return told
