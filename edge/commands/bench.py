"""`mien bench`: what this machine does with the pipeline, and how little the pipeline adds to the bare models.

The bare work of a frame is what cannot be avoided: set, invoke, decode and suppress for the detector, set and invoke
for every face, in the same calls that the pipeline makes. Frame by frame the pipeline and the bare work take turns, so
that a machine that slows down slows both.
"""

from __future__ import annotations

import itertools
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table
from rich.text import Text

from edge import __version__
from edge.capture import SOURCES, open_source, parse_source
from edge.config.loader import make_config
from edge.config.schema import Config
from edge.errors import SourceError
from edge.pipeline.build import BuiltPipeline, build_pipeline
from edge.records import Frame
from edge.system.host import machine_name, resident_bytes
from edge.system.metrics import Percentiles, percentiles_of

SCHEMA = "mien.bench/1"
WARM_UP_FRAMES = 20
MAX_FRAMES = 600
MAX_BYTES = 256 << 20
"""Of the frames of a round, which are in memory: decoding is not measured."""
MEASURED_MIN = 50
"""A source with fewer frames is run through more often."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Nanoseconds a frame, warm-up left out.

    Attributes:
        step_ns: the whole `Pipeline.step`.
        bare_ns: the bare work on the same frame.
        faces: faces that were classified.
    """

    step_ns: list[int]
    bare_ns: list[int]
    faces: list[int]


def run_bench(
    source: str | None, *, loops: int, as_json: bool, overrides: Mapping[str, str], out: Console, err: Console
) -> None:
    """Measure and print; see the module.

    Args:
        source: a video, or None for the demo's composed scene.
        loops: how often it is run through.
        as_json: print the report as JSON instead of a table.
        overrides: of the configuration; ``detect.schedule`` is ``every_frame`` unless told otherwise.
        out: the report.
        err: progress.

    Raises:
        SourceError: the video cannot be read.
    """
    settings = {"camera.source": source or "demo", "detect.schedule": "every_frame", **overrides}
    config = make_config(overrides=settings)
    frames = _read_frames(config)
    loops = max(loops, math.ceil((WARM_UP_FRAMES + MEASURED_MIN) / len(frames)))
    built = build_pipeline(config, frame_wh=frames[0].size_wh, seed=0)
    timings = _measure(built, config, frames, loops=loops, err=err)
    report = _report(built, config, timings, frames[0].size_wh)
    built.pipeline.close()
    report["start_up"] = _measure_start_up(config)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report, out)


def _read_frames(config: Config) -> list[Frame]:
    """Return the frames of one round: as many as `MAX_FRAMES` and `MAX_BYTES` allow, and one at least.

    Raises:
        SourceError: there is none.
    """
    frames: list[Frame] = []
    with closing(open_source(config.camera, clock=time.monotonic_ns, paced=False)) as source:
        for frame in itertools.islice(iter(source.read, None), MAX_FRAMES):
            frames.append(frame)
            if (len(frames) + 1) * frame.image.nbytes > MAX_BYTES:
                break
    if not frames:
        raise SourceError(source.name, "holds no frame")
    return frames


def _measure(built: BuiltPipeline, config: Config, frames: list[Frame], *, loops: int, err: Console) -> Timings:
    cv2.setNumThreads(1)  # one thread for the pipeline as for the models
    timings = Timings([], [], [])
    rounds = progress(range(loops), description="measuring", console=err, transient=True, disable=not err.is_terminal)
    shape = built.emotion.manifest.input.shape[1:]
    crops = np.random.default_rng(0).integers(0, 256, (config.detect.max_faces, *shape), np.uint8)
    number = 0
    for loop in rounds:
        for frame in _shifted(frames, loop):
            start = time.perf_counter_ns()
            step = built.pipeline.step(frame)
            between = time.perf_counter_ns()
            faces = sum(face.scores is not None for face in step.faces)
            repeat = time.perf_counter_ns()
            if step.detected:
                built.detector.search()
            for crop in crops[:faces]:
                built.emotion.model.interpreter.run(crop)
            end = time.perf_counter_ns()
            number += 1
            if number > WARM_UP_FRAMES:
                timings.step_ns.append(between - start)
                timings.bare_ns.append(end - repeat)
                timings.faces.append(faces)
    return timings


def _shifted(frames: list[Frame], loop: int) -> Iterator[Frame]:
    """Yield the frames again, later: the first of a loop is a discontinuity."""
    length_ns = frames[-1].timestamp_ns - frames[0].timestamp_ns + 40_000_000
    for index, frame in enumerate(frames):
        at_ns = frame.timestamp_ns + loop * length_ns
        discontinuity = bool(loop) and index == 0
        yield Frame(frame.image, at_ns, loop * len(frames) + index, frame.source, discontinuity, frame.lores)


def _report(built: BuiltPipeline, config: Config, timings: Timings, size_wh: tuple[int, int]) -> dict[str, Any]:
    step, bare = percentiles_of(timings.step_ns), percentiles_of(timings.bare_ns)
    counts = built.pipeline.metrics.counts
    return {
        "schema": SCHEMA,
        "mien": __version__,
        "machine": machine_name(),
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "threads": config.emotion.threads,
        "source": Path(config.camera.source).name,
        "size_wh": size_wh,
        "detector": built.detector_bundle.manifest.full_name if built.detector_bundle else config.detect.detector,
        "model": built.emotion.manifest.full_name,
        "delegate": built.emotion.model.interpreter.delegate,
        "frames": len(timings.step_ns),
        "faces_per_frame": round(float(np.mean(timings.faces)), 2),
        "frames_per_s": round(1e9 * len(timings.step_ns) / sum(timings.step_ns), 1),
        "step_over_bare": round(sum(timings.step_ns) / sum(timings.bare_ns), 4),
        "step_over_bare_median": round(step.p50_ms / bare.p50_ms, 4),
        "work_saved": round(1 - counts["detected"] / counts["frames"], 4),
        "stages_ms": {
            "step": _as_dict(step),
            "bare": _as_dict(bare),
            **{stage: _as_dict(p) for stage, p in built.pipeline.metrics.percentiles().items() if stage != "step"},
        },
        "rss_mb": round(resident_bytes() / 1e6, 1),
    }


def _as_dict(percentiles: Percentiles) -> dict[str, float]:
    return {"p50": percentiles.p50_ms, "p95": percentiles.p95_ms, "p99": percentiles.p99_ms}


def _measure_start_up(config: Config, *, frames: int = 100) -> dict[str, float | str | None]:
    """Run the real daemon as a child: seconds from process start to the first inferred frame, and its memory.

    Returns:
        ``first_frame_s``, ``daemon_rss_mb``; null with a ``reason`` where the daemon ended before.
    """
    is_file = parse_source(config.camera.source, kinds=SOURCES).kind in ("video", "pictures")
    options = "options = { loop = true }\n" if is_file else ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.toml"
        file.write_text(
            f"[camera]\nsource = {json.dumps(_absolute(config.camera.source, is_file=is_file))}\n{options}"
            '[publish]\nsinks = ["jsonl"]\nfaces_hz = 120\n'
        )
        command = [sys.executable, "-m", "edge", "run", "--config", str(file)]
        start = time.perf_counter()
        with (
            (Path(folder) / "log").open("w+b") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as child,
        ):
            assert child.stdout is not None
            seen, first_s = 0, 0.0
            for line in child.stdout:
                if b'"faces"' not in line:
                    continue
                seen += 1
                first_s = first_s or time.perf_counter() - start
                if seen >= frames:
                    rss_mb = resident_bytes(child.pid) / 1e6
                    child.terminate()
                    return {"first_frame_s": round(first_s, 3), "daemon_rss_mb": round(rss_mb, 1), "reason": None}
            child.wait()
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()[-1:]
    why = f"the daemon ended with {child.returncode} after {seen} frames: {''.join(said)}"
    return {"first_frame_s": round(first_s, 3) or None, "daemon_rss_mb": None, "reason": why}


def _absolute(source: str, *, is_file: bool) -> str:
    """Return a source as a child in another folder finds it."""
    return str(Path(source).expanduser().absolute()) if is_file and ":" not in source else source


def _print_report(report: dict[str, Any], out: Console) -> None:
    title = f"{report['source']}, {report['frames']} frames of {'×'.join(map(str, report['size_wh']))}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, figures in report["stages_ms"].items():
        style = "bold" if stage in ("step", "bare") else ""
        table.add_row(stage, *(f"{figures[p]:.3f}" for p in ("p50", "p95", "p99")), style=style)
    out.print(f"[dim]{report['machine']} · Python {report['python']} · OpenCV {report['opencv']}[/]")
    out.print(f"[dim]{report['detector']} · {report['model']} · {report['delegate']} · {report['threads']} thread[/]\n")
    out.print(table)
    start_up = report["start_up"]
    out.print(
        f"\n{report['frames_per_s']:g} frames/s with {report['faces_per_frame']:g} faces a frame; "
        f"the whole step takes [bold]{report['step_over_bare']:.3f} ×[/] the bare models"
    )
    if start_up["reason"]:
        out.print(Text(f"daemon: not measured: {start_up['reason']}", style="red"))
        return
    out.print(
        f"daemon: first frame after {start_up['first_frame_s']:.2f} s, {start_up['daemon_rss_mb']:.0f} MB resident"
    )
