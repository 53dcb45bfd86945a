"""The child of `mien doctor`: loads the models or takes a frame, and says how it went in one line."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec

from edge.capture import open_source
from edge.commands.doctor.findings import LOAD_LIBRARY, Subject
from edge.config.loader import load_config
from edge.config.schema import Config
from edge.errors import MienError, config_context
from edge.infer.delegates import without_own_library
from edge.pipeline.build import build_pipeline


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
        emotion_config, left_out = without_own_library(config.emotion)
        config = msgspec.structs.replace(config, emotion=emotion_config)
    built = build_pipeline(config, frame_wh=config.camera.frame_wh)
    emotion, detector = built.emotion.model, built.detector_bundle
    nodes = f"{emotion.interpreter.delegated_nodes} of {emotion.interpreter.total_nodes} nodes"
    found = f"{built.emotion.manifest.full_name} on {emotion.interpreter.delegate} ({nodes}), {emotion.parity}"
    if detector is not None:
        found += f"; {detector.manifest.full_name}"
    built.pipeline.close()
    reasons = [bundle.reason for bundle in built.bundles if bundle.reason]
    return json.dumps({"found": found, "models": reasons, "delegate": built.delegate_reason, "left_out": left_out})


def try_camera(subject: Subject) -> str:
    """Open the source and take a frame.

    Raises:
        MienError: no source, or no frame.
    """
    camera = subject.config.camera
    if "password_file" in camera.options:
        name = str(camera.options["password_file"])
        path = subject.secret_path(name, credential="camera-password", suffix="camera-password")
        camera = msgspec.structs.replace(camera, options={**camera.options, "password_file": path})
    with closing(open_source(camera, clock=time.monotonic_ns, paced=False)) as source:
        frame = source.read()
    return "opens, and ends without a frame" if frame is None else "delivers {}x{} pixels".format(*frame.size_wh)


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
