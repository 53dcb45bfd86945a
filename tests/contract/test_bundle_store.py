"""The store of installed bundles: complete or not there, whatever interrupts an installation."""

import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundles import NAME, SHIPPED, change_golden, edit_manifest, flip_byte, make_bundle
from rich.console import Console

from edge.bundles.locate import MODELS_DIR, candidate_bundles, find_bundle, installed_bundles
from edge.bundles.store import KEPT
from edge.commands.bundle import install_bundle
from edge.contract.bundle import load_emotion_bundle
from edge.errors import BundleError

QUIET = Console(quiet=True)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_BUNDLES", str(tmp_path / "store"))
    return tmp_path / "store"


def install(folder: Path, **options: object) -> None:
    install_bundle(folder, console=QUIET, **options)  # type: ignore[arg-type]


def test_an_installed_bundle_is_found_by_its_name_before_the_shipped_one(store: Path, tmp_path: Path) -> None:
    assert find_bundle(NAME) == MODELS_DIR / NAME
    install(make_bundle(tmp_path / "new", version="9.0.1"))
    install(make_bundle(tmp_path / "newer", version="9.1.0"))
    newest, before = store / NAME / "0002-9.1.0", store / NAME / "0001-9.0.1"
    assert find_bundle(NAME) == newest
    assert find_bundle(f"{NAME}@9.0.1") == before
    assert find_bundle(f"{NAME}@{SHIPPED}") == MODELS_DIR / NAME
    assert candidate_bundles(NAME, fallback=NAME)[:3] == [newest, before, MODELS_DIR / NAME]
    assert candidate_bundles(f"{NAME}@9.0.1", fallback=NAME)[:3] == [before, newest, MODELS_DIR / NAME]
    last = candidate_bundles("yunet-640x480", fallback="yunet-640x480")
    assert [folder.name for folder in last[:2]] == ["yunet-640x480", "yunet-640x384"]
    assert {folder.name.partition("-")[0] for folder in last} == {"yunet"}
    with pytest.raises(BundleError, match="no such bundle"):
        find_bundle(f"{NAME}@9.9.9")


def test_only_the_newest_are_kept(store: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "new")
    for _ in range(KEPT + 2):
        install(bundle)
    assert [folder.name for folder in installed_bundles(NAME)] == ["0005-9.0.1", "0004-9.0.1", "0003-9.0.1"]
    assert sorted(path.name for path in (store / NAME).iterdir()) == ["0003-9.0.1", "0004-9.0.1", "0005-9.0.1"]


def test_what_is_installed_is_for_everybody_to_read_and_holds_the_bundles_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "lib" / "mien" / "bundles"
    monkeypatch.setenv("MIEN_BUNDLES", str(store))
    folder = make_bundle(tmp_path / "new")
    (folder / "secret").write_text("not a part of it")
    (folder / "model.tflite").chmod(0o600)
    before = os.umask(0o077)
    try:
        install(folder)
    finally:
        os.umask(before)
    (installed,) = installed_bundles(NAME)
    assert sorted(path.name for path in installed.iterdir()) == [
        "MODEL_CARD.md", "golden.npz", "manifest.json", "model.tflite", "report.json",
    ]  # fmt: skip
    for path in [store.parent.parent, store.parent, store, store / NAME, installed, *installed.iterdir()]:
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_link_does_not_show_a_secret_to_everybody(store: Path, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "new")
    (tmp_path / "shadow").write_text("secret")
    (folder / "MODEL_CARD.md").unlink()
    (folder / "MODEL_CARD.md").symlink_to(tmp_path / "shadow")
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md"):
        install(folder)
    assert not installed_bundles(NAME)


SPOILED = [
    ("flipped byte", lambda folder: flip_byte(folder / "model.tflite"), r"model\.tflite: sha256"),
    ("missing file", lambda folder: (folder / "golden.npz").unlink(), r"golden\.npz: No such file"),
    ("future", lambda folder: edit_manifest(folder, lambda m: m.update(schema="mien.manifest/3")), "schema"),
    ("golden", change_golden, "golden samples differ by"),
    ("gate", lambda folder: edit_manifest(folder, lambda m: m.update(status="failed")), "status: failed"),
]


@pytest.mark.parametrize(("spoil", "told"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_what_does_not_verify_is_not_installed(spoil: object, told: str, store: Path, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "new")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(BundleError, match=told) as caught:
        install(folder)
    assert str(caught.value).startswith(str(folder)), "it names the user's own file"
    assert not installed_bundles(NAME)
    assert not list((store / NAME).glob(".*")) if store.exists() else True


def test_a_bundle_that_failed_its_gate_is_taken_when_that_is_asked_for(store: Path, tmp_path: Path) -> None:
    install(make_bundle(tmp_path / "new", status="failed"), allow_failed=True)
    assert len(installed_bundles(NAME)) == 1


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="File exists"):
        install(make_bundle(tmp_path / "new"), into=tmp_path / "file" / "store")


def test_an_installation_that_is_killed_at_any_moment_leaves_a_store_of_whole_bundles(
    store: Path, tmp_path: Path
) -> None:
    """Killed at 20 seeded moments between the first system call and the last."""
    bundle = make_bundle(tmp_path / "new")
    command = [sys.executable, "-m", "edge", "bundle", "install", str(bundle)]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole_s = time.monotonic() - began
    rng, ends = random.Random(5), set()
    for _ in range(20):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Most of the time it imports and verifies: the moments are drawn from when the store begins to change.
        _wait_for_partial(store / NAME, child)
        time.sleep(rng.random() ** 2 * whole_s)
        child.kill()
        ends.add(child.wait())
        for folder in installed_bundles(NAME):
            load_emotion_bundle(folder)
    assert -signal.SIGKILL in ends, "some were killed on the way"
    subprocess.run(command, check=True, capture_output=True)
    assert not list((store / NAME).glob(".*")), "the next installation clears up"
    assert len(installed_bundles(NAME)) <= KEPT


def _wait_for_partial(folder: Path, child: "subprocess.Popen[bytes]") -> None:
    while child.poll() is None and not list(folder.glob(".partial-*")):
        time.sleep(0.001)
