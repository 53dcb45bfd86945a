"""The child of `mien doctor`: loads the models or takes a frame, and says how it went in one line."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge.capture import is_camera, open_source
from edge.commands.doctor.content import Picture, doubt_pictures
from edge.commands.doctor.findings import LOAD_LIBRARY, Subject
from edge.config.loader import load_config
from edge.config.schema import Config
from edge.errors import MienError, config_context
from edge.infer.delegates import without_own_library
from edge.pipeline.build import build_pipeline
from edge.records import Frame


def try_models(subject: Subject) -> str:
    """Load what the daemon would load.

    Returns:
        JSON: ``found``, what runs where; ``models`` and ``delegate``, why they are not those that were asked for;
        ``left_out``, a library that was not loaded.

    Raises:
        MienError: a model that cannot be used.
    """
    config, left_out = subject.config, None
    if not subject.loads_library:
        config, left_out = without_own_library(config)
    built = build_pipeline(config, frame_wh=config.camera.frame_wh)
    emotion, detector = built.emotion.model, built.detector_bundle
    nodes = f"{emotion.interpreter.delegated_nodes} of {emotion.interpreter.total_nodes} nodes"
    found = f"{built.emotion.manifest.full_name} on {emotion.interpreter.delegate} ({nodes}), {emotion.parity}"
    if detector is not None:
        found += f"; {detector.manifest.full_name}"
    built.pipeline.close()
    reasons = [bundle.reason for bundle in built.bundles if bundle.reason]
    return json.dumps({"found": found, "models": reasons, "delegate": built.delegate_reason, "left_out": left_out})


FRAMES_MAX: Final = 5
LOOK_S: Final = 2.0
"""For so many frames at most: the first of a camera are often dark."""


def try_camera(subject: Subject) -> str:
    """Open the source, take a few frames and look at them.

    Returns:
        JSON: ``found``, what it delivers; ``doubt``, why that is no picture to work with, or null.

    Raises:
        MienError: no source, or no frame.
    """
    camera = subject.config.camera
    if "password_file" in camera.options:
        name = str(camera.options["password_file"])
        path = subject.secret_path(name, credential="camera-password", suffix="camera-password")
        camera = msgspec.structs.replace(camera, options={**camera.options, "password_file": path})
    with closing(open_source(camera, clock=time.monotonic_ns, paced=False)) as source:
        begin_s, frames = time.monotonic(), []
        for frame in islice(iter(source.read, None), FRAMES_MAX):
            frames.append(frame)
            if time.monotonic() - begin_s > LOOK_S:
                break
    if not frames:
        return json.dumps({"found": "opens, and ends without a frame", "doubt": "there is no picture in it"})
    size_wh = frames[-1].size_wh
    config, _ = without_own_library(subject.config)
    built = build_pipeline(config, frame_wh=size_wh)
    with closing(built.pipeline):

        def find(picture: Picture) -> list[float]:
            faces = built.detector.detect(Frame(np.ascontiguousarray(picture), 0, 0, "doctor"))
            return [float(score) for score in faces.scores]

        pictures = [frame.image for frame in frames]
        doubt = doubt_pictures(pictures, is_live=is_camera(camera), find=find)
    return json.dumps({"found": "delivers {}x{} pixels".format(*size_wh), "doubt": doubt})


def main() -> None:
    """``python -m edge.commands.doctor.trial models|camera [--load-library] [FILE]``."""
    logging.disable(logging.CRITICAL)
    what, *rest = sys.argv[1:]
    files = [argument for argument in rest if argument != LOAD_LIBRARY]
    try:
        file = Path(files[0]) if files else None
        subject = Subject(load_config(file) if file else Config(), file, LOAD_LIBRARY in rest)
        with config_context(file or ""):
            print({"models": try_models, "camera": try_camera}[what](subject), flush=True)
    except MienError as error:
        sys.exit(" ".join(str(error).split()))
    os._exit(0)  # a driver that does not let go must not keep us


if __name__ == "__main__":
    main()
