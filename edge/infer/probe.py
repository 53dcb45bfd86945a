"""The child process in which a delegate is tried (``python -m edge.infer.probe``): it may crash or hang here."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from edge.contract.bundle import expect_manifest, load_bundle
from edge.contract.manifest import decode_manifest
from edge.errors import MienError
from edge.infer import load_on_delegate
from edge.infer.delegates import DelegateSpec

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Tries what the command line asks for.

    Returns:
        0 when the delegate runs the model and reproduces its samples; else 1, with the reason on standard output.
    """
    _die_with_parent()
    request = json.loads(sys.argv[1])
    out = _own_standard_output()
    try:
        folder, expected = Path(request["bundle"]), request["manifest"]
        manifest = decode_manifest(expected.encode(), file="what was verified") if expected else None
        bundle = load_bundle(folder, check=expect_manifest(folder, manifest) if manifest else None)
        load_on_delegate(bundle, DelegateSpec(**request["spec"]), threads=request["threads"])
    except MienError as error:
        os.write(out, str(error).encode())
        return 1
    return 0


def _die_with_parent() -> None:
    """A child that hangs must not outlive a daemon that was killed; prctl(2), Linux."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_standard_output() -> int:
    """Keeps standard output for the verdict: what the library prints goes nowhere."""
    out, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    return out


if __name__ == "__main__":
    code = main()
    # Without the interpreter's own goodbye: a library may crash in its destructors, and that proves nothing.
    os._exit(code)
