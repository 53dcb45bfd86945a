"""How long ``mien-convert quantize`` takes from start to verdict, stage by stage.

    python tests/benchmarks/quantize_stages.py MODEL --calibrate DATA --evaluate DATA --labels a,b,c [--limit-s 60]

Runs the command in a process of its own, as a user does, and takes the stages from its progress lines. Seconds on the
clock say something only while nothing else runs; processor seconds (user and system, children included) hold on a busy
machine, too. With ``--limit-s`` the exit code is 1 when the whole takes longer.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
VERDICTS = (0, 3, 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibrate", required=True)
    parser.add_argument("--evaluate", required=True)
    parser.add_argument("--labels", default="angry,disgust,fear,happy,sad,surprise,neutral")
    parser.add_argument("--limit-s", type=float, help="fail when it takes longer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "convert", "quantize", args.model, "--calibrate", args.calibrate, "--evaluate",
            args.evaluate, "--out", f"{folder}/bundle", "--labels", args.labels, "--crop", "square",
            "--version", "1.0.0", "--licence", "none",
        ]  # fmt: skip
        stages, verdict, code = run(command)
    wall_s, busy_s = stages[-1][1] - stages[0][1], stages[-1][2]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {Path(args.model).name}")
    for (name, start, busy), (_, end, busy_then) in itertools.pairwise(stages):
        print(f"{end - start:6.1f} s on the clock  {busy_then - busy:6.1f} s of processor  {name}")
    print(f"{wall_s:6.1f} s on the clock  {busy_s:6.1f} s of processor  start to verdict\n{verdict}")
    if code not in VERDICTS:
        return code
    return int(args.limit_s is not None and wall_s > args.limit_s)


def run(command: list[str]) -> tuple[list[tuple[str, float, float]], str, int]:
    """The command's stages as (name, time, processor seconds so far), its last line and its exit code."""
    stages = [("start, imports", time.monotonic(), 0.0)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stdout is not None
        for line in child.stderr:
            if line.startswith("["):
                stages.append((line.partition("] ")[2].strip(), time.monotonic(), processor_s(child.pid)))
            else:
                sys.stderr.write(line)
        said = child.stdout.read().splitlines()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    stages.append(("end", time.monotonic(), spent.ru_utime + spent.ru_stime))
    return stages, said[-1] if said else "", child.returncode


def processor_s(pid: int) -> float:
    """User and system time of a running process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_A_SECOND


if __name__ == "__main__":
    sys.exit(main())
