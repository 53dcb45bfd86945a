"""Signatures of bundles: Ed25519 over the manifest, which holds the hash of every other file that counts.

``manifest.json`` names the SHA-256 of the model, of the model compiled for an Edge TPU and of the golden samples, and
`edge.contract.bundle` demands them; so a signature over its bytes covers all four files. The model card and the report
beside them are read by people only and are not covered.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from edge.contract.bundle import MANIFEST_FILE, Bundle
from edge.contract.files import DOCUMENT_MAX_BYTES, MANIFEST_MAX_BYTES, read_regular
from edge.contract.manifest import AnyManifest, decode_manifest
from edge.errors import BundleError, ConfigError, MissingDependencyError, UsageError
from edge.packages import install_line
from edge.system.files import replace_file

SIGNATURE_FILE: Final = "manifest.sig"
_CONTEXT: Final = b"mien.signature/1\n"
"""Stands before the manifest in what is signed, so that a signature is good for nothing else."""
_KEY_BYTES: Final = 32


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.sig``: JSON; both values in base64."""

    schema: Literal["mien.signature/1"]
    key: str
    signature: str


def make_key(file: Path) -> str:
    """Makes a signing key.

    Args:
        file: takes the secret key, readable by its owner alone; never overwritten.

    Returns:
        The public key, for ``bundles.trusted_keys``.

    Raises:
        UsageError: the file is there already, or cannot be written.
        MissingDependencyError: PyNaCl is not installed.
    """
    key = _import_nacl().signing.SigningKey.generate()
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as target:
            target.write(base64.b64encode(bytes(key)) + b"\n")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from None
    return base64.b64encode(bytes(key.verify_key)).decode()


def sign_bundle(bundle: Bundle[AnyManifest], key_file: Path) -> str:
    """Signs a verified bundle; its signature lies beside its manifest then.

    Returns:
        The public key.

    Raises:
        UsageError: no signing key in the file.
        BundleError: the signature cannot be written.
        MissingDependencyError: PyNaCl is not installed.
    """
    nacl = _import_nacl()
    try:
        secret = base64.b64decode(key_file.read_bytes().strip(), validate=True)
        key = nacl.signing.SigningKey(secret)
    except OSError as error:
        raise UsageError(f"{key_file}: {error.strerror or error}") from None
    except (binascii.Error, nacl.exceptions.CryptoError, ValueError):
        raise UsageError(f"{key_file}: no signing key; `mien bundle key FILE` makes one") from None
    public = base64.b64encode(bytes(key.verify_key)).decode()
    manifest = read_regular(bundle.path / MANIFEST_FILE, max_bytes=MANIFEST_MAX_BYTES)
    if decode_manifest(manifest, file=bundle.path / MANIFEST_FILE) != bundle.manifest:
        raise BundleError(bundle.path / MANIFEST_FILE, "changed while it was read")
    signed = key.sign(_CONTEXT + manifest).signature
    text = msgspec.json.encode(_Signature("mien.signature/1", public, base64.b64encode(signed).decode()))
    try:
        replace_file(bundle.path / SIGNATURE_FILE, text + b"\n")
    except OSError as error:
        raise BundleError(bundle.path / SIGNATURE_FILE, error.strerror or str(error)) from None
    return public


def check_keys(trusted_keys: Sequence[str]) -> None:
    """Demands that trusted keys are keys, and that signatures can be checked here at all.

    Raises:
        ConfigError: one is no key, or PyNaCl is not installed.
    """
    for key in trusted_keys:
        try:
            is_key = len(base64.b64decode(key, validate=True)) == _KEY_BYTES
        except (binascii.Error, ValueError):
            is_key = False
        if not is_key:
            raise ConfigError("bundles.trusted_keys", f"{key!r}: not a public key as `mien bundle key` prints it")
    if trusted_keys:
        try:
            _import_nacl()
        except MissingDependencyError as error:
            raise ConfigError("bundles.trusted_keys", str(error)) from None


def check_signature(folder: Path, manifest: bytes, trusted_keys: Sequence[str]) -> None:
    """Refuses a bundle that none of the keys has signed.

    Args:
        folder: of the bundle.
        manifest: its manifest's bytes; they hold the hashes that `edge.contract.bundle.load_bundle` demands.
        trusted_keys: as configured; without any, everything passes.

    Raises:
        BundleError: no signature, one by another key, or a wrong one.
        MissingDependencyError: PyNaCl is not installed.
    """
    if not trusted_keys:
        return
    file = folder / SIGNATURE_FILE
    nacl = _import_nacl()
    if not file.exists():
        raise BundleError(file, "no such file: the bundle is not signed, and bundles.trusted_keys demands it")
    try:
        found = msgspec.json.decode(read_regular(file, max_bytes=DOCUMENT_MAX_BYTES), type=_Signature)
        signature = base64.b64decode(found.signature, validate=True)
    except (msgspec.DecodeError, RecursionError, binascii.Error, ValueError) as error:
        raise BundleError(file, f"not a signature: {error}") from None
    if found.key not in trusted_keys:
        raise BundleError(file, f"signed by {found.key!r}, which is not in bundles.trusted_keys")
    try:
        nacl.signing.VerifyKey(base64.b64decode(found.key)).verify(_CONTEXT + manifest, signature)
    except (nacl.exceptions.CryptoError, ValueError):
        raise BundleError(file, "the signature is wrong: the manifest is not what was signed") from None


def _import_nacl() -> Any:
    try:
        import nacl.exceptions
        import nacl.signing
    except ImportError:
        raise MissingDependencyError(
            "signatures of bundles", "PyNaCl", f"{install_line('signatures')}, or apt-get install python3-nacl"
        ) from None
    return nacl
