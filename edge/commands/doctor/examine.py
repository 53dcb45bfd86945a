"""The table of checks, and the report that they give."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from edge import __version__
from edge.commands.doctor.findings import DoctorReport, Finding, Subject, ok, wrong
from edge.config.loader import load_config
from edge.config.schema import Config
from edge.errors import ConfigError, MienError, MissingDependencyError
from edge.registry import load_entry

_ROOM: Final = "edge.commands.doctor"
CHECKS: Final[Mapping[str, str]] = {
    "python": f"{_ROOM}.packages:check_python",
    "packages": f"{_ROOM}.packages:check_packages",
    "models": f"{_ROOM}.parts:check_models",
    "camera": f"{_ROOM}.parts:check_camera",
    "picamera2": f"{_ROOM}.parts:check_picamera2",
    "coral": f"{_ROOM}.parts:check_coral",
    "broker": f"{_ROOM}.broker:check_broker",
    "outbox": f"{_ROOM}.machine:check_outbox",
    "clock": f"{_ROOM}.machine:check_clock",
    "service": f"{_ROOM}.machine:check_service",
    "reach": f"{_ROOM}.machine:check_reach",
}
"""Name to what looks at it, imported when it does: without a package the others still look.

One that does not concern this machine or configuration finds nothing.
"""
COLOURS: Final = {"ok": "green", "note": "yellow", "wrong": "bold red"}
SERVICE_FILES: Final = Path("/etc/mien")


def examine(file: Path | None, *, loads_library: bool = False) -> DoctorReport:
    """Look at everything once.

    Args:
        file: the configuration; None for the defaults.
        loads_library: see `Subject`.
    """
    config, findings = _read(file)
    if config is not None:
        subject = Subject(config, file, loads_library)
        for name in CHECKS:
            findings += run_check(name, subject)
    return DoctorReport(
        version=__version__,
        config=str(file) if file else None,
        healthy=all(finding.status != "wrong" for finding in findings),
        findings=findings,
    )


def show_report(report: DoctorReport, *, as_json: bool, console: Console) -> None:
    """Print a report, one line a finding and one for its fix, or as JSON."""
    if as_json:
        json.dump(msgspec.to_builtins(report), sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    width = max(len(finding.check) for finding in report.findings)
    for finding in report.findings:
        line = Text(f"{finding.status:<6}", style=COLOURS[finding.status])
        console.print(
            line.append(f"{finding.check:<{width}}  {finding.found}", style="not bold default"), soft_wrap=True
        )
        if finding.fix:
            console.print(Text(f"{'':<6}{'':<{width}}  → {finding.fix}", style="dim"), soft_wrap=True)
    wrong = sum(finding.status == "wrong" for finding in report.findings)
    console.print(f"{wrong} wrong" if wrong else "nothing is wrong", style="bold")


def run_check(name: str, subject: Subject) -> list[Finding]:
    """Return the findings of one check; a package that it needs and that cannot be loaded is one.

    Args:
        name: of `CHECKS`.
        subject: what is looked at.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is the report's
            found: list[Finding] = load_entry(CHECKS, name, what="check")(subject)
    except MissingDependencyError as error:
        return [wrong(name, f"cannot be looked at: {error.package} is not installed", fix="see the row packages")]
    except (ImportError, AttributeError) as error:  # the last: built for another numpy
        return [wrong(name, f"cannot be looked at: {error}", fix="see the row packages")]
    except MienError as error:
        return [wrong(name, str(error))]
    return found


def _read(file: Path | None) -> tuple[Config | None, list[Finding]]:
    """Load the configuration; return it with the findings about it."""
    if file is None:
        others = ", ".join(map(str, sorted(SERVICE_FILES.glob("*.toml")))) if SERVICE_FILES.is_dir() else ""
        fix = f"mien doctor --config FILE; there are {others}" if others else ""
        return Config(), [Finding(check="config", status="note" if fix else "ok", found="the defaults", fix=fix)]
    try:
        config = load_config(file)
    except ConfigError as error:
        fix = "mien config example prints every key; the other checks need a configuration that can be read"
        return None, [wrong("config", str(error), fix=fix)]
    return config, [ok("config", str(file))]
