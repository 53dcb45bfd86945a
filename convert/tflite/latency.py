"""How long a TFLite file takes, measured warm in a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from convert.sandbox.module import last_line, run_module
from edge.errors import ConversionError
from edge.infer.litert import execution_plan, open_interpreter

WARM_UP: Final = 30
RUNS: Final = 300
BUDGET_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Set input, invoke and get output of one picture.

    Attributes:
        threads: of the CPU kernels.
        runs: measured invocations after `WARM_UP` others.
        p50_ms: median.
        p95_ms: 95th percentile.
        delegated_nodes: nodes of the plan that XNNPACK took.
        total_nodes: nodes of the plan; 1 when it took the whole graph.
    """

    threads: int
    runs: int
    p50_ms: float
    p95_ms: float
    delegated_nodes: int
    total_nodes: int


def measure_latency(model: bytes, *, threads: Sequence[int]) -> tuple[Latency, ...]:
    """Measure a model in a child process, once for each number of threads.

    Args:
        model: a TFLite file.
        threads: numbers of threads of the CPU kernels.

    Raises:
        ConversionError: the child does not come to an end.
    """
    child = run_module("convert.tflite.latency", *map(str, threads), stdin=model)
    if child.returncode:
        raise ConversionError(f"the model's latency cannot be measured: {last_line(child)}")
    return msgspec.json.decode(child.stdout, type=tuple[Latency, ...])


def _measure(model: bytes, threads: int) -> Latency:
    interpreter = open_interpreter(model, threads=threads)
    source, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 127, tuple(source["shape"])).astype(source["dtype"])
    times_ms: list[float] = []
    end = time.perf_counter() + BUDGET_S
    for run in range(WARM_UP + RUNS):
        start = time.perf_counter()
        interpreter.set_tensor(source["index"], picture)
        interpreter.invoke()
        interpreter.get_tensor(output["index"])
        if run >= WARM_UP:
            times_ms.append(1000 * (time.perf_counter() - start))
        if start > end and times_ms:
            break
    plan = execution_plan(interpreter)
    p50, p95 = np.percentile(times_ms, (50, 95))
    delegated = sum("DELEGATE" in name.upper() for name in plan)
    return Latency(threads, len(times_ms), round(float(p50), 4), round(float(p95), 4), delegated, len(plan))


if __name__ == "__main__":
    content = sys.stdin.buffer.read()
    print(msgspec.json.encode([_measure(content, int(count)) for count in sys.argv[1:]]).decode())
