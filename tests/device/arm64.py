"""Debian's arm64 userland with Mien's aarch64 wheels, run by qemu: what a Pi would run, but not how fast."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from tools import ROOT

PACKAGES = "python3,libc6,libstdc++6,libgcc-s1,libcap2,dash,bash,coreutils,tzdata"
GLIBCS = ("2014", "_2_17", "_2_27", "_2_28", "_2_31", "_2_34", "_2_35")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
CPUINFO = Path(__file__).parent / "cpuinfo.pi4"

# Without /sys XNNPACK is silently left out; with the host's cpuinfo the interpreter crashes: a Pi's is laid over it.
# The program is no PID 1, which would ignore the signals that a crash raises.
ENTER = """
mount --bind "$root" "$root"; mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/tmp"; mount --bind "$cpuinfo" "$root/proc/cpuinfo"
mkdir -p "$root/src"; mount --bind "$src" "$root/src"; mount -o remount,ro,bind "$root/src"
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 QEMU_CPU="$cpu" \
  PYTHONPATH=/opt/site:/src chroot "$root" "$@"
exit $?
"""


def register_interpreter() -> bool:
    """Whether the kernel hands arm64 programs to qemu; asks for it where it does not yet."""
    if not BINFMT.joinpath("register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=False, capture_output=True)
    if not BINFMT.joinpath("qemu-aarch64").exists():
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], check=False, capture_output=True)
    return BINFMT.joinpath("qemu-aarch64").exists()


def make_arm64_root(cache: Path, suite: str) -> Path:
    """Unpacks the userland and the locked wheels, half a minute; kept under the hash of the lock file.

    Args:
        cache: folder of the roots.
        suite: the Debian whose Python is of our own version, so that pip's markers fit.
    """
    lock = ROOT / "requirements.lock"
    key = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + PACKAGES.encode()).hexdigest()
    root = cache / f"arm64-{suite}-{key[:12]}"
    if root.is_dir():
        return root
    beside = root.with_name(f"{root.name}.{time.time_ns()}")
    subprocess.run(
        ["mmdebstrap", "-q", "--variant=extract", "--arch=arm64", f"--include={PACKAGES}", suite, beside], check=True
    )
    for folder in ("etc/ssl/certs", "proc", "sys", "dev", "tmp", "src", "opt/site"):
        (beside / folder).mkdir(parents=True, exist_ok=True)
    lock_option = ("--constraint", str(lock))
    subprocess.run([*PIP, "install", *aarch64_options(), *lock_option, "--target", beside / "opt" / "site",
                    *device_dependencies()], check=True)  # fmt: skip
    beside.rename(root)
    return root


def run_arm64(root: Path, *command: str, cpu: str, timeout_s: float = 240) -> str:
    """Runs a command in the root, with our sources in ``/src``; returns what it wrote to standard output.

    Args:
        root: of `make_arm64_root`.
        command: program and arguments.
        cpu: qemu's model: cortex-a53 (Pi 3, Zero 2 W), cortex-a72 (Pi 4), cortex-a76 (Pi 5); a wheel that needs more
            stops with SIGILL.
        timeout_s: until it is killed.
    """
    values = {"root": str(root), "src": str(ROOT), "cpu": cpu, "cpuinfo": str(CPUINFO)}
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", ENTER, "arm64", *command],
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{cpu}: {' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def aarch64_options() -> list[str]:
    """Makes pip take wheels for a Pi's processor and a Python of our own version."""
    python = f"{sys.version_info[0]}{sys.version_info[1]}"
    platforms = [word for tag in GLIBCS for word in ("--platform", f"manylinux{tag}_aarch64")]
    abis = [word for abi in (f"cp{python}", "abi3", "none") for word in ("--abi", abi)]
    return ["--only-binary=:all:", *platforms, "--implementation", "cp", "--python-version", python, *abis]


def device_dependencies() -> list[str]:
    """What a device installs, out of ``pyproject.toml``."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    dependencies: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return dependencies
