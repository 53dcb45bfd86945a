"""Logits to probabilities, against the formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge.contract.scores import softmax


@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("offsets", [None, [0.0, 0.0, 0.0], [0.4, -1.2, 2.0]])
def test_softmax_adds_the_offsets_and_divides_by_the_temperature(
    temperature: float, offsets: list[float] | None
) -> None:
    logits = [1.5, -0.5, 0.25]
    powers = [math.exp((z + b) / temperature) for z, b in zip(logits, offsets or [0.0] * 3, strict=True)]
    want = [power / sum(powers) for power in powers]
    got = softmax(np.array([logits], np.float32), temperature=temperature, offsets=offsets)
    np.testing.assert_allclose(got, [want], rtol=1e-5)
