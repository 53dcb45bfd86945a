"""A file is the old one or the whole new one, also where the disk takes only half of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundles import make_bundle
from tools import largest_file

from edge.bundles.signing import SIGNATURE_FILE, make_key, sign_bundle
from edge.contract.bundle import load_bundle
from edge.errors import BundleError
from edge.system.files import replace_file


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    replace_file(file, b"old")
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        replace_file(file, b"new" * 1000)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    replace_file(file, b"new")
    assert file.read_bytes() == b"new"


def test_signing_again_on_a_full_disk_keeps_the_signature(tmp_path: Path) -> None:
    pytest.importorskip("nacl", reason="pip install 'mien[signatures]'")
    bundle = load_bundle(make_bundle(tmp_path / "bundle"))
    make_key(tmp_path / "first"), make_key(tmp_path / "second")
    sign_bundle(bundle, tmp_path / "first")
    signed = (bundle.path / SIGNATURE_FILE).read_bytes()
    with largest_file(20), pytest.raises(BundleError, match="File too large"):
        sign_bundle(bundle, tmp_path / "second")
    assert (bundle.path / SIGNATURE_FILE).read_bytes() == signed
