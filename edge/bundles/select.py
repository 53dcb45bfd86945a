"""Which bundle runs: the one that is asked for, and where it cannot be used the next best, with the reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from edge.bundles.locate import candidate_bundles, find_bundle, is_shipped
from edge.bundles.signing import check_signature
from edge.config.schema import Config
from edge.contract.bundle import MANIFEST_FILE, Bundle
from edge.contract.manifest import AnyManifest
from edge.errors import BundleError, InferenceError, MissingDependencyError, WrongTaskError
from edge.infer import LoadedModel, load_model
from edge.system.crash_guard import CrashGuard

log = logging.getLogger(__name__)

TRIALS: Final = 3
"""Starts of the service that a new bundle gets to become ready; then the one before it is used."""

SHIPPED: Final = "shipped"
"""Source of a bundle that came with the program."""

M = TypeVar("M", bound=AnyManifest, covariant=True)


@dataclass(frozen=True, slots=True)
class BundleRules:
    """What a bundle must be to run.

    Attributes:
        trusted_keys: one of them must have signed it, unless it ships with Mien; empty: no signature is needed.
        allow_failed: it may have failed its accuracy gate.
        threads: of the interpreter.
    """

    trusted_keys: Sequence[str] = ()
    allow_failed: bool = False
    threads: int = 1


def rules_of(config: Config) -> BundleRules:
    """The rules of a configuration."""
    return BundleRules(
        trusted_keys=config.bundles.trusted_keys,
        allow_failed=config.emotion.allow_failed,
        threads=config.emotion.threads,
    )


@dataclass(frozen=True, slots=True)
class ChosenBundle(Generic[M]):
    """A bundle that verified, with its model on the CPU.

    Attributes:
        bundle: as read from the disk.
        model: reproduced its golden samples.
        reason: why it is not the one that was asked for; None when it is.
    """

    bundle: Bundle[M]
    model: LoadedModel
    reason: str | None = None

    @property
    def source(self) -> str:
        """``shipped``, or the folder where it lies."""
        return SHIPPED if is_shipped(self.bundle.path) else str(self.bundle.path)


def choose_bundle(
    name_or_path: str,
    load: Callable[[Path], Bundle[M]],
    *,
    fallback: str,
    rules: BundleRules,
    crash_guard: CrashGuard | None,
) -> ChosenBundle[M]:
    """Loads the best bundle that can be used.

    Args:
        name_or_path: as configured.
        load: reads and verifies one.
        fallback: name of the shipped bundle that is the last resort.
        rules: what it must be.
        crash_guard: remembers which ones did not become ready; None: the first one, or its error.

    Raises:
        BundleError: none can be used; the message says of each why.
        WrongTaskError: what is asked for is something else.
        InferenceError: the one that is asked for is refused by the interpreter, and ``crash_guard`` is None.
    """
    if crash_guard is None:
        bundle = load(find_bundle(name_or_path))
        return ChosenBundle(bundle, load_verified_model(bundle, rules))
    problems: list[BundleError] = []
    for folder in candidate_bundles(name_or_path, fallback=fallback):
        try:
            chosen = _try_bundle(folder, load, rules, crash_guard)
        except WrongTaskError:
            raise
        except BundleError as error:
            problems.append(error)
            log.warning("%s; trying the bundle before it", error)
            continue
        reason = "; ".join(map(str, problems)) or None
        if reason:
            log.error("%s is used instead of %s", chosen.bundle.manifest.full_name, name_or_path)
        return ChosenBundle(chosen.bundle, chosen.model, reason)
    if len(problems) == 1:
        raise problems[0]
    raise BundleError(name_or_path, f"no bundle can be used: {'; '.join(map(str, problems))}")


def load_verified_model(bundle: Bundle[AnyManifest], rules: BundleRules) -> LoadedModel:
    """Demands what `BundleRules` say and that the model reproduces its golden samples; returns it loaded.

    Raises:
        BundleError: it may not run, or does not reproduce its samples.
        InferenceError: the interpreter refuses it.
        MissingDependencyError: signatures cannot be checked here.
    """
    if not is_shipped(bundle.path):
        check_signature(bundle, rules.trusted_keys)
    if bundle.manifest.status == "failed" and not rules.allow_failed:
        raise BundleError(
            bundle.path / MANIFEST_FILE,
            "status: failed: the model lost more accuracy than was allowed; emotion.allow_failed = true runs it anyway",
        )
    return load_model(bundle, threads=rules.threads)


def trial_key(folder: Path) -> str:
    """Under which name `CrashGuard` knows a bundle."""
    return f"bundle {folder}"


def _try_bundle(
    folder: Path, load: Callable[[Path], Bundle[M]], rules: BundleRules, crash_guard: CrashGuard
) -> ChosenBundle[M]:
    """A bundle that did not ship is on trial until the service says that it is ready with it."""
    key, on_trial = trial_key(folder), not is_shipped(folder)
    known = crash_guard.find(key)
    if on_trial and known.failures >= TRIALS and not known.confirmed:
        raise BundleError(folder, f"the service did not become ready with it in {known.failures} starts")
    bundle = load(folder)
    if on_trial and not known.confirmed:
        crash_guard.begin(key)
    try:
        return ChosenBundle(bundle, load_verified_model(bundle, rules))
    except (BundleError, InferenceError, MissingDependencyError) as error:
        crash_guard.end(key)
        raise error if isinstance(error, BundleError) else BundleError(folder, str(error)) from None
