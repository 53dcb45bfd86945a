"""Models, delegates and cameras. What may crash or hang is tried in a child process, `edge.commands.doctor.trial`."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.capture import SOURCES, parse_source
from edge.capture.v4l2 import LINKS, find_identity
from edge.commands.doctor.camera_fixes import fix_of
from edge.commands.doctor.content import NO_PICTURE
from edge.commands.doctor.findings import LOAD_LIBRARY, Finding, Status, Subject, note, ok, run_child, wrong
from edge.system.redact import redact

MODELS_TIMEOUT_S: Final = 120.0
CAMERA_TIMEOUT_S: Final = 30.0
IMPORT_TIMEOUT_S: Final = 30.0
CORALS: Final = {("1a6e", "089a"), ("18d1", "9302")}
"""Vendor and product of the USB Accelerator before and after its firmware was loaded."""
CORAL_RULES: Final = Path("/etc/udev/rules.d/61-mien-coral.rules")


def check_models(subject: Subject) -> list[Finding]:
    """Load both models as the daemon does and replay their golden samples."""
    asked = [LOAD_LIBRARY] if subject.loads_library else []
    works, said = run_child(
        "-m", "edge.commands.doctor.trial", "models", *asked, *_file(subject), timeout_s=MODELS_TIMEOUT_S
    )
    if not works:
        return [
            wrong(
                "models",
                said,
                fix="mien bundle verify NAME says more; what ships comes back when Mien is installed again",
            )
        ]
    told = json.loads(said)
    another = "mien bundle verify DIR says more; mien bundle install DIR puts another in its place"
    findings = [
        ok("models", told["found"]),
        *(wrong("models", f"not the one asked for: {reason}", fix=another) for reason in told["models"]),
    ]
    if told["delegate"]:
        fix = 'emotion.delegate = "xnnpack" asks for the CPU'
        findings.append(wrong("delegate", f"{told['delegate']}; the CPU is used", fix=fix))
    if told["left_out"]:
        fix = f"mien doctor {LOAD_LIBRARY} loads it, which runs it"
        findings.append(note("delegate", f"{told['left_out']}: not looked at", fix=fix))
    return findings


def check_camera(subject: Subject) -> list[Finding]:
    """Open the source and look at what it shows."""
    source = subject.config.camera.source
    works, said = run_child("-m", "edge.commands.doctor.trial", "camera", *_file(subject), timeout_s=CAMERA_TIMEOUT_S)
    if not works and "another process" in said:
        return [note("camera", said, fix="that is as it should be while the service runs")]
    if not works:
        return [wrong("camera", said, fix=fix_of(said))]
    told = json.loads(said)
    said = told["found"]
    if told["doubt"]:
        # A still room is the same to the last bit through some codecs, and a face may be turned: that is worth a look.
        status: Status = "wrong" if NO_PICTURE in told["doubt"] else "note"
        found = f"{redact(source)}: {said}, and {told['doubt']}"
        return [Finding(check="camera", status=status, found=found, fix=fix_of(told["doubt"]))]
    spec = parse_source(source, kinds=SOURCES)
    stable = find_identity(spec.target) if spec.kind == "v4l2" else spec.target
    if stable != spec.target and Path(stable).is_relative_to(LINKS):
        return [note("camera", said, fix=f'camera.source = "{stable}" stays the same camera when numbers change')]
    return [ok("camera", f"{redact(source)}: {said}")]


def check_picamera2(subject: Subject) -> list[Finding]:
    """Check whether the system's library for Pi cameras can be imported beside our numpy."""
    wanted = parse_source(subject.config.camera.source, kinds=SOURCES).kind == "picamera2"
    there = importlib.util.find_spec("picamera2") is not None
    if not there and not wanted:
        return []
    works, said = run_child("-c", "import picamera2", timeout_s=IMPORT_TIMEOUT_S) if there else (False, "")
    if works:
        return [ok("picamera2", "can be imported")]
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
        findings.append(ok("coral", ", ".join(devices)))
    else:
        findings.append(
            wrong(
                "coral",
                "there is no Edge TPU",
                fix="lsusb shows 1a6e:089a or 18d1:9302 when it is plugged in; another cable or a powered hub",
            )
        )
    if ctypes.util.find_library("edgetpu") is None:
        findings.append(
            wrong(
                "coral",
                "libedgetpu is not installed",
                fix="sudo apt-get install libedgetpu1-std (from Coral's package source)",
            )
        )
    if not CORAL_RULES.exists():
        findings.append(
            note(
                "coral",
                "no udev rule gives the device to group video",
                fix=f"sudo systemd/install puts {CORAL_RULES} there; then plug the device in again",
            )
        )
    return findings


def _usb_corals(*, devices: Path = Path("/sys/bus/usb/devices")) -> Iterator[str]:
    for vendor in sorted(devices.glob("*/idVendor")):
        pair = tuple((vendor.parent / name).read_text().strip() for name in ("idVendor", "idProduct"))
        if pair in CORALS:
            yield f"USB {':'.join(pair)} at {vendor.parent.name}"


def _file(subject: Subject) -> list[str]:
    return [str(subject.file)] if subject.file else []
