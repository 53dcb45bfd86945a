"""Brings a network back that plain int8 breaks: cheapest measures first, layers in float last."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One candidate of a repair, a row of the Pareto table.

    Attributes:
        name: what was done.
        accuracy: of the candidate on the evaluation pictures, 0..1.
        drop: fall of the accuracy in points, with its interval.
        drop_low: lower end.
        drop_high: upper end.
        p50_ms: median time of one run, one thread.
        bytes: size of the file.
        int8_macs_share: share of the multiply-accumulates done in int8.
        status: the gate's verdict.
        chosen: whether this candidate became the bundle.
    """

    name: str
    accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    p50_ms: float
    bytes: int
    int8_macs_share: float
    status: str
    chosen: bool
