"""The one writer of bundles."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from convert.bundle_writer import check_free, describe_golden, describe_model, write_bundle
from edge.bundles.locate import MODELS_DIR
from edge.contract.bundle import load_bundle
from edge.errors import BundleError, ConversionError, UsageError

SHIPPED = MODELS_DIR / "emotion-ferplus"


def rewrite(folder: Path, **options: object) -> None:
    bundle = load_bundle(SHIPPED)
    write_bundle(folder, bundle, **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_bundle_read_and_written_again_has_the_same_bytes(tmp_path: Path) -> None:
    rewrite(tmp_path / "deep" / "again")
    wanted = {
        name: digest for name, digest in contents(SHIPPED).items() if name not in ("MODEL_CARD.md", "report.json")
    }
    assert contents(tmp_path / "deep" / "again") == wanted


def test_descriptions_are_those_of_the_files(tmp_path: Path) -> None:
    bundle = load_bundle(SHIPPED)
    spec = bundle.manifest.golden
    assert describe_model(bundle.model) == bundle.manifest.model
    steps = {"max_steps_xnnpack": spec.max_steps_xnnpack, "max_steps_other": spec.max_steps_other}
    assert describe_golden(bundle.golden, **steps) == spec


def test_documents_lie_beside_and_the_folder_is_readable_by_all(tmp_path: Path) -> None:
    rewrite(tmp_path / "b", documents={"MODEL_CARD.md": b"# card\n"})
    assert (tmp_path / "b" / "MODEL_CARD.md").read_bytes() == b"# card\n"
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o755


def test_parts_that_do_not_fit_are_never_put_in_place(tmp_path: Path) -> None:
    bundle = load_bundle(SHIPPED)
    with pytest.raises(BundleError, match=r"b/model\.tflite: sha256"):
        write_bundle(tmp_path / "b", replace(bundle, model=b"another"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_bundle(tmp_path: Path) -> None:
    rewrite(tmp_path / "b")
    before = contents(tmp_path / "b")
    bundle = load_bundle(SHIPPED)
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "b", replace(bundle, model=b"x"), force=True)
    assert contents(tmp_path / "b") == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_force_replaces_and_nothing_else_does(tmp_path: Path) -> None:
    rewrite(tmp_path / "b")
    with pytest.raises(UsageError, match="--force replaces it"):
        rewrite(tmp_path / "b")
    bundle = load_bundle(SHIPPED)
    newer = msgspec.structs.replace(bundle.manifest, version="9.9.9")
    write_bundle(tmp_path / "b", replace(bundle, manifest=newer), force=True)
    assert load_bundle(tmp_path / "b").manifest.version == "9.9.9"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_empty_folder_is_free_and_one_with_other_things_is_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    rewrite(tmp_path / "empty")
    assert load_bundle(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="never overwritten"):
        check_free(tmp_path / "full", force=True)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConversionError, match="file/b: "):
        rewrite(tmp_path / "file" / "b")
