"""Signatures: who holds the key decides which models run."""

import base64
import json
from pathlib import Path

import pytest
from bundles import NAME, change_golden, edit_manifest, flip_byte, make_bundle
from rich.console import Console

from edge.bundles.signing import SIGNATURE_FILE, check_keys, check_signature, make_key, sign_bundle
from edge.commands.bundle import install_bundle, verify_bundle
from edge.config.loader import make_config
from edge.contract.bundle import load_bundle
from edge.errors import BundleError, ConfigError, UsageError, config_context

pytest.importorskip("nacl", reason="pip install 'mien[signatures]'")


def check(folder: Path, trusted_keys: list[str]) -> None:
    load_bundle(folder, check=lambda _, raw: check_signature(folder, raw, trusted_keys))


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / "secret.key", make_key(tmp_path / "secret.key")


def test_a_signed_bundle_passes_and_the_shipped_ones_need_none(tmp_path: Path, key: tuple[Path, str]) -> None:
    folder = make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"manifest\.sig: no such file: the bundle is not signed"):
        check(folder, [key[1]])
    assert sign_bundle(load_bundle(folder), key[0]) == key[1]
    check(folder, ["A" * 43 + "=", key[1]])
    config = make_config({"bundles": {"trusted_keys": [key[1]]}})
    told = Console(record=True, width=200, file=(tmp_path / "out").open("w"))
    verify_bundle(str(folder), config=config, console=told)
    assert "verified, signed by a trusted key" in told.export_text()
    verify_bundle(NAME, config=config, console=told)
    install_bundle(folder, config=config, into=tmp_path / "store", console=told)
    assert (tmp_path / "store" / NAME / "0001-9.0.1" / SIGNATURE_FILE).is_file()


def test_no_file_that_counts_can_be_changed_under_a_signature(tmp_path: Path, key: tuple[Path, str]) -> None:
    def signed(name: str) -> Path:
        folder = make_bundle(tmp_path / name)
        sign_bundle(load_bundle(folder), key[0])
        return folder

    for name in ("model.tflite", "golden.npz"):
        folder = signed(f"flipped-{name}")
        flip_byte(folder / name)
        with pytest.raises(BundleError, match=f"{name}: sha256"):
            load_bundle(folder)
    changed = signed("golden-with-its-hash")
    change_golden(changed)
    with pytest.raises(BundleError, match="the signature is wrong"):
        check(changed, [key[1]])
    relabelled = signed("relabelled")
    edit_manifest(relabelled, lambda manifest: manifest.update(labels=manifest["labels"][::-1]))
    with pytest.raises(BundleError, match="the signature is wrong"):
        check(relabelled, [key[1]])


def test_another_key_and_a_forged_signature_are_refused(tmp_path: Path, key: tuple[Path, str]) -> None:
    folder = make_bundle(tmp_path / "bundle")
    other = make_key(tmp_path / "other.key")
    sign_bundle(load_bundle(folder), tmp_path / "other.key")
    with pytest.raises(BundleError, match=r"which is not in bundles\.trusted_keys"):
        check(folder, [key[1]])
    file = folder / SIGNATURE_FILE
    forged = json.loads(file.read_text()) | {"key": key[1]}
    file.write_text(json.dumps(forged))
    with pytest.raises(BundleError, match="the signature is wrong"):
        check(folder, [key[1], other])
    for content in (b"", b"{}", b"\xff", json.dumps(forged | {"signature": "???"}).encode()):
        file.write_bytes(content)
        with pytest.raises(BundleError, match="not a signature"):
            check(folder, [key[1]])
    file.write_text(json.dumps(forged | {"signature": "AAAA"}))
    with pytest.raises(BundleError, match="the signature is wrong"):
        check(folder, [key[1]])


def test_a_signature_is_good_for_nothing_else(tmp_path: Path, key: tuple[Path, str]) -> None:
    """The manifest alone, signed with the same key by another program, is no signature of a bundle."""
    import nacl.signing

    folder = make_bundle(tmp_path / "bundle")
    secret = nacl.signing.SigningKey(base64.b64decode(key[0].read_bytes()))
    plain = secret.sign((folder / "manifest.json").read_bytes()).signature
    text = {"schema": "mien.signature/1", "key": key[1], "signature": base64.b64encode(plain).decode()}
    (folder / SIGNATURE_FILE).write_text(json.dumps(text))
    with pytest.raises(BundleError, match="the signature is wrong"):
        check(folder, [key[1]])


def test_a_secret_key_is_for_its_owner_and_is_never_overwritten(tmp_path: Path, key: tuple[Path, str]) -> None:
    assert key[0].stat().st_mode & 0o777 == 0o600
    before = key[0].read_bytes()
    with pytest.raises(UsageError, match="File exists"):
        make_key(key[0])
    assert key[0].read_bytes() == before
    bundle = load_bundle(make_bundle(tmp_path / "bundle"))
    for content in (b"", b"no key", base64.b64encode(b"short")):
        key[0].write_bytes(content)
        with pytest.raises(UsageError, match="no signing key"):
            sign_bundle(bundle, key[0])


def test_keys_in_a_configuration_are_checked(key: tuple[Path, str]) -> None:
    check_keys([key[1]])
    for wrong in ("", "secret", key[1][:-4], "ä" * 44):
        with (
            pytest.raises(ConfigError, match=r"mien\.toml: bundles\.trusted_keys: .*not a public key"),
            config_context("mien.toml"),
        ):
            check_keys([key[1], wrong])
