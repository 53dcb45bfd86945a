"""What the pipeline says about its own durations."""

from __future__ import annotations

import pytest

from edge.capture.demo_scene import Scene
from edge.config.loader import make_config
from edge.pipeline.build import build_pipeline
from edge.pipeline.step import STAGES
from edge.records import Frame

SIZE_WH = (320, 240)
FRAMES = 8


@pytest.mark.parametrize("schedule", ["every_frame", "adaptive"])
def test_every_stage_is_timed_and_a_detector_at_rest_is_not(schedule: str) -> None:
    scene = Scene(size_wh=SIZE_WH, fps=20)
    pipeline = build_pipeline(make_config({"detect": {"schedule": schedule}}), frame_wh=SIZE_WH, seed=1).pipeline
    image = scene.draw(0)  # one picture, again and again: the adaptive schedule rests
    for number in range(FRAMES):
        pipeline.step(Frame(image, number * 50_000_000, number, "demo"))
    pipeline.close()
    told, counts = pipeline.metrics.percentiles(), pipeline.metrics.counts
    assert counts["frames"] == FRAMES
    assert (counts["detected"] < FRAMES) == (schedule == "adaptive")
    assert {stage: told[stage].n for stage in (*STAGES, "step")} == {
        stage: counts["detected"] if stage == "detect" else FRAMES for stage in (*STAGES, "step")
    }
    assert told["step"].p50_ms >= max(told[stage].p50_ms for stage in STAGES if stage != "detect")


@pytest.mark.parametrize(("frame_wh", "detector"), [((352, 288), "yunet-320x256"), ((354, 288), "yunet-640x480")])
def test_the_largest_small_camera_gets_the_small_detector(frame_wh: tuple[int, int], detector: str) -> None:
    built = build_pipeline(make_config(), frame_wh=frame_wh, seed=1)
    built.pipeline.close()
    assert built.detector_bundle is not None
    assert built.detector_bundle.manifest.name == detector
