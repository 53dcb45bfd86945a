"""Every row of the tables of sources and detectors keeps the contract; a new row is tested by being there."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from tools import ROOT

from edge.capture import SOURCES, check_source, is_camera, open_source, parse_source
from edge.config.loader import make_config
from edge.config.schema import Section
from edge.detect import BUNDLED, DETECTORS, open_detector
from edge.errors import ConfigError, config_context
from edge.registry import load_entry

CAMERAS = {"v4l2", "network", "picamera2", "gstreamer"}
"""Kinds that need hardware, a server or a program."""


def write_target(kind: str, folder: Path) -> str:
    """What a source of a kind reads, where it can be made here."""
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    if kind == "pictures":
        assert cv2.imwrite(str(folder / "a.png"), picture)
        return str(folder)
    if kind == "video":
        writer = cv2.VideoWriter(str(folder / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 64))
        for _ in range(3):
            writer.write(picture)
        writer.release()
        return str(folder / "a.avi")
    return ""


def configure(source: str, **options: Any) -> Any:
    return make_config({"camera": {"source": source, "options": options}}).camera


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_is_written_with_its_kind_in_front(kind: str) -> None:
    spec = parse_source(f"{kind}:target", kinds=SOURCES)
    assert (spec.kind, spec.target, spec.name) == (kind, "target", f"{kind}:target")


@pytest.mark.parametrize("kind", SOURCES)
def test_the_options_of_a_source_are_typed_described_and_optional(kind: str) -> None:
    options: type[Section] = importlib.import_module(SOURCES[kind].partition(":")[0]).Options
    assert issubclass(options, Section)
    options()
    for field in msgspec.structs.fields(options):
        assert msgspec.json.schema(field.type).get("description"), f"{kind}: {field.name} has no description"


@pytest.mark.parametrize("kind", SOURCES)
def test_an_unknown_option_of_a_source_is_refused_with_those_that_there_are(kind: str) -> None:
    options = importlib.import_module(SOURCES[kind].partition(":")[0]).Options
    there = ", ".join(field.encode_name for field in msgspec.structs.fields(options))
    with pytest.raises(ConfigError) as caught, config_context("mien.toml"):
        check_source(configure(f"{kind}:target", no_such=1))
    assert str(caught.value) == f"mien.toml: camera.options.no_such: unknown key; there are {there}"


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_says_whether_it_may_come_back(kind: str) -> None:
    assert is_camera(configure(f"{kind}:target")) is (kind in CAMERAS)


@pytest.mark.parametrize("kind", sorted(set(SOURCES) - CAMERAS))
def test_a_source_delivers_frames_ends_and_closes_twice(kind: str, tmp_path: Path) -> None:
    source = open_source(configure(f"{kind}:{write_target(kind, tmp_path)}"), clock=lambda: 5, paced=False)
    assert (source.live, source.reopens, source.identity) == (False, False, None)
    frame = source.read()
    assert frame is not None
    assert (frame.image.ndim, frame.image.shape[2], frame.image.dtype, frame.number) == (3, 3, np.uint8, 0)
    source.close()
    source.close()
    assert source.read() is None


@pytest.mark.parametrize("kind", SOURCES)
def test_the_readme_names_every_source(kind: str) -> None:
    words = {"v4l2": "/dev/v4l", "network": "rtsp://", "pictures": "folder of pictures", "gstreamer": "gstreamer:"}
    assert words.get(kind, kind) in (ROOT / "edge" / "README.md").read_text()


@pytest.mark.parametrize("key", DETECTORS)
def test_a_detector_can_be_loaded_and_refuses_an_unknown_option(key: str) -> None:
    assert callable(load_entry(DETECTORS, key, what="detector"))
    config = make_config({"detect": {"detector": key, "options": {"no_such": 1}}}).detect
    with pytest.raises(ConfigError) as caught, config_context("mien.toml"):
        open_detector(config, score=0.5, manifest=None, network=None)
    assert str(caught.value).startswith("mien.toml: detect.options.no_such: unknown key; ")


def test_bundled_detectors_are_rows_of_the_table() -> None:
    assert set(DETECTORS) >= BUNDLED
