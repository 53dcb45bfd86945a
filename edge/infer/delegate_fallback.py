"""The configured delegate over the life of a daemon: tried, watched, rested after crashes, tried again."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.contract.bundle import expect_manifest, load_bundle
from edge.contract.manifest import AnyManifest
from edge.errors import BundleError, InferenceError
from edge.infer import LoadedModel, load_on_delegate
from edge.infer.delegates import DelegateSpec, probe_delegate
from edge.system.crash_guard import CrashGuard

log = logging.getLogger(__name__)

RETRY_MAX_S: Final = 3600.0
"""A device may be plugged in after a week: it is looked for at least so often."""
REST_MAX_S: Final = 86_400.0
"""Longest rest of a delegate with which the daemon crashed."""
STABLE_S: Final = 3600.0
"""After so long without a crash the crashes before are forgotten."""
JOIN_TIMEOUT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class DelegateUpdate:
    """What became of the delegate.

    Attributes:
        model: the model on it; None where it cannot be used.
        reason: why it cannot be used, else None.
    """

    model: LoadedModel | None
    reason: str | None


class DelegateSupervisor:
    """Tries a delegate, first in a child process, and again while it cannot be used.

    A delegate that works in the child may still crash the daemon, then or in an hour. So it is written down before it
    is loaded here, and taken back when the daemon ends in order; what stands there at the next start was a crash, and
    the delegate rests: ``retry_s`` after the first, twice as long after each further one.

    Args:
        spec: the delegate.
        bundle: folder of the verified model.
        manifest: what was verified; nothing else runs, whatever lies in the folder by then.
        threads: of the CPU kernels.
        crash_guard: of this service.
        retry_s: the first pause.
        cancelled: whether the daemon is to end.
    """

    def __init__(
        self,
        spec: DelegateSpec,
        bundle: Path,
        manifest: AnyManifest,
        *,
        threads: int,
        crash_guard: CrashGuard,
        retry_s: float,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._spec, self._bundle, self._manifest, self._threads = spec, bundle, manifest, threads
        self._crash_guard = crash_guard
        self._retry_s = retry_s
        self._cancelled = cancelled
        self._key = f"delegate {spec.name} {spec.library}"
        self._in_use = False
        self._failed_tries = 0
        self._pause_s = retry_s
        self._news: deque[DelegateUpdate] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def try_now(self) -> DelegateUpdate:
        """Tries the delegate once; ends early when the daemon is to end."""
        rest_s = self._rest_s()
        try:
            model = None if rest_s else self._load()
        except (InferenceError, BundleError) as error:
            self._failed_tries += 1
            self._pause_s = min(self._retry_s * 2 ** (self._failed_tries - 1), RETRY_MAX_S)
            reason = f"{self._spec.name}: {error}"
        else:
            if model is not None:
                self._in_use = True
                log.info("%s runs the model", self._spec.name)
                return DelegateUpdate(model, None)
            self._pause_s = rest_s
            crashes = self._crash_guard.find(self._key).failures
            reason = f"{self._spec.name}: disabled after {crashes} {'crash' if crashes == 1 else 'crashes'}"
        log.warning("%s; the CPU is used, next try in %.0f s", reason, self._pause_s)
        return DelegateUpdate(None, reason)

    def watch(self) -> None:
        """Starts a thread that tries again until it works, and then waits until it can be called stable."""
        # A daemon thread: a driver that never returns must not keep the process alive.
        self._thread = threading.Thread(target=self._watch, name="delegate", daemon=True)
        self._thread.start()

    def take(self) -> DelegateUpdate | None:
        """The newest news that was not taken yet."""
        newest = None
        while self._news:
            newest = self._news.popleft()
        return newest

    def stop(self, *, clean: bool) -> bool:
        """Ends the thread.

        Args:
            clean: the daemon ends in order, so the delegate is not to blame.

        Returns:
            Whether the thread ended; one that is inside a driver does not.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_TIMEOUT_S)
            if self._thread.is_alive():
                return False
        if clean and self._in_use:
            self._crash_guard.end(self._key)
        return True

    def _watch(self) -> None:
        told = ""
        while not self._in_use:
            if self._stopping.wait(self._pause_s):
                return
            news = self.try_now()
            if self._stopping.is_set():
                return
            if news.model is not None or news.reason != told:
                self._news.append(news)
            told = news.reason or ""
        if not self._stopping.wait(STABLE_S):
            self._crash_guard.forgive(self._key)

    def _rest_s(self) -> float:
        """How long the delegate still rests after crashes; 0: not at all."""
        known = self._crash_guard.find(self._key)
        if not known.failures:
            return 0.0
        rest_s = min(self._retry_s * 2 ** (known.failures - 1), REST_MAX_S)
        passed_s = time.time() - known.at
        return rest_s - passed_s if 0 <= passed_s < rest_s else 0.0  # a clock that was set back must not prolong it

    def _load(self) -> LoadedModel:
        """Tries it in a child, then loads it here.

        Raises:
            InferenceError: it cannot be used.
            BundleError: the model does not reproduce its samples on it, or is damaged.
        """
        reason = probe_delegate(
            self._spec,
            bundle=self._bundle,
            manifest=self._manifest,
            threads=self._threads,
            cancelled=self._is_cancelled,
        )
        if reason:
            raise InferenceError(reason)
        self._crash_guard.begin(self._key)
        if self._crash_guard.is_kept and not self._crash_guard.writable:
            self._crash_guard.end(self._key)
            raise InferenceError("not loaded: the state folder cannot be written, a crash would not be remembered")
        try:
            bundle = load_bundle(self._bundle, check=expect_manifest(self._bundle, self._manifest))
            return load_on_delegate(bundle, self._spec, threads=self._threads)
        except (InferenceError, BundleError):
            self._crash_guard.end(self._key)
            raise

    def _is_cancelled(self) -> bool:
        return self._stopping.is_set() or self._cancelled()
