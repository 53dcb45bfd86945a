"""Interpreters that run TFLite models, and the emotion classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.contract.bundle import Bundle
from edge.contract.golden import Golden, GoldenVerdict, Raw, compare_golden
from edge.contract.manifest import AnyManifest
from edge.errors import GoldenMismatchError, InferenceError
from edge.infer.base import Interpreter
from edge.infer.delegates import DelegateSpec, load_delegate
from edge.infer.litert import LitertInterpreter


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that reproduced its golden samples on this machine.

    Attributes:
        interpreter: ready to run.
        parity: how far it is from its samples.
    """

    interpreter: Interpreter
    parity: GoldenVerdict


def load_model(bundle: Bundle[AnyManifest], *, threads: int = 1) -> LoadedModel:
    """Loads a bundle's model on the CPU and replays its golden samples there.

    Args:
        bundle: a verified bundle.
        threads: of the kernels.

    Raises:
        GoldenMismatchError: the model does not reproduce its samples.
        InferenceError: the interpreter refuses the model.
    """
    interpreter = LitertInterpreter(bundle.model, manifest=bundle.manifest, threads=threads)
    return LoadedModel(interpreter, _demand_golden(interpreter, bundle))


def load_on_delegate(bundle: Bundle[AnyManifest], spec: DelegateSpec, *, threads: int = 1) -> LoadedModel:
    """Loads a bundle's model on a delegate, in this process, and replays its golden samples there.

    A library of the wrong version crashes the process or never returns: `probe_delegate` first.

    Args:
        bundle: a verified bundle.
        spec: the delegate.
        threads: of the CPU kernels, which run what the delegate leaves over.

    Raises:
        InferenceError: no such library or device, no model for it in the bundle, or it takes no node of the model.
        GoldenMismatchError: the model does not reproduce its samples on it.
    """
    model = bundle.edgetpu_model if spec.takes_compiled else bundle.model
    if model is None:
        raise InferenceError(f"{bundle.path}: holds no model compiled for it (edgetpu_compiler)")
    interpreter = LitertInterpreter(
        model, manifest=bundle.manifest, threads=threads, delegate=load_delegate(spec), name=spec.name
    )
    if not interpreter.delegated_nodes:
        raise InferenceError(f"{spec.library} took none of the model's {interpreter.total_nodes} nodes")
    return LoadedModel(interpreter, _demand_golden(interpreter, bundle))


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


def _demand_golden(interpreter: Interpreter, bundle: Bundle[AnyManifest]) -> GoldenVerdict:
    spec = bundle.manifest.golden
    max_steps = spec.max_steps_xnnpack if interpreter.delegate == "xnnpack" else spec.max_steps_other
    verdict = replay_golden(interpreter, bundle.golden, max_steps=max_steps)
    if not verdict.passed:
        raise GoldenMismatchError(bundle.path / spec.file, f"{verdict} (delegate {interpreter.delegate})")
    return verdict
