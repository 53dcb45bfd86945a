"""Bundles that somebody made to break the reader: one line, at once, with little memory; nothing is stored or run."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import resource
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import edit_manifest, make_bundle
from rich.console import Console

from edge.bundles.signing import check_signature
from edge.commands.bundle import install_bundle, show_bundle
from edge.contract.bundle import expect_manifest, load_bundle
from edge.contract.files import MODEL_MAX_BYTES, read_regular
from edge.errors import BundleError
from edge.infer.delegates import DelegateSpec, probe_delegate

Spoil = Callable[[Path], object]
QUIET = Console(quiet=True)


def replaced(name: str, make: Callable[[Path], object]) -> Spoil:
    """Something else where a file was."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": a_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "ten gigabytes of nothing": sparse,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "model.tflite", "golden.npz"])
def test_what_is_no_regular_file_of_a_sensible_size_is_not_read(kind: str, name: str, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    replaced(name, KINDS[kind])(folder)
    with pytest.raises(BundleError, match=name):
        load_bundle(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["MODEL_CARD.md", "report.json", "manifest.sig"])
def test_a_document_that_is_no_file_keeps_the_bundle_out_of_the_store(kind: str, name: str, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    (folder / name).unlink(missing_ok=True)
    KINDS[kind](folder / name)
    with pytest.raises(BundleError, match=name):
        install_bundle(folder, into=tmp_path / "store", console=QUIET)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_second_name_of_a_secret_is_not_copied_for_everybody(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    (tmp_path / "secret").touch(mode=0o600)
    (folder / "report.json").unlink(missing_ok=True)
    os.link(tmp_path / "secret", folder / "report.json")
    with pytest.raises(BundleError, match="not everybody may read"):
        install_bundle(folder, into=tmp_path / "store", console=QUIET)


def edited(**changes: Any) -> Spoil:
    return lambda folder: edit_manifest(folder, lambda manifest: manifest.update(changes))


def part(key: str, **changes: Any) -> Spoil:
    def edit(manifest: dict[str, Any]) -> None:
        there = manifest[key]
        (there[0] if isinstance(there, list) else there).update(changes)

    return lambda folder: edit_manifest(folder, edit)


def written(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_bytes(change(file.read_bytes()))

    return spoil


DEEP = b"[" * 100_000 + b"]" * 100_000
MANIFESTS: dict[str, Spoil] = {
    "empty": written(lambda raw: b""),
    "nested": written(lambda raw: DEEP),
    "nested in a key": written(lambda raw: raw.replace(b'"licence": ', b'"licence": ' + DEEP + b', "x": ')),
    "nested in an unknown key": written(lambda raw: b'{"zzz":' + DEEP + b"," + raw[1:]),
    "not UTF-8": written(lambda raw: raw.replace(b'"licence": "', b'"licence": "\xff\xc3(')),
    "half a surrogate": written(lambda raw: raw.replace(b'"licence": "', b'"licence": "\\ud800')),
    "a mark of byte order": written(lambda raw: b"\xef\xbb\xbf" + raw),
    "a key twice": written(lambda raw: b'{"status": "failed",' + raw[1:]),
    "a number of 100,000 digits": written(lambda raw: raw.replace(b'"count": ', b'"count": ' + b"9" * 100_000)),
    "a name with a line's end": edited(name="evil\n"),
    "a version with a line's end": edited(version="9.9.9\n"),
    "a version in other digits": edited(version="١.٢.٣"),
    "a file elsewhere": part("model", file="../model.tflite"),
    "a file with a line's end": part("model", file="model.tflite\n"),
    "labels that a terminal obeys": edited(labels=["\x1b[2Jhappy", *"bcdefg"]),
    "a label that is a word of ours": edited(labels=["uncertain", *"bcdefg"]),
    "a label of 1,000 characters": edited(labels=["x" * 1000, *"bcdefg"]),
    "a blank label": edited(labels=[" ", *"bcdefg"]),
    "no temperature to speak of": edited(temperature=5e-324),
    "a temperature without end": edited(temperature=1e308),
    "a scale without end": part("outputs", scale=1e300),
    "a zero point far away": part("outputs", zero_point=2**62),
    "no shape": part("outputs", shape=[]),
    "a picture of 2^62 pixels": part("input", shape=[1, 2**62, 2**62, 1]),
    "any deviation allowed": part("golden", max_steps_xnnpack=2**62),
    "a crop of nothing": part("crop", margin=1e-300),
    "a million notices": edited(notices=["x"] * 1000),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_means_harm_is_one_line(kind: str, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    MANIFESTS[kind](folder)
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    told = str(caught.value)
    assert told.isprintable(), told
    assert "manifest.json" in told
    assert len(told) < 600


class Touches:
    """Leaves a mark where somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    member = io.BytesIO()
    np.lib.format.write_array(member, array, allow_pickle=True)
    return member.getvalue()


def claims(shape: str, *, descr: str = "'|u1'") -> bytes:
    """An array's header, and no data."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def bomb(folder: Path) -> dict[str, bytes]:
    return {"inputs": claims("(1073741824, 1, 1, 1)") + bytes(1 << 30)}


GOLDEN: dict[str, Callable[[Path], dict[str, bytes]]] = {
    "a gigabyte of nothing": bomb,
    "a header that claims 10^15 bytes": lambda _: {"inputs": claims("(1000000000000000, 1, 1, 1)")},
    "a negative shape": lambda _: {"inputs": claims("(-16, 48, 48, 1)")},
    "a shape of 2^70": lambda _: {"inputs": claims("(1180591620717411303424, 1, 1, 1)")},
    "a header that is code": lambda tmp: {"inputs": claims("(16,)", descr=f"__import__('os').mkdir('{tmp}/PWNED')")},
    "a header of brackets": lambda _: {"inputs": claims("(" * 9000)},
    "another format": lambda _: {"inputs": b"\x93NUMPY\x09\x00" + b"x" * 90},
    "no array": lambda _: {"inputs": b"hello"},
    "objects": lambda tmp: {"origins": npy(np.array([Touches(tmp / "PWNED")] * 16, dtype=object))},
    "dates": lambda _: {"output_0": npy(np.zeros((16, 7), "M8[s]"))},
    "records": lambda _: {"output_0": npy(np.zeros((16, 7), [("a", "i1")]))},
    "floats for integers": lambda _: {"output_0": npy(np.zeros((16, 7), np.float64))},
    "a number for an array": lambda _: {"output_0": npy(np.array(3, np.int8))},
    "no samples": lambda _: {"inputs": npy(np.zeros((0, 48, 48, 1), np.uint8))},
    "one output too many": lambda _: {"output_1": npy(np.zeros((16, 7), np.int8))},
    "ten thousand outputs": lambda _: {f"output_{i}": b"" for i in range(1, 10_000)},
}


def put_golden(folder: Path, raw: bytes) -> None:
    (folder / "golden.npz").write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    edit_manifest(folder, lambda manifest: manifest["golden"].update(sha256=digest))


def refused_golden(folder: Path, raw: bytes, tmp_path: Path) -> None:
    put_golden(folder, raw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=r"golden\.npz") as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kB"
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("kind", GOLDEN)
def test_samples_that_mean_harm_are_one_line(kind: str, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    with np.load(folder / "golden.npz") as good:
        members = {name: npy(good[name]) for name in good.files}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (members | GOLDEN[kind](tmp_path)).items():
            archive.writestr(f"{name}.npy", data)
    refused_golden(folder, packed.getvalue(), tmp_path)


@pytest.mark.parametrize("kind", ["pickled", "cut short", "encrypted", "packed in an unknown way", "garbage inside"])
def test_an_archive_that_is_none_is_one_line(kind: str, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    raw = bytearray((folder / "golden.npz").read_bytes())
    entry, directory = raw.find(b"PK\x03\x04"), raw.find(b"PK\x01\x02")
    if kind == "pickled":
        raw = bytearray(pickle.dumps(Touches(tmp_path / "PWNED")))
    elif kind == "cut short":
        raw = raw[: len(raw) // 2]
    elif kind == "encrypted":
        raw[entry + 6] |= 1
        raw[directory + 8] |= 1
    elif kind == "packed in an unknown way":
        raw[entry + 8] = raw[directory + 10] = 99
    else:
        raw[entry + 60 : entry + 160] = bytes(range(100))
    refused_golden(folder, bytes(raw), tmp_path)


def test_the_signature_comes_before_anything_that_it_vouches_for(tmp_path: Path) -> None:
    pytest.importorskip("nacl", reason="pip install pynacl")
    folder = make_bundle(tmp_path / "bundle")
    for name in ("model.tflite", "golden.npz"):
        replaced(name, os.mkfifo)(folder)  # whoever opens it would wait for ever, or say so
    with pytest.raises(BundleError, match="the bundle is not signed"):
        load_bundle(folder, check=lambda _, raw: check_signature(folder, raw, ["A" * 43 + "="]))


def test_what_was_verified_is_what_runs(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    verified = load_bundle(folder).manifest
    edit_manifest(folder, lambda manifest: manifest.update(version="6.6.6"))
    with pytest.raises(BundleError, match="changed since it was verified"):
        load_bundle(folder, check=expect_manifest(folder, verified))
    reason = probe_delegate(DelegateSpec("external", "libc.so.6", {}), bundle=folder, manifest=verified)
    assert reason is not None
    assert "changed since it was verified" in reason


def test_text_of_a_bundle_is_shown_as_text(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", licence="\x1b]0;owned\x07[/bold] [red]MIT[/red]\r\nmien: verified")
    out = io.StringIO()
    show_bundle(str(folder), console=Console(file=out, force_terminal=True, width=200))
    assert "[/bold] [red]MIT[/red]" in out.getvalue()
    assert not {"\x1b]", "\x07", "\r"} & {out.getvalue()[i : i + 2] for i in range(len(out.getvalue()))}
    assert "\r" not in out.getvalue()


def test_no_more_is_read_than_a_file_may_hold(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    assert read_regular(tmp_path / "file", max_bytes=11) == b"x" * 11
    with pytest.raises(BundleError, match="11 bytes; at most 10 are read"):
        read_regular(tmp_path / "file", max_bytes=10)
    with pytest.raises(BundleError, match="null"):
        read_regular(tmp_path / "a\0b", max_bytes=10)
    assert MODEL_MAX_BYTES < 400e6, "the service may have 400 MB"
