"""A model bundle on disk: ``manifest.json``, the model file and ``golden.npz`` in one folder."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from edge.contract.golden import Golden, decode_golden
from edge.contract.manifest import NAME_PATTERN, AnyManifest, DetectManifest, EmotionManifest, decode_manifest
from edge.errors import BundleError, WrongTaskError

MANIFEST_FILE = "manifest.json"
MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
"""The bundles that ship with Mien."""


SYSTEM_STORE = Path("/var/lib/mien/bundles")


def store_dirs() -> list[Path]:
    """Where installed bundles are, the first one being where new ones go.

    ``$MIEN_BUNDLES`` alone where it is set; else the machine's, which root writes and services read; before it, for
    somebody who is neither, the user's own.
    """
    if os.environ.get("MIEN_BUNDLES"):
        return [Path(os.environ["MIEN_BUNDLES"])]
    if os.geteuid() == 0 or os.environ.get("STATE_DIRECTORY"):
        return [SYSTEM_STORE]
    own = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "mien" / "bundles"
    return [own, SYSTEM_STORE]


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


def find_bundle(name_or_path: str) -> Path:
    """The folder of a bundle: a path as it is, else the newest installed one of a name, else the one that ships.

    Args:
        name_or_path: ``folder/bundle``, ``name``, or ``name@version``.

    Raises:
        BundleError: neither a folder nor a known name; the message lists the shipped ones.
    """
    path = Path(name_or_path).expanduser()
    if _exists(path / MANIFEST_FILE):
        return path
    for folder in [*installed_bundles(name_or_path), *_shipped(name_or_path)]:
        return folder
    if _exists(path):
        raise BundleError(path / MANIFEST_FILE, "no such file: the folder is not a bundle")
    raise BundleError(
        name_or_path, f"no such bundle; shipped are {', '.join(shipped_bundles()) or 'none'}, or give a folder"
    )


def installed_bundles(name: str) -> list[Path]:
    """Folders of the installed bundles of a name, the newest first; they may be damaged.

    Args:
        name: ``name`` or ``name@version``.
    """
    plain, _, version = name.partition("@")
    if not re.fullmatch(NAME_PATTERN, plain):
        return []
    folders = [folder for store in store_dirs() for folder in _numbered(store / plain)]
    return [folder for folder in folders if not version or folder.name.partition("-")[2] == version]


def candidate_bundles(name_or_path: str, *, fallback: str) -> list[Path]:
    """Every folder that may stand in for a bundle, the best first.

    The bundle itself; the ones of its name that were installed before; the one of its name that ships; and in the end
    the shipped ``fallback``.

    Args:
        name_or_path: as `find_bundle` takes it.
        fallback: name of a shipped bundle.

    Raises:
        BundleError: there is nothing of that name at all.
    """
    path = Path(name_or_path).expanduser()
    if "/" in name_or_path and _exists(path):
        own = [path]
    else:
        first = find_bundle(name_or_path)
        plain = name_or_path.partition("@")[0]
        own = [first, *installed_bundles(name_or_path), *installed_bundles(plain), *_shipped(plain)]
    return list(dict.fromkeys([*own, MODELS_DIR / fallback]))


def is_shipped(folder: Path) -> bool:
    """Whether a bundle came with the program itself."""
    return folder.parent == MODELS_DIR


def _shipped(name: str) -> list[Path]:
    plain, _, version = name.partition("@")
    folder = MODELS_DIR / plain
    if "/" in plain or not (folder / MANIFEST_FILE).is_file():
        return []
    if not version:
        return [folder]
    try:
        manifest = decode_manifest(_read(folder / MANIFEST_FILE), file=folder / MANIFEST_FILE)
    except BundleError:
        return []
    return [folder] if manifest.version == version else []


def _numbered(folder: Path) -> list[Path]:
    """``0002-1.1.0`` before ``0001-1.0.0``; what an interrupted installation left has other names.

    A folder that may not be read stands for what is in it: reading that as a bundle says why it cannot be used.
    """
    try:
        found = [(int(entry.name.partition("-")[0]), entry) for entry in folder.iterdir() if _is_numbered(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return [folder]
    return [entry for _, entry in sorted(found, reverse=True)]


def _is_numbered(name: str) -> bool:
    return re.match(r"\d+-", name) is not None


def _exists(path: Path) -> bool:
    """Whether there is something of this name, readable or not."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def shipped_bundles() -> list[str]:
    """Names of the bundles that ship with Mien, sorted."""
    return sorted(path.parent.name for path in MODELS_DIR.glob(f"*/{MANIFEST_FILE}"))


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
