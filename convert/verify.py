"""Verification of a bundle of any task."""

from __future__ import annotations

from pathlib import Path

from convert.classifier.api import Result, verify_classifier
from convert.classifier.options import VerifyOptions
from convert.console import Note, ignore_note
from convert.datasets import read_datasets
from convert.evaluation.detection import read_boxes
from convert.yunet.api import DetectorResult, verify_detector
from edge.contract.bundle import load_bundle, load_detect_bundle, load_emotion_bundle
from edge.contract.manifest import DetectManifest
from edge.errors import UsageError


def verify_bundle(
    folder: Path, reference: Path, data: tuple[str, ...], options: VerifyOptions, *, note: Note = ignore_note
) -> Result | DetectorResult:
    """Compare a bundle with the float model that it was made of, through the code that runs on the device.

    Args:
        folder: the bundle.
        reference: the float model's file; for a detector YuNet's ONNX file.
        data: labelled faces as `convert.datasets.spec` has them; for a detector one folder of pictures with boxes.
        options: how the float model is read, and what may be lost.
        note: called with a line at each step.

    Raises:
        MienError: anything that does not fit or cannot be done.
    """
    note("reading bundle, model and data")
    manifest = load_bundle(folder).manifest
    if not isinstance(manifest, DetectManifest):
        return verify_classifier(load_emotion_bundle(folder), reference, read_datasets(data), options, note=note)
    if options.arithmetic is not None:
        raise UsageError(f"--scale: {manifest.name} is a face detector; --scale is for emotion models")
    if len(data) != 1:
        raise UsageError(f"--data: {len(data)} of them; a detector takes one folder of pictures with boxes")
    return verify_detector(
        load_detect_bundle(folder), reference, read_boxes(Path(data[0])), max_drop=options.limits.max_drop,
        notes=options.notes, note=note,
    )  # fmt: skip
