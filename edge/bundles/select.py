"""Choice of the bundle that runs: the configured one, or the next best with the reason."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from edge.bundles.locate import candidate_bundles, find_bundle, is_shipped
from edge.bundles.signing import check_signature
from edge.config.schema import Config
from edge.contract.bundle import MANIFEST_FILE, Bundle, Check
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
    """Requirements that a bundle must meet to run.

    Attributes:
        trusted_keys: one of them must have signed it, unless it ships with Mien; empty: no signature is needed.
        allow_failed: it may have failed its accuracy gate.
        threads: of the interpreter.
    """

    trusted_keys: Sequence[str] = ()
    allow_failed: bool = False
    threads: int = 1

    def check(self, folder: Path) -> Check:
        """Return what a bundle must pass before anything but its manifest is read."""

        def check(_: AnyManifest, raw: bytes) -> None:
            if not is_shipped(folder):
                check_signature(folder, raw, self.trusted_keys)

        return check


class Loader(Protocol[M]):
    """Reads and verifies a bundle, such as `edge.contract.bundle.load_emotion_bundle`."""

    def __call__(self, path: Path, *, check: Check | None = None) -> Bundle[M]:
        """Return the bundle; raises `BundleError`."""
        ...


def rules_of(config: Config) -> BundleRules:
    """Return the rules of a configuration."""
    return BundleRules(config.bundles.trusted_keys, config.emotion.allow_failed, config.emotion.threads)


@dataclass(frozen=True, slots=True)
class ChosenBundle(Generic[M]):
    """A verified bundle with its loaded model; its golden samples and files are no longer in memory.

    Attributes:
        path: its folder.
        manifest: its manifest.
        model: reproduced its golden samples.
        reason: why it is not the configured one; None when it is.
    """

    path: Path
    manifest: M
    model: LoadedModel
    reason: str | None = None

    @property
    def source(self) -> str:
        """``shipped``, or the bundle's folder."""
        return SHIPPED if is_shipped(self.path) else str(self.path)


def choose_bundle(
    name_or_path: str,
    load: Loader[M],
    *,
    fallback: str,
    rules: BundleRules,
    crash_guard: CrashGuard | None,
) -> ChosenBundle[M]:
    """Load the best usable bundle.

    Args:
        name_or_path: as configured.
        load: reads and verifies one.
        fallback: name of the shipped bundle that is the last resort.
        rules: requirements.
        crash_guard: remembers the bundles with which the service did not become ready; None: the configured bundle, or
            its error.

    Raises:
        BundleError: none can be used; the message gives the reason for each.
        WrongTaskError: the configured one has another task.
        InferenceError: the interpreter refuses the configured one, and ``crash_guard`` is None.
    """
    if crash_guard is None:
        folder = find_bundle(name_or_path)
        return _load_chosen(load(folder, check=rules.check(folder)), rules)
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
        if problems:
            log.error("%s is used instead of %s", chosen.manifest.full_name, name_or_path)
        return replace(chosen, reason="; ".join(map(str, problems)) or None)
    if len(problems) == 1:
        raise problems[0]
    raise BundleError(name_or_path, f"no bundle can be used: {'; '.join(map(str, problems))}")


def load_verified_model(bundle: Bundle[AnyManifest], rules: BundleRules) -> LoadedModel:
    """Load the model of a bundle whose signature was checked (`BundleRules.check`); it must reproduce its samples.

    Raises:
        BundleError: it may not run, or does not reproduce its samples.
        InferenceError: the interpreter refuses it.
    """
    if bundle.manifest.status == "failed" and not rules.allow_failed:
        raise BundleError(
            bundle.path / MANIFEST_FILE,
            "status: failed: the model lost more accuracy than was allowed; emotion.allow_failed = true runs it anyway",
        )
    return load_model(bundle, threads=rules.threads)


def trial_key(folder: Path) -> str:
    """Return the key of a bundle in `CrashGuard`."""
    return f"bundle {folder}"


def _load_chosen(bundle: Bundle[M], rules: BundleRules) -> ChosenBundle[M]:
    return ChosenBundle(bundle.path, bundle.manifest, load_verified_model(bundle, rules))


def _try_bundle(folder: Path, load: Loader[M], rules: BundleRules, crash_guard: CrashGuard) -> ChosenBundle[M]:
    """Load a candidate; an installed one is on trial until the service was ready with it once."""
    key = trial_key(folder)
    known = crash_guard.find(key)
    on_trial = not (known.confirmed or is_shipped(folder))
    if on_trial and known.failures >= TRIALS:
        raise BundleError(folder, f"the service did not become ready with it in {known.failures} starts")
    if on_trial:
        crash_guard.begin(key)  # before it is read: what dies of the memory that it takes counts as well
    try:
        return _load_chosen(load(folder, check=rules.check(folder)), rules)
    except (BundleError, InferenceError, MissingDependencyError) as error:
        crash_guard.end(key)
        raise error if isinstance(error, BundleError) else BundleError(folder, str(error)) from None
