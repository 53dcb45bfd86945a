"""The emulated device: a root file system that is kept between runs, wheels for it, and the service installed on it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from device.container import Container, make_root
from device.service import Service
from tools import ROOT, cache_folder, require_tool

SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""Debian's Python of each release; the wheels are made by ours and must fit."""
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def require_suite(what: str) -> str:
    """The Debian whose Python is of our version; skips where there is none, or where we are not root."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} needs root")
    suite = SUITES.get(sys.version_info[:2])
    if suite is None:
        pytest.skip(f"no Debian has Python {sys.version_info[0]}.{sys.version_info[1]}")
    return suite


@pytest.fixture(scope="session")
def device_root() -> Path:
    """The file system; half a minute the first time, kept in the user's cache."""
    require_tool("mmdebstrap", "apt-get install mmdebstrap")
    require_tool("systemd-nspawn", "apt-get install systemd-container")
    suite = require_suite("a container with systemd")
    root = cache_folder() / f"device-{suite}-1"
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount; a container with systemd needs that")
    with root.with_name(f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not root.is_dir():
            make_root(root, suite)
    return root


@pytest.fixture(scope="session")
def wheelhouses() -> Iterator[Path]:
    """``present``: Mien as it is; ``next`` says it is newer; ``broken`` is newer still and fails at its start.

    ``backend`` is what building Mien itself needs.
    """
    with tempfile.TemporaryDirectory(prefix="mien-wheels-") as name:
        folder = Path(name)
        present = folder / "present"
        lock = ["--constraint", str(ROOT / "requirements.lock")]
        subprocess.run([*PIP, "wheel", *lock, "--wheel-dir", present, ROOT], check=True)
        subprocess.run([*PIP, "wheel", "--wheel-dir", folder / "backend", "hatchling"], check=True)
        make_variant(folder / "next", beside=present, version="7.7.7")
        make_variant(folder / "broken", beside=present, version="8.8.8", fails=True)
        yield folder


def make_variant(wheelhouse: Path, *, beside: Path, version: str, fails: bool = False) -> None:
    """Another version of Mien with the same wheels around it."""
    source = wheelhouse.with_suffix(".source")
    shutil.copytree(ROOT / "edge", source / "edge", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for name in ("convert", "training"):
        (source / name).mkdir()
        (source / name / "__init__.py").touch()
    (source / "edge" / "__init__.py").write_text(f'"""Another version."""\n\n__version__ = "{version}"\n')
    if fails:
        with (source / "edge" / "service" / "daemon.py").open("a") as module:
            module.write('\n\ndef run_daemon(*_: object, **__: object) -> int:\n    raise OSError("broken")\n')
    shutil.copytree(beside, wheelhouse, copy_function=os.link, ignore=shutil.ignore_patterns("mien-*"))
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", wheelhouse, source], check=True)


@pytest.fixture(scope="session")
def boot(
    device_root: Path, wheelhouses: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Container]]:
    """Boots containers that see the sources in ``/src`` and the wheels in ``/wheels``."""
    booted: list[Container] = []

    def start(disk: Path | None = None) -> Container:
        log = tmp_path_factory.mktemp("console") / "log"
        booted.append(Container(device_root, log=log, binds={ROOT: "/src", wheelhouses: "/wheels"}, disk=disk))
        return booted[-1]

    yield start
    for container in booted:
        container.close()


@pytest.fixture(scope="session")
def installed(boot: Callable[[], Container]) -> Container:
    """A device on which the service was installed, with a broker."""
    container = boot()
    container.run("/src/systemd/install", "--wheelhouse", "/wheels/present", timeout_s=600)
    container.run("systemctl", "start", "mosquitto")
    return container


@pytest.fixture
def service(installed: Container, tmp_path: Path) -> Iterator[Service]:
    """The camera ``front`` on the installed device, stopped and without settings of its own."""
    yield (front := Service(installed, "front", heard=tmp_path / "heard"))
    front.remove()
