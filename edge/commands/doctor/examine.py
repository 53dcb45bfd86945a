"""The table of checks, and the report that they give."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from edge import __version__
from edge.commands.doctor.broker import check_broker
from edge.commands.doctor.findings import DoctorReport, Finding, Subject, ok, wrong
from edge.commands.doctor.machine import (
    check_clock,
    check_outbox,
    check_packages,
    check_python,
    check_reach,
    check_service,
)
from edge.commands.doctor.parts import check_camera, check_coral, check_models, check_picamera2
from edge.config.loader import load_config
from edge.config.schema import Config
from edge.errors import ConfigError, MienError

CHECKS: Final[Mapping[str, Callable[[Subject], list[Finding]]]] = {
    "python": check_python,
    "packages": check_packages,
    "models": check_models,
    "camera": check_camera,
    "picamera2": check_picamera2,
    "coral": check_coral,
    "broker": check_broker,
    "outbox": check_outbox,
    "clock": check_clock,
    "service": check_service,
    "reach": check_reach,
}
"""Name to what looks at it; one that does not concern this machine or configuration finds nothing."""
COLOURS: Final = {"ok": "green", "note": "yellow", "wrong": "bold red"}
SERVICE_FILES: Final = Path("/etc/mien")


def examine(file: Path | None) -> DoctorReport:
    """Look at everything once.

    Args:
        file: the configuration; None for the defaults.
    """
    config, findings = _read(file)
    if config is not None:
        subject = Subject(config, file)
        for name in CHECKS:
            findings += _examine_one(name, subject)
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


def _examine_one(name: str, subject: Subject) -> list[Finding]:
    try:
        return CHECKS[name](subject)
    except MienError as error:
        return [wrong(name, str(error))]


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
