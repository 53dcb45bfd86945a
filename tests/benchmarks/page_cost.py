"""What the live page costs the pipeline: two viewers, fifteen frames a second, against the same daemon without a page.

    python tests/benchmarks/page_cost.py [--seconds 20] [--rounds 5]

Runs alternate, so that a machine that gets slower does so for both. Prints medians over the rounds, and their ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.request import urlopen

VIEWERS = 2
WARM_UP_S = 5.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processor_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def look_on(port: int, stop: threading.Event) -> None:
    """Read the stream as a browser does, until told to stop."""
    with urlopen(f"http://127.0.0.1:{port}/events", timeout=30) as stream:
        while not stop.is_set() and stream.readline():
            pass


def measure(folder: Path, seconds: float, *, page: bool) -> dict[str, float]:
    """Run a daemon and return its step times in ms, its memory in MB and its share of a core in %."""
    port, out = free_port(), folder / f"{time.monotonic_ns()}.jsonl"
    config = folder / "mien.toml"
    config.write_text(
        f'[camera]\nsource = "demo"\n[publish]\nsinks = ["jsonl"]\nhealth_s = 1\n[jsonl]\npath = "{out}"\n'
        f'[page]\nenabled = {str(page).lower()}\nlisten = "127.0.0.1:{port}"\n'
    )
    child = subprocess.Popen([sys.executable, "-m", "edge", "run", "--config", str(config)], stderr=subprocess.DEVNULL)
    stop = threading.Event()
    try:
        time.sleep(WARM_UP_S)
        viewers = [threading.Thread(target=look_on, args=(port, stop)) for _ in range(VIEWERS * page)]
        for viewer in viewers:
            viewer.start()
        begin, spent = time.monotonic(), processor_s(child.pid)
        time.sleep(seconds)
        core = 100 * (processor_s(child.pid) - spent) / (time.monotonic() - begin)
        stop.set()
        for viewer in viewers:
            viewer.join(10)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(10)
    payloads = (json.loads(line)["payload"] for line in out.read_text().splitlines())
    health = [told for told in payloads if isinstance(told, dict) and told.get("schema") == "mien.health/1"][-1]
    step = health["stages_ms"]["step"]
    return {
        "step p50, ms": step["p50"],
        "step p95, ms": step["p95"],
        "memory, MB": health["rss_bytes"] / 1e6,
        "core, %": core,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(options.rounds):
            for page in (False, True):
                found[page].append(measure(Path(name), options.seconds, page=page))
    print(f"{'':14} {'off':>8} {'on':>8} {'on / off':>9} {'on - off':>9}")
    for key in found[False][0]:
        off, on = (statistics.median(row[key] for row in found[page]) for page in (False, True))
        print(f"{key:14} {off:8.2f} {on:8.2f} {on / off:9.3f} {on - off:+9.2f}")


if __name__ == "__main__":
    main()
