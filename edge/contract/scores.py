"""From a model's integer logits to calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def dequantize(raw: npt.NDArray[np.generic], *, scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """Real values of integer tensors, ``scale * (raw - zero_point)``; float tensors pass with scale 1, zero point 0.

    Args:
        raw: any shape, int8, uint8, int16 or float32.
        scale: the tensor's scale, > 0.
        zero_point: the tensor's zero point.
    """
    values: npt.NDArray[np.float32] = (raw.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return values


def softmax(
    logits: npt.NDArray[np.float32], *, temperature: float = 1.0, offsets: Sequence[float] | None = None
) -> npt.NDArray[np.float32]:
    """Probabilities ``softmax((logits + offsets) / temperature)`` along the last axis, float32.

    Args:
        logits: (..., labels) float32.
        temperature: > 0; fitted on labelled validation data (Guo et al., On Calibration of Modern Neural Networks,
            2017).
        offsets: (labels,) of an operating point (`edge.contract.manifest.LogitOffsets`); None for 0.
    """
    z = logits if offsets is None else logits + np.asarray(offsets, np.float32)
    z = z * np.float32(1.0 / temperature)
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = z / z.sum(axis=-1, keepdims=True)
    return probabilities
