"""Subjects and findings of the checks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from edge.config.schema import Config

LOAD_LIBRARY: Final = "--load-library"
STATE_DIR: Final = Path("/var/lib/mien")


Status: TypeAlias = Literal["ok", "note", "wrong"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    check: Annotated[str, Meta(description="what was looked at: python, broker, …")]
    status: Annotated[Status, Meta(description="note: worth knowing, and it works; wrong: it does not")]
    found: Annotated[str, Meta(description="one line")]
    fix: Annotated[str, Meta(description="what to do about it; empty where there is nothing to do")] = ""


def ok(check: str, found: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, status="ok", found=found)


def note(check: str, found: str, *, fix: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(check=check, status="note", found=found, fix=fix)


def wrong(check: str, found: str, *, fix: str = "") -> Finding:
    """Return a finding that something does not work."""
    return Finding(check=check, status="wrong", found=found, fix=fix)


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="mien.doctor/1"):
    """The report of `mien doctor --json`. Later versions may add fields and checks."""

    version: Annotated[str, Meta(description="of Mien")]
    config: Annotated[str | None, Meta(description="the configuration file; null: the defaults")]
    healthy: Annotated[bool, Meta(description="nothing is wrong")]
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class Subject:
    """The machine and configuration that are examined.

    Attributes:
        config: the configuration.
        file: where it comes from; None: the defaults.
        loads_library: whether a library that the configuration names may be loaded, which runs it.
    """

    config: Config
    file: Path | None
    loads_library: bool = False

    @property
    def instance(self) -> str | None:
        """Name of the service that reads this file, ``front`` of ``/etc/mien/front.toml``; None for other files."""
        is_service = self.file is not None and self.file.resolve().parent == Path("/etc/mien")
        return self.file.stem if is_service and self.file is not None else None

    @property
    def state_folder(self) -> Path | None:
        """Return the folder of what outlives a restart of the daemon that reads this file; None: there is none."""
        return self.config.mqtt.state_folder or (STATE_DIR / self.instance if self.instance else None)

    def secret_path(self, name_or_path: str, *, credential: str, suffix: str) -> str:
        """Return the file that systemd takes a credential from, where a service's configuration names the credential.

        Args:
            name_or_path: as configured.
            credential: the unit's name for it, ``mqtt-password``.
            suffix: of the file beside the configuration, ``password``.
        """
        if self.instance is None or name_or_path != credential or os.environ.get("CREDENTIALS_DIRECTORY"):
            return name_or_path
        return f"/etc/mien/{self.instance}.{suffix}"


def run_child(*arguments: str, timeout_s: float) -> tuple[bool, str]:
    """Run ``python ARGUMENTS``: what may crash or hang does so there.

    Returns:
        Whether it ended well, and the last line that it printed, or why it ended.
    """
    command = [sys.executable, *arguments]
    try:
        child = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return False, f"did not end within {timeout_s:g} s"
    if child.returncode < 0:
        return False, f"crashed ({signal.Signals(-child.returncode).name})"
    lines = (child.stderr if child.returncode else child.stdout).decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else f"exit code {child.returncode}"
    return child.returncode == 0, last.removeprefix("mien: error: ")
