"""Models, delegates and cameras. What may crash or hang is tried in a child process, `edge.commands.doctor.trial`."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.capture import SOURCES, parse_source, redact
from edge.capture.v4l2 import LINKS, find_identity
from edge.commands.doctor.findings import Finding, Subject, run_child

MODELS_TIMEOUT_S: Final = 120.0
CAMERA_TIMEOUT_S: Final = 30.0
IMPORT_TIMEOUT_S: Final = 30.0
CORALS: Final = {("1a6e", "089a"), ("18d1", "9302")}
"""Vendor and product of the USB Accelerator before and after its firmware was loaded."""
CORAL_RULES: Final = Path("/etc/udev/rules.d/61-mien-coral.rules")


def check_models(subject: Subject) -> list[Finding]:
    """Load both models as the daemon does and replay their golden samples."""
    works, said = run_child("-m", "edge.commands.doctor.trial", "models", *_file(subject), timeout_s=MODELS_TIMEOUT_S)
    if not works:
        fix = "mien bundle verify NAME says more; what ships comes back with: pip install --force-reinstall mien"
        return [Finding(check="models", status="wrong", found=said, fix=fix)]
    told = json.loads(said)
    findings = [Finding(check="models", status="ok", found=told["found"])]
    for reason in told["models"]:
        fix = "mien bundle verify DIR says more; mien bundle install DIR puts another in its place"
        findings.append(Finding(check="models", status="wrong", found=f"not the one asked for: {reason}", fix=fix))
    if told["delegate"]:
        found, fix = f"{told['delegate']}; the CPU is used", 'emotion.delegate = "xnnpack" asks for the CPU'
        findings.append(Finding(check="delegate", status="wrong", found=found, fix=fix))
    return findings


def check_camera(subject: Subject) -> list[Finding]:
    """Open the source and take one frame."""
    source = subject.config.camera.source
    works, said = run_child("-m", "edge.commands.doctor.trial", "camera", *_file(subject), timeout_s=CAMERA_TIMEOUT_S)
    if not works and "another process" in said:
        fix = "that is as it should be while the service runs"
        return [Finding(check="camera", status="note", found=said, fix=fix)]
    if not works:
        fix = "camera.source: a number, a /dev path, an address, a file; ls -l /dev/v4l/by-id shows USB cameras"
        return [Finding(check="camera", status="wrong", found=said, fix=fix)]
    spec = parse_source(source, kinds=SOURCES)
    stable = find_identity(spec.target) if spec.kind == "v4l2" else spec.target
    if stable != spec.target and Path(stable).is_relative_to(LINKS):
        fix = f'camera.source = "{stable}" stays the same camera when numbers change'
        return [Finding(check="camera", status="note", found=said, fix=fix)]
    return [Finding(check="camera", status="ok", found=f"{redact(source)}: {said}")]


def check_picamera2(subject: Subject) -> list[Finding]:
    """Check whether the system's library for Pi cameras can be imported beside our numpy."""
    wanted = parse_source(subject.config.camera.source, kinds=SOURCES).kind == "picamera2"
    there = importlib.util.find_spec("picamera2") is not None
    if not there and not wanted:
        return []
    works, said = run_child("-c", "import picamera2", timeout_s=IMPORT_TIMEOUT_S) if there else (False, "")
    if works:
        return [Finding(check="picamera2", status="ok", found="can be imported")]
    if not there:
        fix = "sudo apt-get install python3-picamera2, and an environment made with --system-site-packages"
        found = "is not installed, or not visible from this environment"
    elif "numpy" in said:
        fix = "pip install 'numpy<2' 'opencv-python-headless<4.13': the system's picamera2 was built for numpy 1"
        found = said
    else:
        fix, found = "sudo apt-get install --reinstall python3-picamera2 python3-libcamera", said
    return [Finding(check="picamera2", status="wrong" if wanted else "note", found=found, fix=fix)]


def check_coral(subject: Subject) -> list[Finding]:
    """Look for an Edge TPU, where one is asked for."""
    if "edgetpu" not in subject.config.emotion.delegate:
        return []
    findings = []
    devices = [*_usb_corals(), *map(str, Path("/dev").glob("apex_*"))]
    if devices:
        findings.append(Finding(check="coral", status="ok", found=", ".join(devices)))
    else:
        fix = "lsusb shows 1a6e:089a or 18d1:9302 when it is plugged in; another cable or a powered hub"
        findings.append(Finding(check="coral", status="wrong", found="there is no Edge TPU", fix=fix))
    if ctypes.util.find_library("edgetpu") is None:
        fix = "sudo apt-get install libedgetpu1-std (from Coral's package source)"
        findings.append(Finding(check="coral", status="wrong", found="libedgetpu is not installed", fix=fix))
    if not CORAL_RULES.exists():
        fix = f"sudo systemd/install puts {CORAL_RULES} there; then plug the device in again"
        found = "no udev rule gives the device to group video"
        findings.append(Finding(check="coral", status="note", found=found, fix=fix))
    return findings


def _usb_corals(*, devices: Path = Path("/sys/bus/usb/devices")) -> Iterator[str]:
    for vendor in sorted(devices.glob("*/idVendor")):
        pair = tuple((vendor.parent / name).read_text().strip() for name in ("idVendor", "idProduct"))
        if pair in CORALS:
            yield f"USB {':'.join(pair)} at {vendor.parent.name}"


def _file(subject: Subject) -> list[str]:
    return [str(subject.file)] if subject.file else []
