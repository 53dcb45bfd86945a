"""The emotion classifier: crops in, calibrated scores out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.contract.manifest import EmotionManifest, Prior
from edge.contract.scores import dequantize, softmax
from edge.infer.base import Interpreter
from edge.records import Floats


class EmotionClassifier:
    """Runs one emotion model on every face of a frame, one invocation a face.

    A batch is not faster: XNNPACK's work is proportional to the number of faces, and another number of faces would mean
    planning the graph anew.

    Args:
        manifest: of the model.
        interpreter: runs it.
        prior: the operating point.

    Raises:
        BundleError: the manifest does not have the operating point.
    """

    def __init__(self, manifest: EmotionManifest, interpreter: Interpreter, *, prior: Prior = "natural") -> None:
        self._interpreter = interpreter
        self._output, self._temperature = manifest.outputs[0], manifest.temperature
        self._offsets = manifest.offsets(prior)
        self.labels, self.crop = manifest.labels, manifest.crop
        self.input_shape = manifest.input.shape[1:]
        self.is_grey = manifest.input.colour == "grey"

    def classify(self, crops: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> Floats:
        """Return the calibrated probabilities of every crop.

        Args:
            crops: n of (height, width, channels) uint8, contiguous, the model's input size.

        Returns:
            (n, labels) float32, rows sum to 1.
        """
        if not len(crops):
            return np.zeros((0, len(self.labels)), np.float32)
        raw = np.concatenate([self._interpreter.run(crop)[0] for crop in crops])
        logits = dequantize(raw, scale=self._output.scale, zero_point=self._output.zero_point)
        return softmax(logits, temperature=self._temperature, offsets=self._offsets)

    def replace_interpreter(self, interpreter: Interpreter) -> None:
        """Run the same model on another interpreter from now on; the present one is freed."""
        self._interpreter.close()
        self._interpreter = interpreter

    def close(self) -> None:
        """Free the model."""
        self._interpreter.close()
