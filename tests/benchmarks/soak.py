#!/usr/bin/env python3
"""Does the daemon's memory grow? Hours of `mien run` with faces, a subscriber, and a mosquitto that goes away at times.

    python tests/benchmarks/soak.py [--minutes 120] [--exclude-minutes 15] [--limit-mb-per-h 1] [--out FOLDER]

Resident memory is read from ``/proc`` every few seconds; the start is left out. The slope is a least-squares line; its
95 % interval comes from a moving-block bootstrap of the residuals (blocks of a tenth of the time measured), because
memory moves in steps and neighbouring samples say nearly the same. FOLDER gets ``soak.json``, ``soak.png`` and the
samples. Exit status: 0 the whole interval is below the limit, 3 it is above it, 4 undecided.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from brokers import Mosquitto, wait_until

from edge.system.host import machine_name

Floats = npt.NDArray[np.float64]

MB = 1e6
SAMPLE_S = 5.0
BROKER_LIVES_S, BROKER_AWAY_S = 600.0, 10.0
BLOCK_SHARE = 0.1
REPLICATES = 4000


@dataclass(frozen=True)
class Slope:
    """A trend in MB an hour with its 95 % interval."""

    mb_per_h: float
    low: float
    high: float

    def verdict(self, limit_mb_per_h: float) -> str:
        if self.high <= limit_mb_per_h:
            return "holds"
        return "fails" if self.low > limit_mb_per_h else "undecided"


@dataclass(frozen=True)
class Samples:
    """What was read: seconds since READY, resident and anonymous memory in bytes, each of shape (samples,)."""

    t_s: Floats
    resident: Floats
    anonymous: Floats

    def after(self, start_s: float) -> Samples:
        kept = self.t_s >= start_s
        return Samples(self.t_s[kept], self.resident[kept], self.anonymous[kept])


def estimate_slope(t_s: Floats, memory: Floats, *, seed: int = 0) -> Slope:
    """Least squares, and a moving-block bootstrap of its residuals.

    Args:
        t_s: (samples,) seconds, evenly spaced.
        memory: (samples,) bytes.
        seed: of the bootstrap.
    """
    hours, size = t_s / 3600, len(t_s)
    centred = hours - hours.mean()
    weights = centred / (centred**2).sum()  # the slope is a weighted sum of the values
    slope = float(weights @ memory)
    residuals = memory - memory.mean() - slope * centred
    block = max(1, round(size * BLOCK_SHARE))
    starts = np.random.default_rng(seed).integers(0, size - block + 1, (REPLICATES, -(-size // block)))
    picks = (starts[:, :, None] + np.arange(block)).reshape(REPLICATES, -1)[:, :size]
    low, high = np.percentile(residuals[picks] @ weights, (2.5, 97.5))
    return Slope(slope / MB, (slope - high) / MB, (slope - low) / MB)


def read_memory(pid: int) -> tuple[float, float]:
    """Resident and anonymous memory of a process in bytes."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    resident, anonymous = (1024.0 * int(lines[key].split()[0]) for key in ("VmRSS", "RssAnon"))
    return resident, anonymous


class Watcher:
    """A subscriber that counts."""

    def __init__(self, port: int) -> None:
        self.counts: dict[str, int] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = lambda client, *_: client.subscribe("mien/#", 1)
        self._client.on_message = self._count
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _count(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        level = message.topic.rpartition("/")[2]
        self.counts[level] = self.counts.get(level, 0) + 1

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def soak(
    folder: Path, program: str, *, seconds: float, sample_s: float = SAMPLE_S, broker_lives_s: float = BROKER_LIVES_S
) -> tuple[Samples, dict[str, int]]:
    """Runs broker, subscriber and daemon for so long.

    Args:
        folder: takes their files.
        program: mosquitto.
        seconds: from the first event on.
        sample_s: between two readings.
        broker_lives_s: the broker is killed every so often and is away for `BROKER_AWAY_S`.

    Returns:
        The samples, and how many messages were heard on each last level of a topic.
    """
    broker = Mosquitto(program, folder / "broker", settings=("allow_anonymous true",))
    broker.start()
    watcher = Watcher(broker.port)
    config = folder / "mien.toml"
    config.write_text(
        'device = "pi"\n[camera]\nname = "front"\nsource = "demo"\n[publish]\nfaces_hz = 5\nhealth_s = 10\n'
        f'[mqtt]\nport = {broker.port}\noutbox_dir = "{folder}"\n'
    )
    command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as in the unit
    with subprocess.Popen(command, env=environment) as daemon:
        try:
            wait_until(lambda: watcher.counts.get("event"), what="the first event", timeout_s=120)
            samples = _sample(daemon, broker, seconds=seconds, sample_s=sample_s, broker_lives_s=broker_lives_s)
        finally:
            daemon.terminate()
            daemon.wait(20)
            watcher.close()
            broker.kill()
    return samples, watcher.counts


def _sample(
    daemon: subprocess.Popen[bytes], broker: Mosquitto, *, seconds: float, sample_s: float, broker_lives_s: float
) -> Samples:
    rows: list[tuple[float, float, float]] = []
    start_s = time.monotonic()
    broker_ends_s, broker_returns_s = broker_lives_s, float("inf")
    while (now_s := time.monotonic() - start_s) < seconds:
        if daemon.poll() is not None:
            raise RuntimeError(f"the daemon ended after {now_s:.0f} s with status {daemon.returncode}")
        rows.append((now_s, *read_memory(daemon.pid)))
        if now_s >= broker_returns_s:
            broker.start()
            broker_ends_s, broker_returns_s = now_s + broker_lives_s, float("inf")
        elif now_s >= broker_ends_s:
            broker.kill()
            broker_ends_s, broker_returns_s = float("inf"), now_s + BROKER_AWAY_S
        time.sleep(max(0.0, start_s + len(rows) * sample_s - time.monotonic()))
    t_s, resident, anonymous = np.array(rows).T
    return Samples(t_s, resident, anonymous)


def summarize(
    samples: Samples, counts: dict[str, int], *, exclude_s: float, limit_mb_per_h: float
) -> dict[str, object]:
    """The report; see ``soak.json``."""
    measured = samples.after(exclude_s)
    resident = estimate_slope(measured.t_s, measured.resident)
    anonymous = estimate_slope(measured.t_s, measured.anonymous)
    return {
        "schema": "mien.soak/1",
        "machine": machine_name(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "minutes": round(samples.t_s[-1] / 60, 1),
        "excluded_minutes": round(exclude_s / 60, 1),
        "samples": len(measured.t_s),
        "method": "least squares; 95 % interval: moving-block bootstrap of residuals, blocks of a tenth",
        "resident_slope": asdict(resident),
        "anonymous_slope": asdict(anonymous),
        "resident_mb": {
            "first": round(measured.resident[0] / MB, 2),
            "last": round(measured.resident[-1] / MB, 2),
            "max": round(measured.resident.max() / MB, 2),
        },
        "limit_mb_per_h": limit_mb_per_h,
        "verdict": resident.verdict(limit_mb_per_h),
        "messages": dict(sorted(counts.items())),
    }


def draw(samples: Samples, *, exclude_s: float, target: Path) -> None:
    """Memory over time with the line through the part that counts, as PNG."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.2), dpi=130, layout="constrained")
    minutes = samples.t_s / 60
    measured = samples.after(exclude_s)
    axes.axvspan(0, exclude_s / 60, color="#eef1f5", label="left out")
    for name, memory, kept, colour in (
        ("resident", samples.resident, measured.resident, "#2f6fde"),
        ("anonymous", samples.anonymous, measured.anonymous, "#e0872f"),
    ):
        slope = estimate_slope(measured.t_s, kept)
        label = f"{name}: {slope.mb_per_h:+.2f} MB/h [{slope.low:+.2f}, {slope.high:+.2f}]"
        axes.plot(minutes, memory / MB, color=colour, linewidth=1.4, label=label)
        line = kept.mean() / MB + slope.mb_per_h * (measured.t_s - measured.t_s.mean()) / 3600
        axes.plot(measured.t_s / 60, line, color="#1c2430", linewidth=1, linestyle="--")
    axes.set(xlim=(0, minutes[-1]), ylim=(0, None), xlabel="minutes since the first event", ylabel="MB")
    axes.set_title("memory of mien run (95 % intervals)", fontsize=11, loc="left")
    axes.grid(color="#e3e8ef", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(target, metadata={"Software": None})
    plt.close(figure)


def main() -> int:
    """Measures, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--exclude-minutes", type=float, default=15)
    parser.add_argument("--limit-mb-per-h", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    options = parser.parse_args()
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if not program:
        sys.exit("mosquitto is missing: apt-get install mosquitto")
    exclude_s = 60 * options.exclude_minutes
    if options.minutes < 2 * options.exclude_minutes:
        sys.exit("--minutes: at least twice --exclude-minutes, so that there is something to measure")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        samples, counts = soak(Path(folder), program, seconds=60 * options.minutes)
    report = summarize(samples, counts, exclude_s=exclude_s, limit_mb_per_h=options.limit_mb_per_h)
    table = np.column_stack([samples.t_s, samples.resident, samples.anonymous])
    np.savetxt(options.out / "samples.csv", table, "%.1f", ",", header="t_s,resident,anonymous", comments="")
    (options.out / "soak.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(samples, exclude_s=exclude_s, target=options.out / "soak.png")
    print(json.dumps(report, indent=2))
    return {"holds": 0, "fails": 3, "undecided": 4}[str(report["verdict"])]


if __name__ == "__main__":
    sys.exit(main())
