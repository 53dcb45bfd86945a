#!/usr/bin/env python3
"""What does `detect.schedule = "adaptive"` save, and are the events the same?

    python tests/benchmarks/schedule_figures.py [CLIP ...] [--seconds 30] [--plot FILE.svg]

Clips, the demo and composed scenes (people that enter at every speed, appear at once, hide one another; a crowd; light;
a shaking camera; slow and fast cameras) are run with the detector on every frame and with the adaptive schedule. Tracks
are matched by place, events by track, kind and emotion. The control is the detector on every frame again, with one grey
level of noise on the picture: readings between two emotions change with it as well. All is of the frames' own time and
the same in each run; nothing depends on the machine's speed.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.capture import open_source
from edge.capture.portraits import load_portraits, read_portrait
from edge.config.loader import make_config
from edge.config.schema import DetectConfig
from edge.pipeline.build import build_pipeline
from edge.records import EmotionEvent, EventType, FaceState, Frame, Image

WIDTH, HEIGHT = 640, 480
REST_MS: Final = DetectConfig().max_rest_ms
SAME_PLACE: Final = 0.35
"""Of a face's size: two tracks so near are of one person."""
TOO_FAR_MS: Final = 1500.0
"""Events of one kind further apart are two events."""
APPEARED, CHANGED, LEFT = EventType.FACE_APPEARED, EventType.EMOTION_CHANGED, EventType.FACE_LEFT

Place = tuple[float, float, float]
"""Centre and height of a face in pixels."""
Way = Callable[[float], Place | None]
"""Time in seconds to a person's place; None while not there."""


@dataclass(slots=True)
class Outcome:
    """What a run made of the frames."""

    runs: int = 0
    events: list[EmotionEvent] = field(default_factory=list)
    faces: list[tuple[FaceState, ...]] = field(default_factory=list)


@dataclass(slots=True)
class Difference:
    """Of two runs over the same frames; times in milliseconds, later is positive.

    Attributes:
        told: events of the first run, by kind.
        off_ms: of those that both told, by kind.
        missing: that only the first told.
        extra: that only the second told.
        agreement: share of faces and frames of the first that are shown with the same emotion.
    """

    told: Counter[EventType]
    off_ms: dict[EventType, list[float]]
    missing: Counter[EventType]
    extra: Counter[EventType]
    agreement: float

    def same(self, kind: EventType) -> int:
        """How many were told alike within the longest rest; half a millisecond is rounding."""
        return sum(abs(off) <= REST_MS + 0.5 for off in self.off_ms[kind])


def run(frames: Sequence[Frame], schedule: str, *, noise: int = 0) -> Outcome:
    """Step a pipeline with every frame."""
    built = build_pipeline(make_config(overrides={"detect.schedule": schedule}), frame_wh=frames[0].size_wh, seed=0)
    outcome, rng = Outcome(), np.random.default_rng(1)
    for frame in frames:
        if noise:
            grain = rng.integers(0, noise + 1, frame.image.shape, np.uint8)
            frame = replace(frame, image=cv2.add(frame.image, grain))
        step = built.pipeline.step(frame)
        outcome.runs += step.detected
        outcome.events += step.events
        outcome.faces.append(step.faces)
    built.pipeline.close()
    return outcome


def same_tracks(one: Outcome, other: Outcome) -> dict[str, str]:
    """Track of the other run to that of the first which is at its place in the most frames."""
    together = Counter[tuple[str, str]]()
    for faces, others in zip(one.faces, other.faces, strict=True):
        for face, another in itertools.product(faces, others):
            x, y, w, h = face.track.xywh
            left, top, width, height = another.track.xywh
            away = np.hypot(x + w / 2 - left - width / 2, y + h / 2 - top - height / 2)
            if away < SAME_PLACE * (w * h) ** 0.5:
                together[another.track.id, face.track.id] += 1
    same: dict[str, str] = {}
    for (another_id, face_id), _ in together.most_common():
        if another_id not in same and face_id not in same.values():
            same[another_id] = face_id
    return same


def compare(one: Outcome, other: Outcome) -> Difference:
    """Match the events of two runs over the same frames."""
    same = same_tracks(one, other)
    rest = [(same.get(event.face.track.id, ""), event) for event in other.events]
    off: dict[EventType, list[float]] = {kind: [] for kind in EventType}
    missing = Counter[EventType]()
    for event in one.events:
        alike = [
            (abs(another.timestamp_ns - event.timestamp_ns) / 1e6, index)
            for index, (track, another) in enumerate(rest)
            if track == event.face.track.id
            and another.type is event.type
            and (event.type is not CHANGED or another.face.emotion == event.face.emotion)
        ]
        nearest = min(alike, default=(TOO_FAR_MS, -1))
        if nearest[0] >= TOO_FAR_MS:
            missing[event.type] += 1
            continue
        _, another = rest.pop(nearest[1])
        off[event.type].append((another.timestamp_ns - event.timestamp_ns) / 1e6)
    shown = agreed = 0
    for faces, others in zip(one.faces, other.faces, strict=True):
        emotions = {same.get(face.track.id, ""): face.emotion for face in others}
        shown += len(faces)
        agreed += sum(emotions.get(face.track.id) == face.emotion for face in faces)
    return Difference(
        told=Counter(event.type for event in one.events),
        off_ms=off,
        missing=missing,
        extra=Counter(event.type for _, event in rest),
        agreement=agreed / max(shown, 1),
    )


def read_frames(source: str, *, count: int | None = None) -> list[Frame]:
    """All frames of a source, in memory."""
    config = make_config(overrides={"camera.source": source})
    with closing(open_source(config.camera, clock=time.monotonic_ns, paced=False)) as opened:
        return list(itertools.islice(iter(opened.read, None), count))


def crossing(start_s: float, *, speed: float, y: float, size: float, pause_s: float = 0.0, back: bool = False) -> Way:
    """Walk from one edge to the other, with a stop in the middle."""
    reach = WIDTH + 4 * size

    def way(t: float) -> Place | None:
        gone = speed * (t - start_s)
        if pause_s:
            half = reach / 2
            gone = min(gone, half) + max(0.0, gone - half - speed * pause_s)
        if not 0 <= gone <= reach:
            return None
        x = gone - 2 * size
        return (WIDTH - x if back else x), y + 3 * np.sin(5 * t), size

    return way


def standing(x: float, y: float, size: float, *, spans: Sequence[tuple[float, float]] = ((0, 1e9),)) -> Way:
    """Sway at one place, there only during the spans."""

    def way(t: float) -> Place | None:
        if not any(begin <= t < end for begin, end in spans):
            return None
        return x + 4 * np.sin(1.3 * t + x), y + 3 * np.cos(1.1 * t + y), size

    return way


def draw(
    ways: Sequence[Way],
    *,
    seconds: float,
    fps: float = 15.0,
    light: Callable[[float], float] = lambda t: 1.0,
    shake_px: float = 0.0,
    seed: int = 0,
) -> list[Frame]:
    """Draw people over a wall, the later ones in front, with a camera's noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (5, 8, 3), dtype=np.uint8)
    wall = cv2.resize(coarse, (WIDTH + 80, HEIGHT + 80), interpolation=cv2.INTER_CUBIC)
    portraits = load_portraits()
    pictures = [(read_portrait(portrait), portrait.face_xywh) for portrait in portraits]
    frames = []
    for number in range(round(seconds * fps)):
        t = number / fps
        image = wall.astype(np.float32)
        for index, way in enumerate(ways):
            if (place := way(t)) is not None:
                picture, box = pictures[index % len(pictures)]
                paste(image, picture if index < len(pictures) else picture[:, ::-1], box, place)
        dx, dy = 40 + rng.normal(0, shake_px, 2)
        shifted = cv2.warpAffine(image, np.array([[1, 0, -dx], [0, 1, -dy]]), (WIDTH, HEIGHT))
        lit = shifted * light(t) + rng.normal(0, 3, shifted.shape)
        frames.append(Frame(np.clip(lit, 0, 255).astype(np.uint8), round(t * 1e9), number, "composed"))
    return frames


def paste(image: Image, picture: Image, box: tuple[float, float, float, float], place: Place) -> None:
    """Blend a photograph over the picture so that its face is at a place; writes to ``image``."""
    x, y, w, h = box
    scale = place[2] / h
    left, top = place[0] + 40 - scale * (x + w / 2), place[1] + 40 - scale * (y + h / 2)
    matrix, size_wh = np.array([[scale, 0, left], [0, scale, top]]), (image.shape[1], image.shape[0])
    mask = np.zeros(picture.shape[:2], np.float32)
    cv2.ellipse(mask, (round(x + w / 2), round(y + h / 2)), (round(0.85 * w), round(0.8 * h)), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.05 * h)
    through = cv2.warpAffine(mask, matrix, size_wh, flags=cv2.INTER_LINEAR)[:, :, None]
    image += through * (cv2.warpAffine(picture, matrix, size_wh, flags=cv2.INTER_LINEAR) - image)


def scenes() -> Iterator[tuple[str, list[Frame]]]:
    """The composed scenes, with a name each."""
    for speed in (60, 150, 300, 600):
        pace = WIDTH / speed + 4
        ways = [
            crossing(0.37 + 0.71 * pace * i, speed=speed, y=140 + 170 * (i % 2), size=90, pause_s=2, back=i % 3 == 1)
            for i in range(5)
        ]
        yield f"entering at {speed} px/s", draw(ways, seconds=5 * pace, seed=speed)
    spans = [[(1.03 + 4.31 * k + 0.77 * i, 2.9 + 4.31 * k + 0.77 * i) for k in range(6)] for i in range(3)]
    ways = [standing(130 + 190 * i, 240, 100, spans=spans[i]) for i in range(3)]
    yield "there at once, gone at once", draw(ways, seconds=28, seed=1)
    ways = [standing(200, 240, 110), standing(440, 240, 110)]
    ways += [crossing(1.2 + 5.3 * i, speed=140, y=235, size=125, back=bool(i % 2)) for i in range(3)]
    yield "hidden by who walks past", draw(ways, seconds=24, seed=2)
    ways = [standing(60 + 104 * (i % 6), 110 + 120 * (i // 6), 62) for i in range(18)]
    yield "crowd of 18", draw(ways, seconds=12, seed=3)
    three = [standing(130, 200, 100), standing(320, 260, 110), standing(510, 220, 90)]
    walker = [crossing(2.3 + 6 * i, speed=200, y=120, size=80) for i in range(2)]
    steps = draw([*three, *walker], seconds=20, seed=4, light=lambda t: (1.0, 0.45, 0.8, 1.3)[int(t / 2.4) % 4])
    yield "light switched", steps
    yield "light flickers", draw(three, seconds=12, seed=5, light=lambda t: 1 + 0.25 * np.sin(23 * t))
    yield "camera shakes", draw([*three, *walker], seconds=16, seed=6, shake_px=5)
    yield "5 frames/s", draw([*three, *walker], seconds=20, fps=5, seed=7)
    yield "30 frames/s", draw([*three, *walker], seconds=20, fps=30, seed=8)


def percentiles(values: Sequence[float]) -> str:
    """50, 95 and 100 %, of nothing a dash."""
    return " · ".join(f"{value:.0f}" for value in np.percentile(values, (50, 95, 100))) if values else "–"


def row(name: str, frames: int, adaptive: Outcome, found: Difference, control: Difference) -> str:
    """One line of the table."""

    def kept(difference: Difference, kind: EventType) -> str:
        extra = f" +{difference.extra[kind]}" if difference.extra[kind] else ""
        return f"{difference.same(kind)}/{difference.told[kind]}{extra}"

    cells = [
        name,
        str(frames),
        f"{adaptive.runs / frames:.0%}",
        kept(found, APPEARED),
        kept(found, LEFT),
        percentiles(found.off_ms[APPEARED]),
        f"{kept(found, CHANGED)} ({kept(control, CHANGED)})",
        f"{found.agreement:.1%} ({control.agreement:.1%})",
    ]
    return f"| {' | '.join(cells)} |"


def total(differences: Sequence[Difference]) -> Difference:
    """The sum of some, agreement as a mean."""
    return Difference(
        told=sum((each.told for each in differences), Counter()),
        off_ms={kind: [off for each in differences for off in each.off_ms[kind]] for kind in EventType},
        missing=sum((each.missing for each in differences), Counter()),
        extra=sum((each.extra for each in differences), Counter()),
        agreement=float(np.mean([each.agreement for each in differences])),
    )


def draw_plot(path: Path, runs: dict[str, float], delays: Sequence[float]) -> None:
    """Draw the share of runs of every source, and how late faces appeared."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.barh(list(runs)[::-1], [100 * share for share in runs.values()][::-1], color="#4477aa")
    left.set(xlabel="frames with a detector run, %", xlim=(0, 100))
    ordered = np.sort(delays)
    right.step([0, *ordered], np.linspace(0, 100, len(ordered) + 1), where="post", color="#4477aa")
    right.axvline(REST_MS, color="#aa3377", linestyle="--", label="max_rest_ms")
    right.set(xlabel="face_appeared later than with every frame, ms", ylabel="of the events, %", ylim=(0, 101))
    right.legend()
    figure.savefig(path)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument("--seconds", type=int, default=30, help="of the demo")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    real = [(clip.name, read_frames(str(clip))) for clip in options.clips]
    real.append(("demo", read_frames("demo", count=15 * options.seconds)))
    print("| frames of | number | detector runs | face_appeared | face_left | later, ms | changes (control) | shown |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    found, controls, runs = [], [], {}
    counts = Counter[str]()
    for name, frames in itertools.chain(real, scenes()):
        every, adaptive = run(frames, "every_frame"), run(frames, "adaptive")
        found.append(compare(every, adaptive))
        controls.append(compare(every, run(frames, "every_frame", noise=1)))
        runs[name] = adaptive.runs / len(frames)
        counts.update(frames=len(frames), runs=adaptive.runs)
        print(row(name, len(frames), adaptive, found[-1], controls[-1]), flush=True)
        if len(found) == len(real):
            print(row("**clips and demo**", counts["frames"], Outcome(counts["runs"]), total(found), total(controls)))
    print(row("**all**", counts["frames"], Outcome(counts["runs"]), total(found), total(controls)))
    if options.plot:
        draw_plot(options.plot, runs, total(found).off_ms[APPEARED])


if __name__ == "__main__":
    main()
