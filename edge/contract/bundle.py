"""A model bundle on disk: ``manifest.json``, the model file and ``golden.npz`` in one folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from edge.contract.golden import Golden, decode_golden
from edge.contract.manifest import AnyManifest, DetectManifest, EmotionManifest, decode_manifest
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


def load_bundle(path: Path) -> Bundle[AnyManifest]:
    """Reads and verifies a bundle; the model itself is not run.

    Args:
        path: the bundle's folder.

    Raises:
        BundleError: anything missing, unknown, damaged or contradictory; the message names file and key.
    """
    manifest_path = path / MANIFEST_FILE
    manifest = decode_manifest(_read(manifest_path), file=manifest_path)
    model = _read_hashed(path / manifest.model.file, manifest.model.sha256)
    compiled = manifest.edgetpu_model
    edgetpu_model = _read_hashed(path / compiled.file, compiled.sha256) if compiled else None
    golden_path = path / manifest.golden.file
    golden = decode_golden(_read_hashed(golden_path, manifest.golden.sha256), file=golden_path)
    if len(golden.inputs) != manifest.golden.count:
        raise BundleError(golden_path, f"{len(golden.inputs)} samples, the manifest says {manifest.golden.count}")
    if golden.inputs.shape[1:] != manifest.input.shape[1:]:
        raise BundleError(
            golden_path, f"samples of {golden.inputs.shape[1:]}, the model takes {manifest.input.shape[1:]}"
        )
    shapes = [output.shape[1:] for output in golden.outputs]
    if shapes != [output.shape[1:] for output in manifest.outputs]:
        raise BundleError(golden_path, f"outputs of {shapes} do not fit the manifest's outputs")
    return Bundle(path, manifest, model, edgetpu_model, golden)


def load_emotion_bundle(path: Path) -> Bundle[EmotionManifest]:
    """`load_bundle` for a bundle that must be an emotion model.

    Raises:
        BundleError: as `load_bundle`.
        WrongTaskError: another task.
    """
    return _expect(load_bundle(path), EmotionManifest, "emotion")


def load_detect_bundle(path: Path) -> Bundle[DetectManifest]:
    """`load_bundle` for a bundle that must be a face detector.

    Raises:
        BundleError: as `load_bundle`.
        WrongTaskError: another task.
    """
    return _expect(load_bundle(path), DetectManifest, "detect")


def _expect(bundle: Bundle[AnyManifest], kind: type[M], task: str) -> Bundle[M]:
    if not isinstance(bundle.manifest, kind):
        raise WrongTaskError(bundle.path / MANIFEST_FILE, f"task: not {task!r}")
    return Bundle(bundle.path, bundle.manifest, bundle.model, bundle.edgetpu_model, bundle.golden)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(path, error.strerror or str(error)) from None


def _read_hashed(path: Path, sha256: str) -> bytes:
    raw = _read(path)
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise BundleError(path, f"sha256: {found[:12]}…, the manifest says {sha256[:12]}…")
    return raw
