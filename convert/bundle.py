"""Writes model bundles: the only place that does."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from edge.contract.bundle import MANIFEST_FILE, load_bundle
from edge.contract.golden import Golden, encode_golden
from edge.contract.manifest import AnyManifest, GoldenSpec, ModelFile, encode_manifest
from edge.errors import BundleError

MODEL_FILE = "model.tflite"
GOLDEN_FILE = "golden.npz"


def describe_model(model: bytes, *, file: str = MODEL_FILE) -> ModelFile:
    """The manifest's entry of a TFLite file."""
    return ModelFile(file=file, sha256=hashlib.sha256(model).hexdigest(), bytes=len(model))


def describe_golden(golden: Golden, *, max_steps_xnnpack: int, max_steps_other: int) -> GoldenSpec:
    """The manifest's entry of golden samples, as `write_bundle` will write them."""
    return GoldenSpec(
        file=GOLDEN_FILE,
        sha256=hashlib.sha256(encode_golden(golden)).hexdigest(),
        count=len(golden.inputs),
        max_steps_xnnpack=max_steps_xnnpack,
        max_steps_other=max_steps_other,
    )


def write_bundle(folder: Path, *, manifest: AnyManifest, model: bytes, golden: Golden) -> None:
    """Writes a bundle beside its place, verifies it and renames it there.

    Args:
        folder: the bundle's folder; an existing bundle is replaced, anything else is left alone.
        manifest: its ``model`` and ``golden`` as `describe_model` and `describe_golden` give them.
        model: the TFLite file.
        golden: the samples.

    Raises:
        BundleError: the parts do not fit together, or the folder holds something else.
    """
    if folder.exists() and not (folder / MANIFEST_FILE).is_file():
        raise BundleError(folder, "exists and is not a bundle; it is not overwritten")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = {MODEL_FILE: model, GOLDEN_FILE: encode_golden(golden), MANIFEST_FILE: encode_manifest(manifest)}
    for name, data in files.items():
        with (partial / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    load_bundle(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
