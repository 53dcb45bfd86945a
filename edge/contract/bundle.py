"""A model bundle on disk: ``manifest.json``, the model file and ``golden.npz`` in one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from edge.contract.files import GOLDEN_MAX_BYTES, MANIFEST_MAX_BYTES, MODEL_MAX_BYTES, read_regular
from edge.contract.golden import Golden, decode_golden
from edge.contract.manifest import AnyManifest, DetectManifest, EmotionManifest, ModelFile, decode_manifest
from edge.errors import BundleError, WrongTaskError

MANIFEST_FILE = "manifest.json"
M = TypeVar("M", bound=AnyManifest, covariant=True)


@dataclass(frozen=True)
class Bundle(Generic[M]):
    """A bundle whose files are there, hash to what the manifest says and fit together.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        model: the bytes of the TFLite file.
        edgetpu_model: the bytes of the file compiled for an Edge TPU, where there is one.
        golden: its golden samples; they are replayed by `edge.infer` on the delegate in use.
    """

    path: Path
    manifest: M
    model: bytes
    edgetpu_model: bytes | None
    golden: Golden


Check = Callable[[AnyManifest, bytes], None]
"""Takes a manifest and its bytes as they lie on the disk; raises `BundleError` to refuse the bundle."""


def load_bundle(path: Path, *, check: Check | None = None) -> Bundle[AnyManifest]:
    """Reads and verifies a bundle; the model itself is not run.

    Args:
        path: the bundle's folder.
        check: asked before any other file is opened: a signature comes before what it vouches for.

    Raises:
        BundleError: anything missing, unknown, damaged or contradictory; the message names file and key.
    """
    manifest_path = path / MANIFEST_FILE
    raw = read_regular(manifest_path, max_bytes=MANIFEST_MAX_BYTES)
    manifest = decode_manifest(raw, file=manifest_path)
    if check is not None:
        check(manifest, raw)
    model = _read_model(path, manifest.model)
    compiled = manifest.edgetpu_model
    edgetpu_model = _read_model(path, compiled) if compiled else None
    golden_path = path / manifest.golden.file
    packed = _read_hashed(golden_path, manifest.golden.sha256, max_bytes=GOLDEN_MAX_BYTES)
    golden = decode_golden(packed, file=golden_path, outputs=len(manifest.outputs))
    if len(golden.inputs) != manifest.golden.count:
        raise BundleError(golden_path, f"{len(golden.inputs)} samples, the manifest says {manifest.golden.count}")
    if golden.inputs.shape[1:] != manifest.input.shape[1:]:
        raise BundleError(
            golden_path, f"samples of {golden.inputs.shape[1:]}, the model takes {manifest.input.shape[1:]}"
        )
    found = [(output.shape[1:], output.dtype.name) for output in golden.outputs]
    if found != [(output.shape[1:], output.dtype) for output in manifest.outputs]:
        raise BundleError(golden_path, f"outputs of {found} do not fit the manifest's outputs")
    return Bundle(path, manifest, model, edgetpu_model, golden)


def load_emotion_bundle(path: Path, *, check: Check | None = None) -> Bundle[EmotionManifest]:
    """`load_bundle` for a bundle that must be an emotion model.

    Raises:
        BundleError: as `load_bundle`.
        WrongTaskError: another task.
    """
    return _expect(load_bundle(path, check=check), EmotionManifest, "emotion")


def load_detect_bundle(path: Path, *, check: Check | None = None) -> Bundle[DetectManifest]:
    """`load_bundle` for a bundle that must be a face detector.

    Raises:
        BundleError: as `load_bundle`.
        WrongTaskError: another task.
    """
    return _expect(load_bundle(path, check=check), DetectManifest, "detect")


def _expect(bundle: Bundle[AnyManifest], kind: type[M], task: str) -> Bundle[M]:
    if not isinstance(bundle.manifest, kind):
        raise WrongTaskError(bundle.path / MANIFEST_FILE, f"task: not {task!r}")
    return Bundle(bundle.path, bundle.manifest, bundle.model, bundle.edgetpu_model, bundle.golden)


def expect_manifest(path: Path, expected: AnyManifest) -> Check:
    """Return a check that the bundle in a folder is still the one that was verified: its manifest holds every hash."""

    def check(found: AnyManifest, _: bytes) -> None:
        if found != expected:
            raise BundleError(path / MANIFEST_FILE, "changed since it was verified at the start")

    return check


def _read_model(folder: Path, model: ModelFile) -> bytes:
    return _read_hashed(folder / model.file, model.sha256, max_bytes=MODEL_MAX_BYTES)


def _read_hashed(path: Path, sha256: str, *, max_bytes: int) -> bytes:
    raw = read_regular(path, max_bytes=max_bytes)
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise BundleError(path, f"sha256: {found[:12]}…, the manifest says {sha256[:12]}…")
    return raw
