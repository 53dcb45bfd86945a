#!/usr/bin/env python3
"""What is a second of a followed face worth against a single frame of it?

    python tests/benchmarks/track_figures.py --data fer2013.csv@split=public_test [--bundle NAME] [--count N]

Every picture is pasted into a scene of four that drift, grow or shrink and have a camera's noise. The shipped detector
finds the faces in each frame anew, so that the boxes scatter as they do on a device; tracker, crop, classifier and
smoother are the runtime's own. Compared on the last frame, after one second at ten frames a second, with the class of
the highest score: the single frame's crop alone, the smoothed scores of crops, and the smoothed scores of crops and
mirror images by turns. Differences are paired, intervals 95 %.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset, read_dataset
from convert.evaluation.classification import paired_difference
from edge.config.schema import Config, DetectConfig, EmotionConfig, TrackConfig
from edge.pipeline.build import BuiltPipeline, build_pipeline
from edge.records import Faces, FaceState, Frame

WIDTH, HEIGHT, FACES = 640, 480, 4
FRAMES, INTERVAL_NS = 11, 100_000_000
FOUND_WITHIN: Final = 0.4
"""Of a pasted crop's side, between its centre and the box's."""

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Motion:
    """Where a pasted crop is: centre, side and their changes until the last frame, in pixels; side as a factor."""

    centre: npt.NDArray[np.float64]
    side: float
    drift: npt.NDArray[np.float64]
    growth: float

    def at(self, share: float) -> tuple[npt.NDArray[np.float64], float]:
        """Centre and side when ``share`` of the second is over."""
        return self.centre + share * self.drift, self.side * self.growth**share


class KeptFaces:
    """A detector that both pipelines share: the second one gets what the first one found in the same frame."""

    def __init__(self, detector: object) -> None:
        self._detector, self._known = detector, dict[int, Faces]()

    def detect(self, frame: Frame) -> Faces:
        """The faces of a frame."""
        if frame.timestamp_ns not in self._known:
            self._known = {frame.timestamp_ns: self._detector.detect(frame)}  # type: ignore[attr-defined]
        return self._known[frame.timestamp_ns]

    def close(self) -> None:
        """Nothing: the pipeline that made it closes it."""


def draw_motions(rng: np.random.Generator) -> list[Motion]:
    """One crop in each quarter of the frame, that stays there."""
    motions = []
    for quarter in range(FACES):
        middle = np.array([(quarter % 2 + 0.5) * WIDTH / 2, (quarter // 2 + 0.5) * HEIGHT / 2])
        side, growth = rng.uniform(90, 170), np.exp(rng.normal(0, 0.08))
        motions.append(Motion(middle + rng.uniform(-15, 15, 2), side, rng.normal(0, 10, 2), float(growth)))
    return motions


def draw_frame(
    faces: list[Picture], motions: list[Motion], share: float, scene: Picture, rng: np.random.Generator
) -> Picture:
    """The scene with all crops where they are then, and the camera's noise."""
    image = scene.astype(np.float32)
    for face, motion in zip(faces, motions, strict=True):
        centre, side = motion.at(share)
        scale = side / face.shape[0]
        matrix = np.array([[scale, 0, centre[0] - side / 2], [0, scale, centre[1] - side / 2]])
        pasted = cv2.warpAffine(face, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(np.ones(face.shape, np.float32), matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        image += mask[:, :, None] * (pasted.astype(np.float32)[:, :, None] - image)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def nearest(states: tuple[FaceState, ...], motion: Motion) -> FaceState | None:
    """The state that belongs to a pasted crop in the last frame, or None."""
    centre, side = motion.at(1.0)

    def away(state: FaceState) -> float:
        x, y, w, h = state.track.xywh
        return float(np.hypot(x + w / 2 - centre[0], y + h / 2 - centre[1]))

    best = min(states, key=away, default=None)
    return best if best is not None and best.scores is not None and away(best) < FOUND_WITHIN * side else None


def make_pipelines(bundle: str) -> tuple[BuiltPipeline, BuiltPipeline]:
    """The runtime with crops alone, and with mirror images; one detector for both."""
    built = []
    for mirror in (False, True):
        config = Config(
            emotion=EmotionConfig(bundle=bundle, mirror=mirror),
            detect=DetectConfig(schedule="every_frame"),
            track=TrackConfig(confirm_ms=0),
        )
        built.append(build_pipeline(config, frame_wh=(WIDTH, HEIGHT), seed=1))
    shared = KeptFaces(built[0].detector)
    for each in built:
        each.pipeline._detector = shared  # type: ignore[assignment]
    return built[0], built[1]


def measure(dataset: Dataset, bundle: str, *, seed: int) -> tuple[npt.NDArray[np.bool_], int, int]:
    """(n, 3) which faces are read rightly, n, and how many were shown.

    Returns:
        Columns: the single last frame's crop; smoothed crops; smoothed crops and mirror images.
    """
    crops, both = make_pipelines(bundle)
    labels, rng = crops.emotion.manifest.labels, np.random.default_rng(seed)
    wanted = dataset.class_indices(labels)
    right: list[tuple[bool, bool, bool]] = []
    order = rng.permutation(np.flatnonzero(wanted >= 0))
    for number in range(len(order) // FACES):
        rows = order[FACES * number : FACES * (number + 1)]
        faces = [np.asarray(dataset.images[row]).reshape(dataset.images[row].shape[:2]) for row in rows]
        motions = draw_motions(rng)
        coarse = rng.integers(60, 190, (5, 8, 3), dtype=np.uint8)
        scene = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for k in range(FRAMES):
            image = draw_frame(faces, motions, k / (FRAMES - 1), scene, rng)
            stamp = (number * 100 + k) * INTERVAL_NS
            frame = Frame(image, stamp, number * FRAMES + k, "scene", discontinuity=k == 0)
            alone, averaged = crops.pipeline.step(frame).faces, both.pipeline.step(frame).faces
        for row, motion in zip(rows, motions, strict=True):
            one, two = nearest(alone, motion), nearest(averaged, motion)
            if one is not None and two is not None and one.scores is not None:
                read = (one.scores, one.smoothed, two.smoothed)
                right.append(tuple(int(scores.argmax()) == wanted[row] for scores in read))  # type: ignore[arg-type]
    return np.array(right), len(right), len(order) // FACES * FACES


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labelled crops in any form that mien-train reads")
    parser.add_argument("--bundle", default=EmotionConfig().bundle)
    parser.add_argument("--count", type=int, help="pictures, the first ones of a shuffled order; all of them if unset")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    dataset = read_dataset(options.data)
    if options.count is not None:
        dataset = dataset.select(np.random.default_rng(options.seed).permutation(len(dataset))[: options.count])
    right, found, shown = measure(dataset, options.bundle, seed=options.seed)
    print(f"{options.bundle}: {found} of {shown} faces found ({found / shown:.1%})")
    print("single frame {:.2%}, one second of crops {:.2%}, with mirror images {:.2%}".format(*right.mean(axis=0)))
    for name, column in (("crops", 1), ("with mirror images", 2)):
        gain = paired_difference(right[:, 0], right[:, column])
        print(f"{name}: {100 * gain.value:+.2f} points (95 %: {100 * gain.low:+.2f}..{100 * gain.high:+.2f})")


if __name__ == "__main__":
    main()
