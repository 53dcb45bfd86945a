"""How long after its arrival at a subscriber of the broker an event stands in a browser's table, on one machine.

    python tests/benchmarks/page_latency.py [--seconds 60]

A real daemon on the demo's scene, mosquitto, a subscriber, and Chromium on the daemon's page. An event counts as
visible at the first animation frame after its row was inserted. Subscriber and browser read the same clock.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from selenium import webdriver

NOTE = """
window.seen = {};
new MutationObserver(changes => requestAnimationFrame(() => {
  for (const change of changes) for (const row of change.addedNodes)
    if (row.cells && row.cells.length > 5)
      window.seen[row.cells[1].textContent] ??= performance.timeOrigin + performance.now();
})).observe(document.getElementById("events"), { childList: true });
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_browser(port: int) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.get(f"http://127.0.0.1:{port}/")
    time.sleep(2)
    driver.execute_script(NOTE)
    return driver


def listen(port: int) -> tuple[paho.Client, dict[str, float]]:
    heard: dict[str, float] = {}
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _, __, message: heard.setdefault(
        str(json.loads(message.payload)["seq"]), time.time() * 1000
    )
    client.connect("127.0.0.1", port)
    client.subscribe("mien/+/+/event", qos=1)
    client.loop_start()
    return client, heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    broker_port, port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "mien.toml"
        config.write_text(
            f'[camera]\nsource = "demo"\n[mqtt]\nport = {broker_port}\n'
            f'[page]\nenabled = true\nlisten = "127.0.0.1:{port}"\n'
        )
        broker = subprocess.Popen(["mosquitto", "-p", str(broker_port)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
        daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            time.sleep(4)
            client, heard = listen(broker_port)
            browser = open_browser(port)
            begin_ms = time.time() * 1000
            time.sleep(seconds)
            seen = browser.execute_script("return window.seen")
            browser.quit()
            client.loop_stop()
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(10)
            broker.terminate()
            broker.wait(10)
    late = sorted(seen[seq] - at for seq, at in heard.items() if seq in seen)
    due = [seq for seq, at in heard.items() if begin_ms + 100 < at < begin_ms + (seconds - 1) * 1000]
    percentiles = statistics.quantiles(late, n=20)
    print(f"{len(late)} events: p50 {statistics.median(late):.0f}, p95 {percentiles[18]:.0f}, most {late[-1]:.0f} ms")
    print(f"on the broker and never seen: {len([seq for seq in due if seq not in seen])} of {len(due)}")


if __name__ == "__main__":
    main()
