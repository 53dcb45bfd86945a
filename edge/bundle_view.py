"""`mien bundle`: what a bundle says, whether it runs here, and putting a new one in place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge.contract.bundle import find_bundle, installed_dir, load_bundle
from edge.contract.manifest import AnyManifest, EmotionManifest
from edge.errors import BundleError
from edge.infer import load_model


def show_bundle(name_or_path: str, *, console: Console) -> None:
    """Prints a bundle's manifest as a table.

    Raises:
        BundleError: no such bundle, or it does not verify.
    """
    bundle = load_bundle(find_bundle(name_or_path))
    table = Table(title=bundle.manifest.full_name, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for key, value in _rows(bundle.manifest):
        table.add_row(key, value)
    console.print(table)


def verify_bundle(name_or_path: str, *, console: Console) -> None:
    """Checks hashes and manifest, runs the golden samples on the CPU and says by how much they differ.

    Raises:
        BundleError: anything that does not verify.
    """
    bundle = load_bundle(find_bundle(name_or_path))
    loaded = load_model(bundle)
    interpreter = loaded.interpreter
    nodes = f"{interpreter.delegated_nodes} of {interpreter.total_nodes} nodes on {interpreter.delegate}"
    interpreter.close()
    console.print(f"{bundle.manifest.full_name}: verified; {loaded.parity}; {nodes}")


def install_bundle(path: Path, *, into: Path | None, console: Console) -> None:
    """Verifies a bundle, copies it beside the installed ones and switches to it by renaming one link.

    Args:
        path: the bundle's folder.
        into: folder of installed bundles; None for this user's, or the system's when root.
        console: told what was done.

    Raises:
        BundleError: the bundle does not verify, or cannot be written.
    """
    bundle = load_bundle(find_bundle(str(path)))
    load_model(bundle).interpreter.close()
    folder = into or installed_dir()
    name, full_name = bundle.manifest.name, bundle.manifest.full_name
    target, link, partial = folder / full_name, folder / name, folder / f".{full_name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(bundle.path, partial)
        _sync(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        new_link = folder / f".{name}.link"
        new_link.unlink(missing_ok=True)
        new_link.symlink_to(full_name)
        new_link.replace(link)
    except OSError as error:
        raise BundleError(folder, error.strerror or str(error)) from None
    console.print(f"{full_name}: installed into {folder}")


def _sync(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _rows(manifest: AnyManifest) -> list[tuple[str, str]]:
    shape = "×".join(map(str, manifest.input.shape[1:]))
    trained = ", ".join(f"{use.name} ({use.count:,})" for use in manifest.trained_from.datasets)
    calibration = manifest.quantization.calibration
    rows = [
        ("task", "emotion" if isinstance(manifest, EmotionManifest) else "detect"),
        ("status", manifest.status),
        ("model", f"{manifest.model.bytes:,} bytes, sha256 {manifest.model.sha256[:16]}…"),
        ("input", f"{shape} {manifest.input.dtype} {manifest.input.colour}"),
        ("quantization", f"{manifest.quantization.scheme}, {manifest.quantization.recipe}"),
        ("calibrated on", f"{calibration.count} of {calibration.source}" if calibration else "nothing"),
        ("trained on", trained or "unknown"),
    ]
    if isinstance(manifest, EmotionManifest):
        crop = manifest.crop
        rows += [
            ("labels", ", ".join(manifest.labels)),
            ("crop", f"{crop.geometry}/{crop.version}, {crop.margin:g} × box height, {crop.size_px} px"),
            ("temperature", f"{manifest.temperature:.3f}"),
        ]
    for metric in manifest.metrics:
        figures = f"float {metric.float32:.4f}, quantized {metric.quantized:.4f}"
        rows.append((metric.name, f"{figures} on {metric.dataset} (n = {metric.n:,})"))
    return [*rows, ("licence", manifest.licence), *(("notice", notice) for notice in manifest.notices)]
