"""The aarch64 wheels and the int8 models on the processors of three Pis, emulated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from device.arm64 import make_arm64_root, register_interpreter, run_arm64
from device.fixtures import require_suite
from tools import ROOT, cache_folder, missing, require_tool

pytestmark = [pytest.mark.device, pytest.mark.timeout(600)]

CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")
BUNDLES = ("emotion-ferplus", "emotion-fer2013", "emotion-nano", "yunet-320x256")
PICTURE = "edge/capture/portraits/hopper.jpg"

VERIFY = """
import sys
from rich.console import Console
from edge.commands.bundle import verify_bundle
for name in sys.argv[1:]:
    verify_bundle(name, console=Console(width=200))
"""


@pytest.fixture(scope="module")
def arm64_root() -> Path:
    """The userland; 40 s the first time, kept in the user's cache."""
    require_tool("mmdebstrap", "apt-get install mmdebstrap")
    require_tool("qemu-aarch64-static", "apt-get install qemu-user-static binfmt-support arch-test")
    suite = require_suite("another architecture's userland")
    if not register_interpreter():
        missing("binfmt_misc", "this kernel hands no arm64 programs to qemu")
    return make_arm64_root(cache_folder(), suite)


@pytest.mark.parametrize("cpu", CPUS)
def test_every_shipped_kind_of_model_gives_the_same_integers_as_on_x86(arm64_root: Path, cpu: str) -> None:
    """XNNPACK's arm64 kernels against golden samples that were recorded on x86: not one step of difference."""
    told = run_arm64(arm64_root, "python3", "-c", VERIFY, *BUNDLES, cpu=cpu).splitlines()
    assert len(told) == len(BUNDLES)
    for name, line in zip(BUNDLES, told, strict=True):
        assert line.startswith(f"{name}@")
        assert "golden samples differ by up to 0 steps" in line
        assert "1 of 1 nodes on xnnpack" in line


def test_the_whole_chain_sees_on_arm64_what_it_sees_here(arm64_root: Path) -> None:
    """Decoding, resizing and cropping are OpenCV's, whose arm64 code may round a grey level otherwise."""
    there = run_arm64(arm64_root, "python3", "-m", "edge", "replay", f"/src/{PICTURE}", "--out", "-", cpu="cortex-a72")
    here = subprocess.run(
        [sys.executable, "-m", "edge", "replay", str(ROOT / PICTURE), "--out", "-"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    (face,), (expected,) = (json.loads(text)["faces"] for text in (there, here))
    np.testing.assert_allclose(face["xywh"], expected["xywh"], atol=2.0)
    assert face["emotion"] == expected["emotion"]
    assert face["scores"] == pytest.approx(expected["scores"], abs=0.03)
