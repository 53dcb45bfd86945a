"""A whole emulated system: Debian's own kernel and userland under qemu, with Mien installed and a virtual camera."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from device.arm64 import CPUINFO, PIP, aarch64_options, device_dependencies, register_interpreter
from device.console import parse_told
from tools import ROOT

PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,kmod,python3,python3-venv,ca-certificates,mosquitto,mosquitto-clients,procps,"
    "v4l-utils"
)
MODULES = ("vivid",)
GUEST = Path(__file__).parent / "guest"
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/lib/apt/lists",
    "var/cache/apt",
)

# systemctl sees that this is no booted system and only writes files; the cpuinfo: see `device.arm64`.
ENTER = """
set -e
mount --bind "$root" "$root"; mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"; [ -z "$cpuinfo" ] || mount --bind "$cpuinfo" "$root/proc/cpuinfo"
mkdir -p "$root/src" "$root/wheels"; mount --bind "$src" "$root/src"; mount --bind "$wheels" "$root/wheels"
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 QEMU_CPU=cortex-a72 \
  chroot "$root" "$@"
exit $?
"""


@dataclass(frozen=True)
class Architecture:
    """How a processor is emulated."""

    name: str
    qemu: tuple[str, ...]
    package: str
    console: str
    words: str
    described: str


ARCHITECTURES = {
    "arm64": Architecture(
        "arm64",
        ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"),
        "qemu-system-arm",
        "ttyAMA0",
        "",
        "arm64, Cortex-A72",
    ),
    "amd64": Architecture(
        "amd64",
        ("qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max"),
        "qemu-system-x86",
        "ttyS0",
        "edd=off no_timer_check",
        "x86_64",
    ),
}


@dataclass(frozen=True)
class Image:
    """What qemu boots: a kernel, and the whole file system as its initramfs."""

    architecture: Architecture
    kernel: Path
    initramfs: Path


def build_image(cache: Path, work: Path, *, arch: str, suite: str) -> Image:
    """Makes a Debian, installs Mien in it by ``systemd/install`` from a wheelhouse, enables the units, packs it.

    Args:
        cache: keeps the bare Debian and the kernel: minutes for another architecture, the first time.
        work: an empty folder for the rest.
        arch: key of `ARCHITECTURES`.
        suite: the Debian whose Python is of our own version.
    """
    if arch == "arm64" and not register_interpreter():
        raise SystemExit("this kernel hands no arm64 programs to qemu (binfmt_misc): apt-get install qemu-user-static")
    bare = _debootstrap(cache, "root", arch, suite, "--variant=minbase", PACKAGES)
    kernel = _debootstrap(cache, "kernel", arch, suite, "--variant=extract", f"linux-image-{arch}")
    root = work / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", bare, root], check=True)
    for name in LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    vmlinuz = _add_modules(kernel, root)
    wheels = work / "wheels"
    make_wheelhouse(wheels, arch=arch)
    _enter(root, wheels, arch, "/src/systemd/install", "front", "--wheelhouse", "/wheels")
    subprocess.run(["cp", "-rT", GUEST, root], check=True)
    units = ("mosquitto.service", "trial.service", "mien@front.service", "mien@scene.service")
    _enter(root, wheels, arch, "systemctl", "enable", "--quiet", *units)
    initramfs = work / "initramfs"
    pack = (
        f"cd {root} && rm -rf src wheels && find . -print0 | cpio --null --create --quiet --format=newc > {initramfs}"
    )
    subprocess.run(["bash", "-o", "pipefail", "-c", pack], check=True)
    return Image(ARCHITECTURES[arch], vmlinuz, initramfs)


def make_wheelhouse(folder: Path, *, arch: str) -> None:
    """Mien and all that it needs as wheels for the device."""
    lock = ("--constraint", str(ROOT / "requirements.lock"))
    foreign = aarch64_options() if arch == "arm64" else ["--only-binary=:all:"]
    subprocess.run([*PIP, "download", *foreign, *lock, "--dest", folder, *device_dependencies()], check=True)
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)


def _debootstrap(cache: Path, what: str, arch: str, suite: str, variant: str, packages: str) -> Path:
    key = hashlib.sha256(packages.encode()).hexdigest()[:8]
    folder = cache / f"machine-{what}-{arch}-{suite}-{key}"
    if not folder.is_dir():
        beside = folder.with_name(f"{folder.name}.{time.time_ns()}")
        command = ["mmdebstrap", "-q", variant, f"--arch={arch}", f"--include={packages}", suite, beside]
        subprocess.run(command, check=True)
        beside.rename(folder)
    return folder


def _add_modules(kernel: Path, root: Path) -> Path:
    """Copies the modules that are needed; returns the kernel's own file."""
    (vmlinuz,) = (kernel / "boot").glob("vmlinuz-*")
    version = vmlinuz.name.partition("-")[2]
    if not (kernel / "usr/lib/modules").exists():
        (kernel / "usr/lib").mkdir(parents=True, exist_ok=True)
        (kernel / "usr/lib/modules").symlink_to("../../lib/modules")
    if not (kernel / "lib").exists():
        (kernel / "lib").symlink_to("usr/lib")
    subprocess.run(["depmod", "-b", kernel, version], check=True)
    ask = ["modprobe", "-d", str(kernel), "-S", version, "--show-depends", "--ignore-install", "--all", *MODULES]
    shown = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
    target = root / "usr/lib/modules" / version
    target.mkdir(parents=True)
    for line in set(shown.splitlines()):
        kind, path = line.split()[:2]
        if kind == "insmod":
            module = target / path.partition(f"/{version}/")[2]
            module.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, module)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(kernel / "lib/modules" / version / name, target)
    subprocess.run(["depmod", "-b", root, version], check=True)
    return vmlinuz


def _enter(root: Path, wheels: Path, arch: str, *command: str) -> None:
    values = {"root": str(root), "src": str(ROOT), "wheels": str(wheels)}
    values["cpuinfo"] = str(CPUINFO) if arch == "arm64" else ""
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", ENTER, "enter", *command],
        env={**os.environ, **values},
        check=True,
    )


class Machine:
    """One run of it, from power on to power off; its console is a file, on which the guest tells JSON objects.

    Its clock counts instructions, 500 million of them a second (a slow Pi's pace), and leaps over idle times: how busy
    this machine is changes nothing for the guest, no timeout expires in it because its processor was taken away. One
    processor: two that wait for one another do not start in this mode.

    Args:
        image: what it boots.
        console: takes what it says.
    """

    def __init__(self, image: Image, console: Path) -> None:
        self._console = console
        words = f"console={image.architecture.console} rdinit=/lib/systemd/systemd panic=-1 quiet "
        words += image.architecture.words
        console.write_text("")
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            [
                *image.architecture.qemu, "-icount", "shift=1,sleep=off", "-smp", "1", "-m", "3072", "-no-reboot",
                "-nic", "none", "-display", "none", "-monitor", "none", "-serial", f"file:{console}",
                "-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", words,
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def told(self) -> Iterator[dict[str, Any]]:
        """What the guest has told so far, oldest first; a line that was cut in the middle is no line."""
        text = self._console.read_text(errors="replace")
        yield from parse_told(text)

    def wait_told(self, key: str, *, timeout_s: float) -> dict[str, Any]:
        """Waits until the guest told an object with this key.

        Raises:
            RuntimeError: it did not, or it ended before.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            ended = self.process.poll() is not None
            for each in self.told():
                if key in each:
                    return each
            if ended or time.monotonic() > end_s:
                tail = self._console.read_text(errors="replace")[-6000:]
                raise RuntimeError(f"no {key!r} {'until it ended' if ended else f'in {timeout_s:g} s'}:\n{tail}")
            time.sleep(0.2)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
