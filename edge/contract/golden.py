"""Golden samples: inputs with the raw output integers that the model must reproduce wherever it runs."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.errors import BundleError

Raw = npt.NDArray[np.generic]

UNPACKED_MAX_BYTES: Final = 64 << 20
ERROR_MAX: Final = 200
_UNREADABLE: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, TypeError, SyntaxError, KeyError, OverflowError),
    *(
        RuntimeError,
        MemoryError,
        tokenize.TokenError,
    ),  # encrypted, an unknown method; RecursionError is one of the first
)
"""How a damaged or hostile npz file fails in zipfile, zlib and numpy."""


@dataclass(frozen=True, slots=True)
class Golden:
    """The samples of one bundle.

    Attributes:
        inputs: (n, height, width, channels) uint8 pixels, before the integer shift.
        outputs: per output tensor (n, ...) raw values in the tensor's own dtype.
        origins: per sample where it comes from: a free picture's name and licence, or ``synthetic seed N``.
    """

    inputs: npt.NDArray[np.uint8]
    outputs: tuple[Raw, ...]
    origins: tuple[str, ...]


def decode_golden(raw: bytes, *, file: str | Path, outputs: int = 1) -> Golden:
    """Reads golden samples.

    Args:
        raw: the contents of ``golden.npz``.
        file: named in errors.
        outputs: of the model.

    Raises:
        BundleError: not an npz file, arrays missing, too many, too large, or of other lengths.
    """
    names = ["inputs", "origins", *(f"output_{i}" for i in range(outputs))]
    try:
        arrays = _unpack(raw, names)
    except _UNREADABLE as error:
        raise BundleError(file, f"not a file of golden samples: {str(error)[:ERROR_MAX]}") from None
    inputs, origins, *raws = (arrays[name] for name in names)
    if inputs.dtype != np.uint8 or inputs.ndim != 4 or origins.ndim != 1 or any(one.ndim < 2 for one in raws):
        raise BundleError(file, "inputs, outputs and origins do not belong together")
    if len({len(inputs), len(origins), *map(len, raws)}) != 1:
        raise BundleError(file, "inputs, outputs and origins do not belong together")
    return Golden(inputs.astype(np.uint8, copy=False), tuple(raws), tuple(map(str, origins)))


def _unpack(raw: bytes, names: Sequence[str]) -> dict[str, Raw]:
    """Arrays of an npz file; what they claim to be is checked before memory is taken for it.

    Raises:
        Exception: one of `_UNREADABLE`.
    """
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = archive.infolist()
        if sorted(member.filename for member in members) != sorted(f"{name}.npy" for name in names):
            raise ValueError(f"it holds {len(members)} arrays; wanted are {', '.join(names)}")
        if sum(member.file_size for member in members) > UNPACKED_MAX_BYTES:
            raise ValueError(f"unpacked more than {UNPACKED_MAX_BYTES:,} bytes")
        return {member.filename.removesuffix(".npy"): _read_array(archive, member) for member in members}


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Raw:
    """https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html."""
    with archive.open(member) as stream:
        data = io.BytesIO(stream.read(member.file_size))
    version = np.lib.format.read_magic(data)
    if version != (1, 0):
        raise ValueError(f"{member.filename}: format {version}; (1, 0) is read")
    shape, _, dtype = np.lib.format.read_array_header_1_0(data)
    count = math.prod(shape)
    if dtype.kind not in "iufU" or min(shape, default=0) < 0 or len(shape) > 8:
        raise ValueError(f"{member.filename}: {dtype} of {shape}")
    if count * dtype.itemsize != len(data.getbuffer()) - data.tell():
        raise ValueError(f"{member.filename}: {dtype} of {shape} is not what is there")
    data.seek(0)
    array: Raw = np.lib.format.read_array(data, allow_pickle=False)
    return array


def encode_golden(golden: Golden) -> bytes:
    """The samples as the bytes of a deterministic ``golden.npz``."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"inputs": golden.inputs, "origins": np.array(golden.origins)}
    return encode_npz(arrays | {f"output_{i}": output for i, output in enumerate(golden.outputs)})


def encode_npz(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """Arrays as the bytes of an ``.npz``; the same arrays give the same bytes (fixed time stamps, fixed order)."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())
    return target.getvalue()


@dataclass(frozen=True, slots=True)
class GoldenVerdict:
    """How far a model's outputs are from its golden samples.

    Attributes:
        worst_steps: largest difference in quantization steps over all samples and outputs (float outputs: in units of
            1/256 of the output's range over the golden samples).
        class_flips: samples whose top class differs although its margin exceeds the allowed difference.
        max_steps: what is allowed.
    """

    worst_steps: float
    class_flips: int
    max_steps: int

    @property
    def passed(self) -> bool:
        """Whether the model reproduces its samples within what is allowed."""
        return self.worst_steps <= self.max_steps and not self.class_flips

    def __str__(self) -> str:
        flips = f", {self.class_flips} top classes differ" if self.class_flips else ""
        return f"golden samples differ by up to {self.worst_steps:g} steps, {self.max_steps} allowed{flips}"


def compare_golden(expected: Golden, measured: tuple[Raw, ...], *, max_steps: int) -> GoldenVerdict:
    """Compares measured raw outputs with the golden ones.

    Args:
        expected: the bundle's samples.
        measured: per output tensor (n, ...) raw values, order as in the bundle.
        max_steps: allowed difference for the kind of kernel in use.
    """
    worst, flips = 0.0, 0
    for want, got in zip(expected.outputs, measured, strict=True):
        step = 1.0
        if np.issubdtype(want.dtype, np.floating):
            step = max(float(np.ptp(want)), 1e-12) / 256
        difference = np.abs(want.astype(np.float64) - got.astype(np.float64)) / step
        difference[np.isnan(difference)] = np.inf  # NaN compares false with everything and would pass
        worst = max(worst, float(difference.max(initial=0.0)))
        if want.ndim == 2 and want.shape[1] > 1:
            top_two = np.sort(want.astype(np.float64), axis=1)[:, -2:]
            clear = (top_two[:, 1] - top_two[:, 0]) / step > max_steps
            flips += int(np.sum(clear & (want.argmax(1) != got.argmax(1))))
    return GoldenVerdict(worst, flips, max_steps)
