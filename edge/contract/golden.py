"""Golden samples: inputs with the raw output integers that the model must reproduce wherever it runs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.errors import BundleError

Raw = npt.NDArray[np.generic]


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


def decode_golden(raw: bytes, *, file: str | Path) -> Golden:
    """Reads golden samples.

    Args:
        raw: the contents of ``golden.npz``.
        file: named in errors.

    Raises:
        BundleError: not an npz file, arrays missing or of other lengths.
    """
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            outputs = tuple(arrays[f"output_{i}"] for i in range(sum(n.startswith("output_") for n in arrays.files)))
            golden = Golden(arrays["inputs"], outputs, tuple(map(str, arrays["origins"])))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise BundleError(file, f"not a file of golden samples: {error}") from None
    counts = {len(golden.inputs), len(golden.origins), *map(len, golden.outputs)}
    if len(counts) != 1 or not golden.outputs or golden.inputs.dtype != np.uint8 or golden.inputs.ndim != 4:
        raise BundleError(file, "inputs, outputs and origins do not belong together")
    return golden


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
