"""The machine: clock, disk, service."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from edge.commands.doctor.findings import Finding, Subject, note, ok, wrong
from edge.publish.time_context import is_clock_synced
from edge.service.ip_allowlist import Network, allowed_networks, named_hosts, with_additions

SYSTEMCTL_TIMEOUT_S: Final = 5.0


def check_clock(_: Subject) -> list[Finding]:
    """Check whether timestamps can be trusted."""
    if is_clock_synced():
        return [ok("clock", "synchronized")]
    return [
        note(
            "clock",
            "not synchronized: events say clock_synced false, and their ts may be off",
            fix="timedatectl set-ntp true",
        )
    ]


def check_outbox(subject: Subject) -> list[Finding]:
    """Check the folder in which events outlive a restart."""
    folder = subject.state_folder
    if folder is None:
        return [
            note(
                "outbox",
                "events wait in memory only",
                fix="under systemd the service has a state folder; elsewhere set mqtt.outbox_dir",
            )
        ]
    try:
        made = next(parent for parent in (folder, *folder.parents) if parent.exists())
        disk = os.statvfs(made)
    except OSError as error:
        return [wrong("outbox", f"{folder}: {error.strerror}", fix="mqtt.outbox_dir")]
    if disk.f_flag & os.ST_RDONLY:
        return [
            wrong(
                "outbox",
                f"{folder} is on a file system that is mounted read-only",
                fix="mount -o remount,rw, or another folder",
            )
        ]
    if not made.is_dir() or not os.access(made, os.W_OK | os.X_OK):
        return [
            wrong(
                "outbox",
                f"{folder} cannot be written",
                fix=f"make the folder and give it to the user who runs mien (here: uid {os.geteuid()})",
            )
        ]
    free, wanted = disk.f_bavail * disk.f_frsize, 2 * subject.config.mqtt.queue_max_bytes
    found = f"{folder}, {free // 2**20:,} MiB free"
    if free < wanted:
        return [wrong("outbox", found, fix=f"free {wanted // 2**20} MiB, or lower mqtt.queue_max_bytes")]
    return [ok("outbox", found)]


def check_service(subject: Subject) -> list[Finding]:
    """Report what systemd says of the service that reads this configuration."""
    unit, known = _unit_of(subject)
    if unit is None:
        return []
    if known.get("LoadState") != "loaded":
        return [note("service", f"{unit} is not installed", fix=f"sudo systemd/install {subject.instance}")]
    state = f"{unit} is {known.get('ActiveState')} ({known.get('SubState')})"
    restarts = known.get("NRestarts", "0")
    if known.get("ActiveState") == "failed" or known.get("SubState") == "auto-restart":
        return [wrong("service", f"{state}: {known.get('Result')}", fix=f"journalctl -u {unit} -n 30")]
    if known.get("ActiveState") != "active":
        return [note("service", state, fix=f"sudo systemctl enable --now {unit}")]
    found = ", ".join(filter(None, [state, known.get("StatusText", "")]))
    if restarts != "0":
        return [note("service", f"{found}; restarted {restarts} times", fix=f"journalctl -u {unit} says why")]
    return [ok("service", found)]


def check_reach(subject: Subject) -> list[Finding]:
    """Check whether the service is let out to what its configuration names; this command is not confined as it is."""
    unit, known = _unit_of(subject)
    if "0.0.0.0/0" not in known.get("IPAddressDeny", "").split():
        return []
    networks = with_additions(allowed_networks(subject.config), known.get("IPAddressAllow", ""))
    findings = []
    for host in filter(None, named_hosts(subject.config)):
        away = _out_of_reach(host, networks)
        if away:
            findings.append(
                wrong(
                    "reach",
                    f"{unit} is not let out to {host} ({', '.join(away)})",
                    fix=f"sudo systemctl edit {unit}: [Service], IPAddressAllow={' '.join(away)}",
                )
            )
    return findings or [ok("reach", f"{unit} is let out to what it is to connect to")]


def _out_of_reach(host: str, networks: Sequence[Network]) -> list[str]:
    """All addresses of a host, where none of them lies in the networks; none where its name is not known."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return []
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in sorted(found)]
    return [] if any(address in network for address in addresses for network in networks) else list(map(str, addresses))


def _unit_of(subject: Subject) -> tuple[str | None, Mapping[str, str]]:
    """Name and properties of the service that reads this configuration; None and none where there cannot be one."""
    if subject.instance is None or shutil.which("systemctl") is None:
        return None, {}
    unit = f"mien@{subject.instance}"
    return unit, _unit_properties(unit)


def _unit_properties(unit: str) -> Mapping[str, str]:
    names = "LoadState,ActiveState,SubState,Result,NRestarts,StatusText,IPAddressAllow,IPAddressDeny"
    command = ["systemctl", "show", unit, f"--property={names}"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
