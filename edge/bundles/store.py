"""Putting bundles into the store: beside the ones there, complete or not at all.

A store has a folder for each name; in it a bundle lies in ``NUMBER-VERSION``, and the highest number is the one in use.
So a switch is one rename, and a step back is a folder less; nothing ever points to what is not there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge.bundles.locate import store_dirs
from edge.bundles.signing import SIGNATURE_FILE
from edge.contract.bundle import MANIFEST_FILE, Bundle, Check, load_bundle
from edge.contract.files import DOCUMENT_MAX_BYTES, GOLDEN_MAX_BYTES, MODEL_MAX_BYTES, read_regular
from edge.contract.manifest import AnyManifest
from edge.errors import BundleError
from edge.system.files import sync_folder

KEPT: Final = 3
"""Installed bundles of a name; older ones go."""
DOCUMENTS: Final = ("MODEL_CARD.md", "report.json")
PARTIAL_PREFIX: Final = ".partial-"


def install_bundle(
    bundle: Bundle[AnyManifest],
    *,
    gate: Callable[[Path], Check],
    check: Callable[[Bundle[AnyManifest]], None],
    store: Path | None = None,
) -> Path:
    """Copies a bundle into the store, as the newest of its name.

    The copy is what is checked, not the original, and only then it gets its name.

    Args:
        bundle: to copy.
        gate: what the copy's manifest must pass, given its folder.
        check: called with the copy; raises `BundleError` to refuse it.
        store: folder of installed bundles; None for the first of `edge.bundles.locate.store_dirs`.

    Returns:
        The new folder.

    Raises:
        BundleError: it is refused, or cannot be written; the store is as it was.
    """
    folder = (store or store_dirs()[0]) / bundle.manifest.name
    try:
        with _locked(folder):
            partial = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=folder))
            _copy(bundle, partial)
            copy = load_bundle(partial, check=gate(partial))
            check(copy)
            final = folder / f"{_newest_number(folder) + 1:04d}-{copy.manifest.version}"
            partial.rename(final)
            sync_folder(folder)
            _forget_old(folder)
    except BundleError as error:
        raise BundleError(bundle.path / Path(error.file).name, error.problem) from None
    except OSError as error:
        raise BundleError(error.filename or folder, error.strerror or str(error)) from None
    return final


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One installation at a time; what an earlier one left half done is removed."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.is_dir()]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        parent.chmod(0o755)  # services with users of their own go through it, whatever the umask
        sync_folder(parent.parent)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _remove_partial(folder)
        yield
    finally:
        _remove_partial(folder)
        os.close(handle)


def _remove_partial(folder: Path) -> None:
    for partial in folder.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(partial, ignore_errors=True)


def _copy(bundle: Bundle[AnyManifest], target: Path) -> None:
    """Copies the files that make a bundle, and no others; everybody may read them."""
    manifest = bundle.manifest
    demanded = [MANIFEST_FILE, manifest.model.file, manifest.golden.file]
    demanded += [manifest.edgetpu_model.file] if manifest.edgetpu_model else []
    present = [name for name in (SIGNATURE_FILE, *DOCUMENTS) if os.path.lexists(bundle.path / name)]
    for name in [*demanded, *present]:
        with (target / name).open("wb") as writer:
            writer.write(read_regular(bundle.path / name, max_bytes=_max_bytes(name, manifest)))
            writer.flush()
            os.fchmod(writer.fileno(), 0o644)
            os.fsync(writer.fileno())
    target.chmod(0o755)
    sync_folder(target)


def _max_bytes(name: str, manifest: AnyManifest) -> int:
    if name in (MANIFEST_FILE, SIGNATURE_FILE, *DOCUMENTS):
        return DOCUMENT_MAX_BYTES
    return GOLDEN_MAX_BYTES if name == manifest.golden.file else MODEL_MAX_BYTES


def _numbers(folder: Path) -> list[tuple[int, Path]]:
    """Installed bundles with their numbers, the oldest first."""
    return sorted((int(entry.name.partition("-")[0]), entry) for entry in folder.glob("[0-9]*-*"))


def _newest_number(folder: Path) -> int:
    return max((number for number, _ in _numbers(folder)), default=0)


def _forget_old(folder: Path) -> None:
    for _, old in _numbers(folder)[:-KEPT]:
        doomed = folder / f"{PARTIAL_PREFIX}{old.name}"
        old.rename(doomed)  # at once, so that nobody finds a half of it
        shutil.rmtree(doomed, ignore_errors=True)
