#!/usr/bin/env python3
"""Where does the daemon's memory go?

    python tests/benchmarks/memory_by_part.py [--seconds 10] [--source demo]      (needs mosquitto)

Runs `mien run` with MQTT on and frames of 640x480, and reads its resident memory by mapping (/proc/PID/smaps): files by
package, the heap, other anonymous memory. Then, in another process, what imports and models add. In 10^6 bytes.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

PACKAGES = {"opencv": "OpenCV and its libraries", "cv2": "OpenCV and its libraries", "numpy": "numpy",
            "litert": "litert", "libpython": "Python", "msgspec": "msgspec", "python3": "Python"}  # fmt: skip
STEPS = """
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
before = resident()
print("Python alone|%.1f" % before)
def step(name):
    global before
    now = resident()
    print("%s|%.1f" % (name, now - before))
    before = now
import numpy; step("numpy")
import cv2; step("OpenCV")
import ai_edge_litert.interpreter; step("litert")
import paho.mqtt.client; step("paho and ssl")
import edge.service.daemon, edge.publish.mqtt.sink, edge.publish.outbox.sqlite
step("our own modules, msgspec, sqlite3")
import edge.cli; step("the command line (typer, rich)")
from edge.config.loader import make_config
from edge.config.schema import EmotionConfig
from edge.contract.bundle import load_detect_bundle, load_emotion_bundle
from edge.bundles.select import choose_bundle, rules_of
rules = rules_of(make_config())
name = EmotionConfig().bundle
emotion = choose_bundle(name, load_emotion_bundle, fallback=name, rules=rules, crash_guard=None)
step("the emotion model, weights packed")
name = "yunet-640x480"
detector = choose_bundle(name, load_detect_bundle, fallback=name, rules=rules, crash_guard=None)
step("the detector at 640x480")
"""


def by_part(pid: int) -> Counter[str]:
    """Resident memory in 10^6 bytes."""
    parts, part = Counter[str](), ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapping := re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)", line):
            path = mapping[1]
            known = next((name for word, name in PACKAGES.items() if word in path), "other files")
            part = {"[heap]": "heap", "": "other anonymous memory"}.get(
                path, known if path.startswith("/") else "stacks"
            )
        elif line.startswith("Rss:"):
            parts[part] += int(line.split()[1]) * 1024 / 1e6
    return parts


def measure(source: str, seconds: float) -> Counter[str]:
    """Run a broker and the daemon, and look at it after a while."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    broker = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    if broker is None:
        sys.exit("mosquitto is not installed: apt-get install mosquitto")
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen([broker, "-p", str(port)], stderr=-3) as child:
        file = Path(folder) / "mien.toml"
        file.write_text(f'[camera]\nsource = "{source}"\n[mqtt]\nport = {port}\n[log]\nlevel = "error"\n')
        with subprocess.Popen([sys.executable, "-m", "edge", "run", "--config", file]) as daemon:
            try:
                time.sleep(seconds)
                parts = by_part(daemon.pid)
            finally:
                daemon.terminate()
                child.terminate()
    return parts


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--source", default="demo", help="of 640x480")
    options = parser.parse_args()
    parts = measure(options.source, options.seconds)
    print("| the running daemon | MB |\n| --- | --- |")
    for name, megabytes in [*parts.most_common(), ("**VmRSS**", sum(parts.values()))]:
        print(f"| {name} | {megabytes:.1f} |")
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    print("\n| step of the start | adds MB |\n| --- | --- |")
    for line in done.stdout.splitlines():
        print(f"| {line.replace('|', ' | ')} |")


if __name__ == "__main__":
    main()
