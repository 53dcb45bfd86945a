"""What every interpreter of TFLite models offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Interpreter(Protocol):
    """A loaded model with one input. Used by one thread.

    Attributes:
        delegate: what runs it: ``xnnpack``, ``edgetpu``, ``external`` or ``none``.
        delegated_nodes: nodes that the delegate took over.
        total_nodes: nodes of the execution plan; 1 when XNNPACK took the whole graph.
    """

    delegate: str
    delegated_nodes: int
    total_nodes: int

    def run(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.generic]]:
        """Runs the model once.

        Args:
            pixels: (height, width, channels) or (1, height, width, channels) uint8; the integer shift happens inside.

        Returns:
            The raw outputs in the manifest's order, valid until the next call.
        """
        ...

    def close(self) -> None:
        """Frees the model."""
        ...
