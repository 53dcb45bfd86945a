"""A hundred real faces in one frame: every stage holds, the bound is kept and told."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from brokers import Mosquitto, Subscriber, wait_until
from clips import free_faces
from daemons import decoded, ended, toml_for

from edge.config.loader import make_config
from edge.pipeline.build import build_pipeline
from edge.pipeline.step import Pipeline
from edge.records import Frame

Start = Callable[..., subprocess.Popen[str]]

COUNT, SIZE_WH = 100, (1280, 960)


def crowd() -> npt.NDArray[np.uint8]:
    """The demo's portraits, ten rows of ten."""
    columns, tile_wh = 10, (SIZE_WH[0] // 10, SIZE_WH[1] // 10)
    frame = np.full((SIZE_WH[1], SIZE_WH[0], 3), 110, np.uint8)
    heads = [cv2.imread(str(picture)) for picture in free_faces()]
    for index in range(COUNT):
        head = heads[index % len(heads)]
        scale = min(tile_wh[0] / head.shape[1], tile_wh[1] / head.shape[0])
        tile = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = index // columns * tile_wh[1], index % columns * tile_wh[0]
        frame[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return frame


@pytest.fixture
def make_pipeline() -> Iterator[Callable[[int], Pipeline]]:
    pipelines: list[Pipeline] = []

    def make(max_faces: int) -> Pipeline:
        config = make_config({"detect": {"max_faces": max_faces}, "track": {"confirm_ms": 0}})
        pipelines.append(build_pipeline(config, frame_wh=SIZE_WH, seed=1).pipeline)
        return pipelines[-1]

    yield make
    for pipeline in pipelines:
        pipeline.close()


@pytest.mark.parametrize("max_faces", [1, 32, 200])
def test_the_pipeline_follows_and_reads_every_face_up_to_the_bound(
    max_faces: int, make_pipeline: Callable[[int], Pipeline]
) -> None:
    pipeline, image, expected = make_pipeline(max_faces), crowd(), min(max_faces, COUNT)
    steps = [pipeline.step(Frame(image, (number + 1) * 66_000_000, number, "crowd")) for number in range(5)]
    last = steps[-1].faces
    tracks = [face.track.id for face in last]
    assert len(tracks) == len(set(tracks)) == expected
    assert {face.track.id for face in steps[0].faces} == set(tracks), "they stand still: no track changes"
    assert all(face.scores is not None for face in last)
    appeared = [event for step in steps for event in step.events if event.type.value == "face_appeared"]
    assert [event.seq for event in appeared] == sorted({event.seq for event in appeared})
    assert {event.face.track.id for event in appeared} == set(tracks)
    assert pipeline.metrics.counts["max_faces_hit"] == (
        sum(step.detected for step in steps) if max_faces < COUNT else 0
    )
    gone = pipeline.end_all("camera_lost", 10**9)
    assert {event.face.track.id for event in gone} == set(tracks)


@pytest.mark.broker
@pytest.mark.parametrize("max_faces", [32, 200])
def test_a_crowd_that_comes_and_goes_is_told_face_by_face_and_health_names_the_bound(
    max_faces: int,
    run: Start,
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[..., Subscriber],
    tmp_path: Path,
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "crowd.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, SIZE_WH)
    for number in range(40):
        writer.write(crowd() if number < 20 else np.full((SIZE_WH[1], SIZE_WH[0], 3), 110, np.uint8))
    writer.release()
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    extra = f"[detect]\nmax_faces = {max_faces}\n[publish]\nhealth_s = 1\nfaces_hz = 5\n"
    size = f"width = {SIZE_WH[0]}\nheight = {SIZE_WH[1]}\n"
    toml = toml_for(tmp_path / "crowd.avi", port=broker.port, extra=extra).replace(
        'name = "front"\n', f'name = "front"\n{size}'
    )
    child = run(toml)

    def told(kind: str) -> set[object]:
        events = decoded(subscriber.on("event") + subscriber.on("history"))
        return {event["track"] for event in events if event["type"] == kind}

    expected = min(max_faces, COUNT)
    wait_until(lambda: len(told("face_appeared")) >= expected, what=lambda: f"{len(told('face_appeared'))} faces")
    wait_until(lambda: len(told("face_left")) >= expected, what=lambda: f"{len(told('face_left'))} that left")
    subscriber.wait_for("health", count=2)
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0, errors
    subscriber.wait_for("availability", b"offline")
    rows = [row["faces"] for row in map(json.loads, subscriber.on("faces"))]
    assert max(sum(face["observed"] for face in row) for row in rows) == expected
    assert max(map(len, rows)) <= COUNT  # above the bound: a face just left out is followed for keep_ms
    hits = max(row["counts"].get("max_faces_hit", 0) for row in map(json.loads, subscriber.on("health")))
    assert (hits > 0) == (max_faces < COUNT)
    seqs = [event["seq"] for event in decoded(subscriber.on("event") + subscriber.on("history"))]
    assert sorted(seqs) == list(range(1, len(seqs) + 1)), "no event is lost or made twice"
