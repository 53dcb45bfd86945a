"""Files: where a service keeps its state, atomic writes, hashes and JSON."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

BLOCK_BYTES = 1 << 20


def state_directory() -> Path | None:
    """Return the folder for what outlives a restart: systemd's ``StateDirectory=``; None elsewhere."""
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


def encode_json(value: Any, *, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value as indented JSON with a final newline; NaN becomes null.

    Args:
        value: anything that msgspec encodes, such as structs and dataclasses.
        enc_hook: converts other types, see `msgspec.json.encode`.
    """
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=enc_hook), indent=2) + b"\n"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, 64 lower-case hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path, *, suffix: str = "", keep_partial: bool = False) -> Iterator[Path]:
    """Write a file beside its place and rename it over what is there, so that readers find the old one or the new one.

    A link is followed. What is there and no regular file (a pipe, a device) is written to, never renamed over: the
    file is then made elsewhere and copied into it.

    Args:
        path: the file.
        suffix: of the temporary name, for a writer that insists on one.
        keep_partial: when the block raises, keep what was written so far under the name; else the file is untouched.

    Yields:
        The temporary path. It is removed in the end, whatever happens.
    """
    if is_special(path):
        with tempfile.TemporaryDirectory() as folder:
            beside = Path(folder) / f"part{suffix}"
            yield beside
            with beside.open("rb") as made, path.open("wb") as target:
                shutil.copyfileobj(made, target)
        return
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}.part{suffix}")
    try:
        yield beside
    except BaseException:
        with contextlib.suppress(OSError):
            if keep_partial and beside.stat().st_size:
                beside.replace(path)
            beside.unlink(missing_ok=True)
        raise
    try:
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    sync_folder(path.parent)


@contextlib.contextmanager
def open_replacing(path: Path, *, keep_partial: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that appears whole under its name; a pipe or device is written to as it comes.

    Args:
        path: the file; see `replacing`.
        keep_partial: when the block raises, what was written so far appears.
    """
    if is_special(path):
        with path.open("wb") as file:
            yield file
        return
    with replacing(path, keep_partial=keep_partial) as beside, beside.open("wb") as file:
        try:
            yield file
        finally:
            file.flush()
            os.fsync(file.fileno())


def is_special(path: Path) -> bool:
    """Return whether something is there that is neither a regular file nor a folder, links followed."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_same(first: Path, second: Path) -> bool:
    """Return whether two paths are one file or folder that exists, links followed."""
    try:
        return first.samefile(second)
    except OSError:
        return False


T = TypeVar("T")


class DamagedFileError(ValueError):
    """What a program of ours wrote is not what is there now."""


def decode_json(raw: bytes, kind: type[T]) -> T:
    """Return JSON of our own making; whatever a flipped bit does to it is one error.

    Raises:
        DamagedFileError: in one line.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedFileError(str(error)) from None


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file's content atomically and wait until it is on the disk; see `replacing`.

    Raises:
        OSError: it cannot be written; what was there is untouched, and nothing lies beside it.
    """
    if is_special(path):
        path.write_bytes(data)
        return
    with replacing(path) as beside:
        write_synced(beside, data)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where its file system can do that.

    Raises:
        OSError: the disk cannot keep them.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
