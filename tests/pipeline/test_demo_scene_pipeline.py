from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest

from edge.bundles.locate import shipped_bundles
from edge.capture.demo_scene import Scene
from edge.config.loader import make_config
from edge.pipeline.build import build_pipeline
from edge.records import Frame

SIZE_WH = (640, 480)
FRAMES, FPS = 240, 20


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


@pytest.mark.skipif(
    not any(name.startswith("emotion-") for name in shipped_bundles()), reason="no emotion model is shipped yet"
)
def test_the_real_pipeline_finds_the_people_of_the_scene_and_never_mixes_them_up() -> None:
    scene = Scene(size_wh=SIZE_WH, fps=FPS)
    pipeline = build_pipeline(make_config(), frame_wh=SIZE_WH, seed=1).pipeline
    shown, found, visits, emotions = 0, 0, defaultdict(set), defaultdict(set)
    for number in range(FRAMES):
        step = pipeline.step(Frame(scene.draw(number), number * 1_000_000_000 // FPS, number, "demo"))
        for truth in scene.truth(number):
            shown += 1
            face = max(step.faces, key=lambda face: iou(truth.xywh, face.track.xywh), default=None)
            if face is not None and iou(truth.xywh, face.track.xywh) >= 0.5:
                found += 1
                visits[face.track.id].add(truth.visit)
                emotions[truth.person].add(face.emotion)
    pipeline.close()
    assert found / shown >= 0.95
    assert all(len(of_one_track) == 1 for of_one_track in visits.values())
    assert "happy" in emotions["Eileen Collins"]  # she smiles
    assert "neutral" in emotions["Grace Hopper"]
