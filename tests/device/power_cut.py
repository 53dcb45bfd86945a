#!/usr/bin/env python3
"""The power goes while events are stored: a system is killed at random moments, its state folder on a disk image.

    make power-cut-test     or: python tests/device/power_cut.py [--cuts 20] [--seed 0] [--out FILE.json]

The system is User-mode Linux: a Linux kernel as a process, with a page cache and an ext4 of its own, that sees this
machine's files read-only. No broker runs, so that every event goes into the outbox. What the guest has told as
committed before a cut must be there after the next boot, in a file that opens. What its memory held and its disk did
not is lost; a disk that loses its own cache is not emulated. Needs user-mode-linux and e2fsprogs, no root.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from device.console import parse_told
from tools import ROOT

from edge.system.host import machine_name

KERNEL = "linux.uml"
DISK_MB = 64
BOOT_TIMEOUT_S = 600.0
LONGEST_S = 10.0
"""From the first commit of a boot to the cut, at most."""


@dataclass
class Ledger:
    """What must be there, and what was missing.

    Attributes:
        committed: first seq, last seq and number of the events that the guest called committed, for each ``boot_id``.
        lost: events that were committed and are gone.
        aside: files that had to be set aside as damaged.
    """

    committed: dict[str, list[int]] = field(default_factory=dict)
    lost: int = 0
    aside: set[str] = field(default_factory=set)

    @property
    def events(self) -> int:
        return sum(count for _, _, count in self.committed.values())

    def audit(self, found: dict[str, list[int]], aside: list[str]) -> None:
        """Compares with what a boot has found."""
        self.aside.update(aside)
        for boot_id, (first, last, count) in self.committed.items():
            there = found.get(boot_id, [first, first - 1, 0])
            if there[0] > first or there[1] < last or there[2] < count:
                print(f"lost: {boot_id} had {first}..{last} ({count}), has {there}", file=sys.stderr)
                self.lost += max(1, count - there[2])


@dataclass(frozen=True)
class Cut:
    """One cut: seconds after the first commit of its boot, events committed until then over all boots."""

    after_s: float
    committed: int


class System:
    """One boot, whose console is a file."""

    def __init__(self, kernel: str, disk: Path, console: Path) -> None:
        self._console = console
        words = [
            kernel, "mem=768M", f"ubd0={disk}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
            "con=null", "con0=null,fd:1", f"PYTHONPATH={ROOT}", "HOME=/run", f"init={sys.executable}",
            "--", f"{ROOT}/tests/device/power_cut_guest.py", "/dev/ubda",
        ]  # fmt: skip
        with console.open("wb") as stream:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )

    def told(self, key: str) -> list[dict[str, list[int]]]:
        """Values of this key, oldest first.

        Raises:
            RuntimeError: the guest told of a failure.
        """
        objects = list(parse_told(self._console.read_text(errors="replace")))
        for each in objects:
            if "failed" in each:
                raise RuntimeError(self._console.read_text(errors="replace")[-6000:])
        return [each[key] for each in objects if key in each]

    def wait(self, key: str) -> None:
        """Waits until the guest has told this."""
        end_s = time.monotonic() + BOOT_TIMEOUT_S
        while not self.told(key):
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"no {key!r}: {self._console.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def cut(self) -> None:
        """SIGKILL to the kernel and to the processes that it traces: nobody is told, nothing more is written."""
        subprocess.run(["pkill", "-KILL", "--session", str(self._process.pid)], check=False)
        self._process.wait()
        while subprocess.run(["pgrep", "--session", str(self._process.pid)], stdout=subprocess.DEVNULL).returncode == 0:
            time.sleep(0.05)


def run_cuts(
    kernel: str, folder: Path, *, cuts: int, seed: int, on_cut: Callable[[Ledger, list[Cut]], None]
) -> tuple[Ledger, list[Cut]]:
    """Cuts the power so many times; one more boot audits what the last cut has left."""
    chance = random.Random(seed)
    ledger, done = Ledger(), list[Cut]()
    disk = folder / "disk"
    with disk.open("wb") as stream:
        stream.truncate(DISK_MB * 2**20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk], check=True)
    for number in range(cuts + 1):
        system = System(kernel, disk, folder / "console")
        try:
            system.wait("found")
            (found,), (aside,) = system.told("found"), system.told("aside")
            ledger.audit(found, list(aside))
            if number == cuts:
                break
            system.wait("committed")
            after_s = chance.uniform(0, LONGEST_S)
            time.sleep(after_s)
        finally:
            system.cut()
        for committed in system.told("committed"):
            ledger.committed.update(committed)
        done.append(Cut(round(after_s, 2), ledger.events))
        on_cut(ledger, done)
    return ledger, done


def summarize(ledger: Ledger, done: list[Cut], *, seed: int) -> dict[str, object]:
    """The report."""
    return {
        "schema": "mien.power_cut/1",
        "machine": machine_name(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": seed,
        "cuts": len(done),
        "committed": ledger.events,
        "lost": ledger.lost,
        "set_aside": sorted(ledger.aside),
        "each": [asdict(cut) for cut in done],
    }


def main() -> int:
    """Cuts and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("power-cut-test.json"))
    options = parser.parse_args()
    kernel = shutil.which(KERNEL)
    if not kernel:
        sys.exit(f"{KERNEL} is missing: apt-get install user-mode-linux")

    def report(ledger: Ledger, done: list[Cut]) -> None:
        options.out.write_text(json.dumps(summarize(ledger, done, seed=options.seed), indent=2) + "\n")
        print(f"cut {len(done)}: {ledger.events} events committed so far, {ledger.lost} lost; {done[-1]}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mien-power-") as folder:
        ledger, done = run_cuts(kernel, Path(folder), cuts=options.cuts, seed=options.seed, on_cut=report)
    report(ledger, done)
    return 1 if ledger.lost or ledger.aside else 0


if __name__ == "__main__":
    sys.exit(main())
