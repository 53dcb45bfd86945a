"""Bundles that are like the shipped one but for what a test spoils."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.bundles.locate import MODELS_DIR
from edge.contract.golden import Golden, decode_golden, encode_golden

NAME = "emotion-ferplus"
SHIPPED: str = json.loads((MODELS_DIR / NAME / "manifest.json").read_text())["version"]


def make_bundle(folder: Path, *, version: str = "9.0.1", name: str = NAME, **changes: Any) -> Path:
    """A copy of the shipped emotion model under another version, and whatever else its manifest is to say."""
    shutil.copytree(MODELS_DIR / NAME, folder)
    edit_manifest(folder, lambda manifest: manifest.update(version=version, name=name, **changes))
    return folder


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    edit(manifest)
    file.write_text(json.dumps(manifest))


def flip_byte(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    file.write_bytes(raw)


def change_golden(folder: Path) -> None:
    """Samples that the model does not reproduce, with the right hash: as if another model had been packed."""
    file = folder / "golden.npz"
    golden = decode_golden(file.read_bytes(), file=file)
    raw = encode_golden(Golden(golden.inputs, (golden.outputs[0][::-1].copy(),), golden.origins))
    file.write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    edit_manifest(folder, lambda manifest: manifest["golden"].update(sha256=digest))
