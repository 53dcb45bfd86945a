"""Writes model bundles: the only place that does."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge.contract.bundle import MANIFEST_FILE, Bundle, load_bundle
from edge.contract.golden import Golden, encode_golden
from edge.contract.manifest import GoldenSpec, ModelFile
from edge.errors import BundleError, ConversionError, UsageError
from edge.system.files import encode_json, sync_folder, write_synced

MODEL_FILE: Final = "model.tflite"
EDGETPU_FILE: Final = "model_edgetpu.tflite"
GOLDEN_FILE: Final = "golden.npz"
REPORT_FILE: Final = "report.json"
CARD_FILE: Final = "MODEL_CARD.md"


def describe_model(model: bytes, *, file: str = MODEL_FILE) -> ModelFile:
    """Return the manifest's entry of a TFLite file."""
    return ModelFile(file=file, sha256=hashlib.sha256(model).hexdigest(), bytes=len(model))


def describe_golden(golden: Golden, *, max_steps_xnnpack: int, max_steps_other: int) -> GoldenSpec:
    """Return the manifest's entry of golden samples, as `write_bundle` will write them."""
    return GoldenSpec(
        file=GOLDEN_FILE,
        sha256=hashlib.sha256(encode_golden(golden)).hexdigest(),
        count=len(golden.inputs),
        max_steps_xnnpack=max_steps_xnnpack,
        max_steps_other=max_steps_other,
    )


def check_free(folder: Path, *, force: bool) -> None:
    """Refuse a place that a bundle may not take; called before any work is done for it.

    Args:
        folder: where the bundle shall lie.
        force: an existing bundle may be replaced.

    Raises:
        UsageError: the place is taken by a bundle and ``force`` is not given, or by something else.
        ConversionError: nothing can be written there.
    """
    if not folder.exists():
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            problem = "cannot be written into" if above.is_dir() else "is no folder"
            raise ConversionError(f"{folder}: {above} {problem}; nothing was begun")
        return
    if not (folder / MANIFEST_FILE).is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            return
        raise UsageError(f"{folder}: exists and is not a bundle; it is never overwritten")
    if not force:
        raise UsageError(f"{folder}: a bundle is there already; --force replaces it")


def write_bundle(
    folder: Path, bundle: Bundle[Any], *, documents: Mapping[str, bytes] | None = None, force: bool = False
) -> None:
    """Write a bundle beside its place, verify it there and rename it.

    The same arguments give the same bytes. A reader sees the old bundle or the new one, never a part of either.

    Args:
        folder: the bundle's folder.
        bundle: its manifest's entries of files as `describe_model` and `describe_golden` give them.
        documents: what lies beside without being part of the contract: `CARD_FILE`, `REPORT_FILE`.
        force: replace an existing bundle.

    Raises:
        UsageError: see `check_free`.
        BundleError: the parts do not fit together.
        ConversionError: the files cannot be written.
    """
    check_free(folder, force=force)
    files = {
        MODEL_FILE: bundle.model,
        EDGETPU_FILE: bundle.edgetpu_model,
        GOLDEN_FILE: encode_golden(bundle.golden),
        MANIFEST_FILE: encode_json(bundle.manifest),
        **(documents or {}),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ConversionError(f"{folder}: {error.strerror or error}") from None
    try:
        partial.chmod(0o755)
        for name, data in files.items():
            if data is not None:
                write_synced(partial / name, data)
        _verify(partial, folder)
        sync_folder(partial)
        _swap(partial, folder)
    except OSError as error:
        reason = "no space left for it" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise ConversionError(f"{folder}: {reason}; nothing was written") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _verify(partial: Path, folder: Path) -> None:
    """Load what is on the disk; an error names the place that the bundle would have had."""
    try:
        load_bundle(partial)
    except BundleError as error:
        raise BundleError(folder / Path(error.file).name, error.problem) from None


def _swap(partial: Path, folder: Path) -> None:
    """Put the new folder in the old one's place; the old one is gone only when the new one stands."""
    retired = partial.with_name(f"{partial.name}.old")
    if folder.exists():
        folder.rename(retired)
    try:
        partial.rename(folder)
    except OSError:
        if retired.exists():
            retired.rename(folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(retired, ignore_errors=True)
