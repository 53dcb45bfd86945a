"""Which views of a face are read, and what becomes of their scores."""

from __future__ import annotations

import numpy as np

from edge.config.schema import Config, SmoothConfig
from edge.contract.preprocess import resize
from edge.infer.classifier import EmotionClassifier
from edge.pipeline.build import build_pipeline
from edge.pipeline.mirror import BOTH, ViewSchedule, average_views, view_crops
from edge.records import Floats

MS = 1_000_000
CROP, MIRRORED = (False,), (True,)


def schedule(**changes: float) -> ViewSchedule:
    return ViewSchedule(mirror=True, time_constant_ms=changes.get("time_constant_ms", 350))


def test_a_new_face_is_read_both_ways_and_then_by_turns() -> None:
    views = schedule()
    seen = [views.choose(["a"], k * 40 * MS)[0] for k in range(5)]
    assert seen == [BOTH, CROP, MIRRORED, CROP, MIRRORED]


def test_each_track_has_turns_of_its_own_though_it_is_read_in_every_other_frame_only() -> None:
    views = schedule()
    seen = [views.choose(["a", "b"] if k % 2 else ["a"], k * 40 * MS) for k in range(8)]
    assert [row[1] for row in seen if len(row) == 2] == [BOTH, CROP, MIRRORED, CROP]


def test_frames_that_are_far_apart_for_the_smoother_are_read_both_ways() -> None:
    views = schedule(time_constant_ms=350)
    assert [views.choose(["a"], k * 1000 * MS)[0] for k in range(3)] == [BOTH] * 3
    assert views.choose(["a"], 2100 * MS) == [CROP]


def test_without_smoothing_every_frame_is_read_both_ways() -> None:
    views = schedule(time_constant_ms=0)
    assert [views.choose(["a"], k * 40 * MS)[0] for k in range(3)] == [BOTH] * 3


def test_another_time_constant_counts_from_the_next_frame_on() -> None:
    views = schedule(time_constant_ms=350)
    views.choose(["a"], 0)
    views.configure(time_constant_ms=0)
    assert views.choose(["a"], 40 * MS) == [BOTH]


def test_a_track_that_is_gone_is_forgotten() -> None:
    views = schedule()
    views.choose(["a", "b"], 0)
    views.keep(["b"])
    assert views.choose(["a", "b"], 40 * MS) == [BOTH, CROP]


def test_a_reader_of_crops_alone_never_sees_a_mirror_image() -> None:
    views = ViewSchedule(mirror=False, time_constant_ms=0)
    assert [views.choose(["a", "b"], k * MS) for k in range(3)] == [[CROP, CROP]] * 3


def test_both_views_are_averaged_and_no_face_gets_another_ones_scores() -> None:
    crops = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2, 1)
    views = [BOTH, MIRRORED, CROP]
    seen = list(view_crops(crops, views))
    assert [crop[0, :, 0].tolist() for crop in seen] == [[0, 1], [1, 0], [5, 4], [8, 9]]
    scores: Floats = np.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75], [0.5, 0.5]], np.float32)
    assert [row.tolist() for row in average_views(scores, views)] == [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]


def test_a_mirrored_picture_gets_the_scores_of_the_picture_where_both_are_read() -> None:
    built = build_pipeline(Config(smooth=SmoothConfig(time_constant_ms=0)), frame_wh=None, seed=1)
    try:
        classifier = EmotionClassifier(built.emotion.manifest, built.emotion.model.interpreter)
        noise = np.random.default_rng(7).integers(0, 256, (6, 6), dtype=np.uint8)
        crop = resize(noise, (48, 48)).reshape(1, 48, 48, 1)
        rows = []
        for image in (crop, crop[:, :, ::-1]):
            scores = classifier.classify(list(view_crops(image, [BOTH])))
            rows.append(next(average_views(scores, [BOTH])))
        alone = classifier.classify([np.ascontiguousarray(crop[0, :, ::-1])])[0]
    finally:
        built.pipeline.close()
    assert np.abs(rows[0] - rows[1]).max() < 1e-6
    assert np.abs(rows[0] - alone).max() > 1e-3
