"""Interpreters that run TFLite models, and the emotion classifier."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.contract.bundle import Bundle
from edge.contract.golden import Golden, GoldenVerdict, Raw, compare_golden
from edge.contract.manifest import AnyManifest
from edge.errors import GoldenMismatchError, InferenceError, UsageError
from edge.infer.base import Interpreter
from edge.infer.delegates import LIBRARIES, load_delegate, probe_delegate
from edge.infer.litert import LitertInterpreter

log = logging.getLogger(__name__)

DELEGATES: Final = ("xnnpack", *LIBRARIES)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that reproduced its golden samples on this machine.

    Attributes:
        interpreter: ready to run.
        parity: how far it is from its samples.
        fallback_reason: why the CPU runs it instead of the delegate that was asked for; None when it does not.
    """

    interpreter: Interpreter
    parity: GoldenVerdict
    fallback_reason: str | None = None


def load_model(bundle: Bundle[AnyManifest], *, delegate: str = "xnnpack", threads: int = 1) -> LoadedModel:
    """Loads a bundle's model and replays its golden samples on the delegate in use.

    Args:
        bundle: a verified bundle.
        delegate: one of `DELEGATES`; where it cannot be had, or fails the samples, the CPU is used.
        threads: of the CPU kernels.

    Raises:
        GoldenMismatchError: the model does not reproduce its samples on the CPU either.
        InferenceError: the interpreter refuses the model.
        UsageError: an unknown delegate.
    """
    if delegate not in DELEGATES:
        raise UsageError(f"emotion.delegate: {delegate!r} is unknown; there are {', '.join(DELEGATES)}")
    reason = None
    if delegate != "xnnpack":
        try:
            return _load_on_delegate(bundle, LIBRARIES[delegate], threads)
        except (InferenceError, GoldenMismatchError, ValueError, OSError) as error:
            reason = f"{delegate}: {error}"
            log.warning("%s; the CPU is used", reason)
    interpreter = LitertInterpreter(bundle.model, manifest=bundle.manifest, threads=threads)
    return LoadedModel(interpreter, _demand_golden(interpreter, bundle), reason)


def replay_golden(interpreter: Interpreter, golden: Golden, *, max_steps: int) -> GoldenVerdict:
    """Runs the golden inputs and compares the raw outputs.

    Args:
        interpreter: a loaded model.
        golden: the samples.
        max_steps: allowed difference in quantization steps.
    """
    runs = [interpreter.run(sample) for sample in golden.inputs]
    measured: tuple[Raw, ...] = tuple(np.concatenate(outputs) for outputs in zip(*runs, strict=True))
    return compare_golden(golden, measured, max_steps=max_steps)


def _load_on_delegate(bundle: Bundle[AnyManifest], library: str, threads: int) -> LoadedModel:
    reason = probe_delegate(library)
    if reason:
        raise InferenceError(reason)
    if bundle.edgetpu_model is None:
        raise InferenceError(f"{bundle.path}: holds no model compiled for it (edgetpu_compiler)")
    interpreter = LitertInterpreter(
        bundle.edgetpu_model, manifest=bundle.manifest, threads=threads, delegate=load_delegate(library)
    )
    if not interpreter.delegated_nodes:
        raise InferenceError(f"{library} took none of the model's {interpreter.total_nodes} nodes")
    return LoadedModel(interpreter, _demand_golden(interpreter, bundle))


def _demand_golden(interpreter: Interpreter, bundle: Bundle[AnyManifest]) -> GoldenVerdict:
    spec = bundle.manifest.golden
    max_steps = spec.max_steps_xnnpack if interpreter.delegate == "xnnpack" else spec.max_steps_other
    verdict = replay_golden(interpreter, bundle.golden, max_steps=max_steps)
    if not verdict.passed:
        raise GoldenMismatchError(bundle.path / spec.file, f"{verdict} (delegate {interpreter.delegate})")
    return verdict
