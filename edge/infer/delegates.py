"""Hardware delegates: which there are, and their first try in a child process, where a crash does no harm."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from edge.config.loader import decode_options, shown
from edge.config.schema import Config, EmotionConfig, NoOptions, Section
from edge.contract.manifest import AnyManifest
from edge.errors import ConfigError, InferenceError
from edge.infer.litert import import_runtime

PROBE_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.1
REAP_TIMEOUT_S: Final = 2.0


class EdgeTpuOptions(Section, frozen=True):
    """A Coral Edge TPU; runs the bundle's compiled model."""

    library: Annotated[str, Meta(min_length=1, description="file name or path of the shared library")] = (
        "libedgetpu.so.1"
    )
    device: Annotated[str | None, Meta(description="usb, pci, usb:0 …; unset: the first one")] = None


class ExternalOptions(Section, frozen=True):
    """Any library with TensorFlow Lite's external delegate interface (Arm NN, VX, …); runs the bundle's plain model."""

    library: Annotated[str, Meta(min_length=1, description="path of the shared library")]
    options: Annotated[dict[str, str], Meta(description="handed to the library as they are")] = msgspec.field(
        default_factory=dict
    )


DELEGATES: Final[Mapping[str, type[Section]]] = {
    "xnnpack": NoOptions,
    "edgetpu": EdgeTpuOptions,
    "external": ExternalOptions,
}
"""Name to its options. XNNPACK is the CPU and built into the interpreter; the others are shared libraries."""


@dataclass(frozen=True, slots=True)
class DelegateSpec:
    """A delegate as configured.

    Attributes:
        name: ``edgetpu`` or ``external``.
        library: file name or path of its shared library.
        options: handed to it.
    """

    name: str
    library: str
    options: Mapping[str, str]

    @property
    def takes_compiled(self) -> bool:
        """Whether it runs a model compiled for it instead of the plain one."""
        return self.name == "edgetpu"


def parse_delegate(config: EmotionConfig) -> DelegateSpec | None:
    """The delegate that is asked for; None for the CPU.

    Args:
        config: names it.

    Raises:
        ConfigError: an unknown name, or options that it does not have; the message lists what there is.
    """
    if config.delegate not in DELEGATES:
        known = ", ".join(DELEGATES)
        raise ConfigError("emotion.delegate", f"{shown(config.delegate)} is unknown; there are {known}")
    options = decode_options(config.options, DELEGATES[config.delegate], key="emotion.options")
    if isinstance(options, EdgeTpuOptions):
        return DelegateSpec("edgetpu", options.library, {"device": options.device} if options.device else {})
    if isinstance(options, ExternalOptions):
        return DelegateSpec("external", options.library, options.options)
    return None


def without_own_library(config: Config) -> tuple[Config, str | None]:
    """Return a configuration with the CPU instead of a library that it names itself, and that library; else None.

    To load a library is to run it. The service does so, because it was told to; what only looks at a configuration
    does not.
    """
    spec = parse_delegate(config.emotion)
    if spec is None or (spec.name == "edgetpu" and spec.library == EdgeTpuOptions().library):
        return config, None
    emotion = msgspec.structs.replace(config.emotion, delegate="xnnpack", options={})
    return msgspec.structs.replace(config, emotion=emotion), spec.library


def probe_delegate(
    spec: DelegateSpec,
    *,
    bundle: Path,
    manifest: AnyManifest | None = None,
    threads: int = 1,
    timeout_s: float = PROBE_TIMEOUT_S,
    cancelled: Callable[[], bool] = lambda: False,
) -> str | None:
    """Loads a delegate, gives it the model and replays the golden samples, all in a child process.

    Args:
        spec: the delegate.
        bundle: folder of the model.
        manifest: what was verified of it; another bundle that lies there by now is refused. None: whatever lies there.
        threads: of the CPU kernels.
        timeout_s: a child that takes longer hangs.
        cancelled: asked several times a second; the child ends when it says so.

    Returns:
        None when all went well, else the reason why the delegate cannot be used.
    """
    expected = msgspec.json.encode(manifest).decode() if manifest is not None else None
    request = json.dumps({"spec": asdict(spec), "bundle": str(bundle), "manifest": expected, "threads": threads})
    command = [sys.executable, "-m", "edge.infer.probe", request]
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        return f"{spec.library} could not be tried: no child process: {error.strerror or error}"
    deadline = time.monotonic() + timeout_s
    while not cancelled() and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            told, _ = child.communicate(timeout=POLL_S)
            return _explain(spec, child.returncode, told.decode(errors="replace"))
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold it for ever
        child.communicate(timeout=REAP_TIMEOUT_S)
    return "stopped while it was tried" if cancelled() else f"{spec.library} did not answer within {timeout_s:g} s"


def load_delegate(spec: DelegateSpec) -> Any:
    """Loads a delegate's library into this process; probe it first.

    Raises:
        InferenceError: there is no such library, it is no delegate, or it finds no device.
    """
    try:
        return import_runtime().load_delegate(spec.library, dict(spec.options))
    except OSError as error:
        raise InferenceError(str(error)) from None
    except AttributeError:
        raise InferenceError(f"{spec.library}: no delegate (it has no tflite_plugin_create_delegate)") from None
    except ValueError as error:
        _, _, reason = str(error).partition("\n")  # the first line says again which library it was
        raise InferenceError(f"{spec.library}: {' '.join(reason.split()) or 'no device found'}") from None


def _explain(spec: DelegateSpec, code: int, told: str) -> str | None:
    if code == 0:
        return None
    if code < 0:
        return f"{spec.library} crashed when it was tried ({signal.Signals(-code).name})"
    return " ".join(told.split()) or f"{spec.library} cannot be used (exit status {code})"
