#!/usr/bin/env python3
"""A whole emulated device, from power on: boot, events, the camera unplugged and plugged in again, stop.

    make device-test        or: python tests/device/whole_system.py [--arch arm64|amd64] [--out FILE.json]

Needs root, and names what else is missing; minutes the first time. The program, the unit and the installer are the real
ones; the broker and a subscriber run inside; the camera is the kernel's virtual one. It is emulated: times say how
things follow one another, and nothing about a Pi's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from device.fixtures import SUITES
from device.machine import ARCHITECTURES, Image, Machine, build_image
from tools import cache_folder

from edge.system.host import machine_name

UNITS = ("mien@front", "mien@scene")


def make_image(work: Path, *, arch: str) -> Image:
    """Builds what is booted; see `build_image`."""
    suite = SUITES.get(sys.version_info[:2])
    if suite is None:
        sys.exit(f"no Debian has Python {sys.version_info[0]}.{sys.version_info[1]}: use 3.11 or 3.13")
    if os.geteuid() != 0:
        sys.exit("making a root file system needs root")
    emulated = ARCHITECTURES[arch]
    wanted = {"mmdebstrap": "mmdebstrap", "depmod": "kmod", "cpio": "cpio", emulated.qemu[0]: emulated.package}
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    if missing:
        sys.exit(f"missing: apt-get install {' '.join(missing)}")
    return build_image(cache_folder(), work, arch=arch, suite=suite)


def check(result: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    wanted = {
        "restarts": [0, 0],
        "state_while_away": None,
        "availability": ["online", "offline"],
    }
    return [f"{key} is {result[key]!r}, must be {value!r}" for key, value in wanted.items() if result[key] != value]


def table(report: dict[str, Any]) -> str:
    """The report as a table for ``systemd/README.md``."""
    told = report["result"]
    rows = {
        "`mien@front` (virtual camera) READY": told["mien@front ready"],
        "`online` heard": told["online"],
        "first state heard": told["first_state"],
        "`mien@scene` (the demo's people) READY": told["mien@scene ready"],
        "boot to first event heard": told["first_event"],
    }
    lines = ["| since the kernel started | s |", "| --- | --- |"]
    lines += [f"| {name} | {value:.1f} |" for name, value in rows.items()]
    lines += ["", "| then | |", "| --- | --- |"]
    lines += [
        f"| camera unplugged → `lost` | {told['unplugged_to_lost']:.1f} s; `faces: null` |",
        f"| plugged in again → `live` | {told['back_to_live']:.1f} s |",
        f"| both stopped, `offline` heard | {told['stop']:.1f} s |",
        f"| restarts, `offline` heard | {sum(told['restarts'])}, {told['availability'].count('offline')} |",
    ]
    return "\n".join(lines)


def main() -> int:
    """Builds, boots, waits, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default="arm64")
    parser.add_argument("--out", type=Path, default=Path("device-test.json"))
    parser.add_argument("--timeout-minutes", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mien-machine-") as folder:
        image = make_image(Path(folder), arch=options.arch)
        console = options.out.with_suffix(".console")
        with Machine(image, console) as machine:
            result = machine.wait_told("result", timeout_s=60 * options.timeout_minutes)["result"]
            seconds = round(time.monotonic() - machine.started_s)
    report = {
        "schema": "mien.device_test/1",
        "emulated": ARCHITECTURES[options.arch].described,
        "machine": machine_name(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": seconds,
        "result": result,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"emulated {report['emulated']} on {report['machine']}, {report['date']}\n\n{table(report)}")
    for problem in (problems := check(result)):
        print(f"wrong: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
