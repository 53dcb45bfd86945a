"""The interpreter and the packages. Imports none of them at its top: a missing one is what it reports."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import struct
import sys
from typing import Final

from edge.commands.doctor.findings import Finding, Subject, note, ok, wrong
from edge.packages import RUNTIMES, install_line

PYTHONS: Final = ((3, 10), (3, 13))
PACKAGES: Final = {"numpy": "numpy", "cv2": "opencv-python-headless", "paho.mqtt": "paho-mqtt", "msgspec": "msgspec"}


def check_python(_: Subject) -> list[Finding]:
    """Version and width of the interpreter."""
    bits = 8 * struct.calcsize("P")
    found = f"{sys.version.split()[0]}, {bits} bit, {sys.executable}"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return [wrong("python", found, fix="Mien runs on Python 3.10 to 3.13")]
    if bits != 64:
        return [
            note(
                "python",
                found,
                fix=f"there are no wheels of litert for 32 bit: a 64-bit system, or {install_line('tflite')}",
            )
        ]
    return [ok("python", found)]


def check_packages(_: Subject) -> list[Finding]:
    """Check the packages that the daemon imports."""
    missing = [f"{package}: {problem}" for module, package in PACKAGES.items() if (problem := _import_problem(module))]
    found = [f"{package} {_version(package)}" for package in PACKAGES.values()]
    problems = [_import_problem(f"{runtime}.interpreter") for runtime in RUNTIMES]
    working = [runtime for runtime, problem in zip(RUNTIMES, problems, strict=True) if problem is None]
    missing += [] if working else [f"{RUNTIMES[0].replace('_', '-')}: {problems[0]}"]
    found += [f"{runtime.replace('_', '-')} {_version(runtime.replace('_', '-'))}" for runtime in working[:1]]
    if missing:
        return [wrong("packages", "; ".join(missing), fix=install_line())]
    return [ok("packages", ", ".join(found))]


def _import_problem(module: str) -> str | None:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # OpenCV prints there what it lacks
            importlib.import_module(module)
    except (ImportError, ValueError, AttributeError) as error:  # the last two: built for another numpy
        return str(error)
    return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of the system"
