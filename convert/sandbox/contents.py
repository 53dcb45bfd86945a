"""Looks at what a parsed model file refers to: other files, code, operators that reach out of the graph.

This runs in the process that reads, before a framework gets to see the file.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

from convert.sandbox.checks import MAX_BYTES, MAX_TEXT_BYTES, check_depth, check_inside, check_regular
from edge.errors import ModelFileError

_CONFIG: Final = "config.json"
_OPENS: Final = re.compile(
    r"File(?!name)|PyFunc|Reader|Dataset|Summary|Print|Debug|Save(?!V2)|Restore(?!V2)|^_?(Host)?(Send|Recv)|Remote|Rpc|Session"
)
"""Operators of TensorFlow that read, write, print, send or call back."""
_STORES: Final = re.compile(r"SaveV2|RestoreV2|MergeV2Checkpoints")
"""What a SavedModel reads its variables with; a signature has none of it."""


def read_keras_config(path: Path) -> Any:
    """Return the layers' description of a ``.keras`` or HDF5 file, once its weights were found to lie in it.

    Raises:
        ModelFileError: no such file, nested too deep, or weights that lie in another file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".h5"):
                    _check_hdf5(BytesIO(archive.read(member)), path)
            text = archive.read(_CONFIG) if _CONFIG in archive.namelist() else b"null"
    else:
        with path.open("rb") as file:
            text = _check_hdf5(file, path)
    check_depth(text, path, what="the description of its layers")
    return json.loads(text)


def find_code(config: Any) -> list[str]:
    """Return the names of Lambda layers, whose code lies in the file; ``a function`` for code elsewhere."""
    layers = {
        str((part.get("config") or {}).get("name")) for part in _parts(config) if part.get("class_name") == "Lambda"
    }
    functions = {"a function" for part in _parts(config) if part.get("class_name") == "__lambda__"}
    return sorted(layers or functions)


def check_operators(saved_model: Any, path: Path) -> None:
    """Refuse a SavedModel that does more than compute.

    Args:
        saved_model: the parsed ``saved_model.pb``.
        path: named in errors.

    Raises:
        ModelFileError: it has an operator that reads, writes, prints, sends or calls back.
    """
    found: set[str] = set()
    for graph in saved_model.meta_graphs:
        nodes = [graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)]
        found |= {node.op for part in nodes for node in part if _OPENS.search(node.op)}
    _refuse(found, path)


def check_signature(graph_def: Any, path: Path) -> None:
    """Refuse a signature that reads or writes variables' files; see `check_operators`."""
    nodes = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    _refuse({node.op for part in nodes for node in part if _STORES.search(node.op)}, path)


def check_external_data(model: Any, path: Path) -> None:
    """Refuse an ONNX file whose tensors lie outside of its folder, or in something that is no regular file.

    Args:
        model: an ``onnx.ModelProto``, external data not loaded.
        path: of the file.

    Raises:
        ModelFileError: it does.
    """
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    total = 0
    for tensor in _get_all_tensors(model):
        if math.prod(tensor.dims) > MAX_BYTES:
            raise ModelFileError(path, f"{tensor.name}: {'x'.join(map(str, tensor.dims))} values; too many")
        if uses_external_data(tensor):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            location = entries.get("location", "")
            if Path(location).is_absolute() or ".." in Path(location).parts:
                raise ModelFileError(path, f"{tensor.name}: its data lie in {location!r}, out of the model's folder")
            file = path.parent / location
            check_inside(file, path.parent)
            size = check_regular(file)
            total += int(entries.get("length", size))
    if total > MAX_BYTES:
        raise ModelFileError(path, f"{total / 1e9:.1f} GB of external data; {MAX_BYTES / 1e9:.1f} GB are the most")


def _refuse(operators: set[str], path: Path) -> None:
    if operators:
        raise ModelFileError(
            path, f"{', '.join(sorted(operators))}: a model that reads, writes or calls back is not run; export without"
        )


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _parts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _parts(part)


def _check_hdf5(file: BinaryIO, path: Path) -> bytes:
    """Refuse an HDF5 file that leads to others or unpacks to too much; return the description of its layers."""
    import h5py

    total = 0
    try:
        with h5py.File(file, "r") as top:
            places: list[str] = []
            top.visit(places.append)
            for place in ("/", *places):
                part = top[place]
                if isinstance(part, h5py.Group):
                    for name in part:
                        if isinstance(part.get(name, getlink=True), h5py.ExternalLink):
                            raise ModelFileError(path, f"{name}: is a link to another file")
                elif part.external or part.is_virtual:
                    raise ModelFileError(path, f"{place}: its values lie in another file")
                else:
                    total += part.size * part.dtype.itemsize
            if total > MAX_BYTES:
                raise ModelFileError(path, f"weights of {total / 1e9:.1f} GB; {MAX_BYTES / 1e9:.1f} GB are the most")
            text = top.attrs.get("model_config", b"null")
    except (OSError, KeyError, RuntimeError) as error:
        raise ModelFileError(path, f"not a Keras file: {' '.join(str(error).split())}") from None
    raw = text.encode() if isinstance(text, str) else bytes(text)
    if len(raw) > MAX_TEXT_BYTES:
        raise ModelFileError(path, f"describes its layers in {len(raw) / 1e6:.0f} MB")
    return raw
