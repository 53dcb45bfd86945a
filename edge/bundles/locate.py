"""Where bundles are: the ones that ship with Mien, the installed ones, and the ones installed before."""

from __future__ import annotations

import os
import re
from itertools import takewhile
from pathlib import Path

from edge.contract.bundle import MANIFEST_FILE
from edge.contract.files import MANIFEST_MAX_BYTES, read_regular
from edge.contract.manifest import NAME_PATTERN, decode_manifest
from edge.errors import BundleError

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
"""The bundles that ship with Mien."""


SYSTEM_STORE = Path("/var/lib/mien/bundles")


def store_dirs() -> list[Path]:
    """Where installed bundles are, the first one being where new ones go.

    ``$MIEN_BUNDLES`` alone where it is set; else the machine's, which root writes and services read; before it, for
    somebody who is neither, the user's own.
    """
    if os.environ.get("MIEN_BUNDLES"):
        return [Path(os.environ["MIEN_BUNDLES"])]
    if os.geteuid() == 0 or os.environ.get("STATE_DIRECTORY"):
        return [SYSTEM_STORE]
    own = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "mien" / "bundles"
    return [own, SYSTEM_STORE]


def find_bundle(name_or_path: str) -> Path:
    """The folder of a bundle: a path as it is, else the newest installed one of a name, else the one that ships.

    Args:
        name_or_path: ``folder/bundle``, ``name``, or ``name@version``.

    Raises:
        BundleError: neither a folder nor a known name; the message lists the shipped ones.
    """
    path = Path(name_or_path).expanduser()
    if _exists(path / MANIFEST_FILE):
        return path
    for folder in [*installed_bundles(name_or_path), *_shipped(name_or_path)]:
        return folder
    if _exists(path):
        raise BundleError(path / MANIFEST_FILE, "no such file: the folder is not a bundle")
    raise BundleError(
        name_or_path, f"no such bundle; shipped are {', '.join(shipped_bundles()) or 'none'}, or give a folder"
    )


def installed_bundles(name: str) -> list[Path]:
    """Folders of the installed bundles of a name, the newest first; they may be damaged.

    Args:
        name: ``name`` or ``name@version``.
    """
    plain, _, version = name.partition("@")
    if not re.fullmatch(NAME_PATTERN, plain):
        return []
    folders = [folder for store in store_dirs() for folder in _numbered(store / plain)]
    return [folder for folder in folders if not version or folder.name.partition("-")[2] == version]


def candidate_bundles(name_or_path: str, *, fallback: str) -> list[Path]:
    """Every folder that may stand in for a bundle, the best first.

    The bundle itself; the ones of its name that were installed before; the one of its name that ships; the shipped
    ``fallback``; and in the end, for a card that loses bits, what ships for the same task.

    Args:
        name_or_path: as `find_bundle` takes it.
        fallback: name of a shipped bundle.

    Raises:
        BundleError: there is nothing of that name at all.
    """
    path = Path(name_or_path).expanduser()
    if "/" in name_or_path and _exists(path):
        own = [path]
    else:
        first = find_bundle(name_or_path)
        plain = name_or_path.partition("@")[0]
        own = [first, *installed_bundles(name_or_path), *installed_bundles(plain), *_shipped(plain)]
    return list(dict.fromkeys([*own, MODELS_DIR / fallback, *_relatives(fallback)]))


def is_shipped(folder: Path) -> bool:
    """Whether a bundle came with the program itself."""
    return folder.parent == MODELS_DIR


def _relatives(name: str) -> list[Path]:
    """What ships for the same task, the likest name first: ``yunet-640x384`` for ``yunet-640x480``."""
    task = name.partition("-")[0]
    others = [other for other in shipped_bundles() if other != name and other.partition("-")[0] == task]

    def shared(other: str) -> int:
        return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(name, other, strict=False))))

    return [MODELS_DIR / other for other in sorted(others, key=shared, reverse=True)]


def _shipped(name: str) -> list[Path]:
    plain, _, version = name.partition("@")
    folder = MODELS_DIR / plain
    if "/" in plain or not (folder / MANIFEST_FILE).is_file():
        return []
    if not version:
        return [folder]
    try:
        raw = read_regular(folder / MANIFEST_FILE, max_bytes=MANIFEST_MAX_BYTES)
        manifest = decode_manifest(raw, file=folder / MANIFEST_FILE)
    except BundleError:
        return []
    return [folder] if manifest.version == version else []


def _numbered(folder: Path) -> list[Path]:
    """``0002-1.1.0`` before ``0001-1.0.0``; what an interrupted installation left has other names.

    A folder that may not be read stands for what is in it: reading that as a bundle says why it cannot be used.
    """
    try:
        found = [(int(entry.name.partition("-")[0]), entry) for entry in folder.iterdir() if _is_numbered(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return [folder]
    return [entry for _, entry in sorted(found, reverse=True)]


def _is_numbered(name: str) -> bool:
    return re.match(r"\d+-", name) is not None


def _exists(path: Path) -> bool:
    """Whether there is something of this name, readable or not."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def shipped_bundles() -> list[str]:
    """Names of the bundles that ship with Mien, sorted."""
    return sorted(path.parent.name for path in MODELS_DIR.glob(f"*/{MANIFEST_FILE}"))
