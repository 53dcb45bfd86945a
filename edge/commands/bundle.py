"""`mien bundle`: what a bundle says, whether it runs here, and putting a new one in place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge.bundles.locate import find_bundle, is_shipped
from edge.bundles.select import BundleRules, load_verified_model, rules_of
from edge.bundles.signing import SIGNATURE_FILE, make_key, sign_bundle
from edge.bundles.store import install_bundle as store_bundle
from edge.config.schema import Config
from edge.contract.bundle import load_bundle
from edge.contract.manifest import AnyManifest, EmotionManifest


def show_bundle(name_or_path: str, *, console: Console) -> None:
    """Print a bundle's manifest as a table.

    Raises:
        BundleError: no such bundle, or it does not verify.
    """
    bundle = load_bundle(find_bundle(name_or_path))
    table = Table(title=bundle.manifest.full_name, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for key, value in _rows(bundle.manifest):
        table.add_row(key, Text(_as_text(value)))
    console.print(table)


def verify_bundle(name_or_path: str, *, config: Config | None = None, console: Console) -> None:
    """Check hashes and manifest, run the golden samples on the CPU and say by how much they differ.

    Args:
        name_or_path: the bundle.
        config: whose trusted keys must have signed it, and whose gate it must pass; None asks for neither.
        console: told what was found.

    Raises:
        BundleError: anything that does not verify.
    """
    rules = rules_of(config) if config else BundleRules(allow_failed=True)
    folder = find_bundle(name_or_path)
    bundle = load_bundle(folder, check=rules.check(folder))
    loaded = load_verified_model(bundle, rules)
    interpreter = loaded.interpreter
    nodes = f"{interpreter.delegated_nodes} of {interpreter.total_nodes} nodes on {interpreter.delegate}"
    interpreter.close()
    signed = ", signed by a trusted key" if rules.trusted_keys and not is_shipped(bundle.path) else ""
    console.print(f"{bundle.manifest.full_name}: verified{signed}; {loaded.parity}; {nodes}")


def install_bundle(
    path: Path, *, config: Config | None = None, allow_failed: bool = False, into: Path | None = None, console: Console
) -> None:
    """Verify a bundle and put it into the store, as the one that services use from their next start on.

    Args:
        path: the bundle's folder.
        config: whose trusted keys must have signed it; None asks for no signature.
        allow_failed: it may have failed its accuracy gate.
        into: folder of installed bundles; None for the machine's when root, else this user's.
        console: told what was done.

    Raises:
        BundleError: the bundle does not verify, or cannot be written.
    """
    rules = rules_of(config) if config else BundleRules()
    rules = replace(rules, allow_failed=rules.allow_failed or allow_failed)
    folder = store_bundle(
        load_bundle(path, check=rules.check(path)),
        gate=rules.check,
        check=lambda copy: load_verified_model(copy, rules).interpreter.close(),
        store=into,
    )
    name = folder.parent.name
    console.print(f"{name}: installed as {folder}; used from the next start on where a configuration asks for {name}")


def make_signing_key(file: Path, *, console: Console) -> None:
    """Make a signing key and print the public one.

    Raises:
        UsageError: the file is there already, or cannot be written.
    """
    public = make_key(file)
    console.print(f"{file}: the secret key, keep it to yourself; in the configuration of a device:", style="dim")
    console.print(f'[bundles]\ntrusted_keys = ["{public}"]', markup=False, soft_wrap=True)


def sign(path: Path, *, key: Path, console: Console) -> None:
    """Sign a bundle that verifies.

    Raises:
        BundleError: it does not, or the signature cannot be written.
        UsageError: no signing key in the file.
    """
    bundle = load_bundle(path)
    public = sign_bundle(bundle, key)
    console.print(f"{bundle.manifest.full_name}: signed, {path / SIGNATURE_FILE} by {public}", soft_wrap=True)


def _as_text(value: str) -> str:
    """Return somebody's text without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)


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
