#!/usr/bin/env python3
"""Latency from capture to an MQTT subscriber, through a real mosquitto, at 15 frames a second of 640x480.

    python tests/benchmarks/capture_to_subscriber.py [--frames 2000] [--json]

The clip is composed of the free photographs that ship; daemon, broker and subscriber run on this machine, so that one
monotonic clock serves all. Latency is the arrival of a frame's ``…/faces`` message less its time of capture.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from brokers import Mosquitto, wait_until
from clips import write_clip

from edge.system.host import machine_name

FPS = 15


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if not program:
        sys.exit("mosquitto is missing: apt-get install mosquitto")
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), program, frames=options.frames)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"{report['machine']}\n{report['frames']} frames with {report['faces']} faces at {FPS} frames/s:")
        print(" · ".join(f"{key} {report[key]:.1f} ms" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")))
        print(f"frame interval {1000 / FPS:.1f} ms, inference p50 {report['inference_p50_ms']:.1f} ms")


def measure(folder: Path, program: str, *, frames: int) -> dict[str, object]:
    """Runs broker, subscriber and daemon; see the module."""
    broker = Mosquitto(program, folder / "broker", settings=("allow_anonymous true",))
    broker.start()
    seen: list[tuple[float, float, int]] = []
    steps: list[float] = []

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        now_ms = time.monotonic_ns() / 1e6
        payload = json.loads(message.payload)
        if message.topic.endswith("/health"):
            steps.append(payload["stages_ms"]["step"]["p50"])
        else:
            seen.append((now_ms - payload["mono_ms"], payload["frame_age_ms"], len(payload["faces"])))

    subscriber = paho.Client(CallbackAPIVersion.VERSION2)
    subscriber.on_message = on_message
    topics = [("mien/pi/front/faces", 0), ("mien/pi/front/health", 0)]
    subscriber.on_connect = lambda client, *_: client.subscribe(topics)
    subscriber.connect("127.0.0.1", broker.port)
    subscriber.loop_start()
    clip = write_clip(folder / "clip.avi", people=2, seconds=8, fps=FPS)
    config = folder / "mien.toml"
    config.write_text(
        f'device = "pi"\n[camera]\nname = "front"\nsource = {json.dumps(str(clip))}\noptions = {{ loop = true }}\n'
        f"[publish]\nfaces_hz = 120\nhealth_s = 5\n[mqtt]\nport = {broker.port}\n"
    )
    with subprocess.Popen([sys.executable, "-m", "edge", "run", "--config", str(config)]) as daemon:
        try:
            wait_until(lambda: len(seen) >= frames, what="frames", timeout_s=60 + 2 * frames / FPS)
        finally:
            daemon.terminate()
    subscriber.loop_stop()
    broker.kill()
    latency, _, faces = zip(*seen[:frames], strict=True)
    p50, p95, p99 = np.percentile(latency, (50, 95, 99))
    return {
        "machine": machine_name(),
        "frames": len(latency),
        "faces": round(float(np.mean(faces)), 2),
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "max_ms": float(max(latency)),
        "inference_p50_ms": steps[-1] if steps else float("nan"),
    }


if __name__ == "__main__":
    main()
