"""Cameras under ``/dev/video*`` that can be plugged in, unplugged and frozen, in a ``/dev`` of their own.

Kernels in CI have no camera and load no module, so that the driver is a library between libc and the program
(``v4l2_driver.c``); whatever is above libc is the real thing, OpenCV's V4L2 code included.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

DRIVER = Path(__file__).with_name("v4l2_driver.c")

# A small /dev that this process and those that enter its namespace see; $1 is where it is built.
OWN_DEV = """
set -e
mount -t tmpfs tmpfs "$1"; mkdir -p "$1/shm" "$1/v4l/by-id"; ln -s /proc/self/fd "$1/fd"
for name in null zero full random urandom; do touch "$1/$name"; mount --bind "/dev/$name" "$1/$name"; done
mount --move "$1" /dev
echo ready
exec sleep 600
"""


class CameraBay:
    """A ``/dev`` with sockets for cameras; needs root.

    Args:
        folder: for its files.
        compiler: builds the driver, in a second.
    """

    def __init__(self, folder: Path, *, compiler: str) -> None:
        self._pictures, self._library = folder / "cameras", folder / "v4l2_driver.so"
        self._pictures.mkdir()
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", self._library, DRIVER, "-ldl"], check=True)
        (folder / "dev").mkdir()
        command = ["unshare", "--mount", "sh", "-c", OWN_DEV, "sh", folder / "dev"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._dev = Path(f"/proc/{self._holder.pid}/root/dev")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to see these cameras."""
        namespace = f"--mount=/proc/{self._holder.pid}/ns/mnt"
        return ("nsenter", namespace, "env", f"LD_PRELOAD={self._library}", f"V4L2_DRIVER={self._pictures}")

    def plug_in(self, node: str, *, identity: str, content: bytes) -> None:
        """A camera appears as ``/dev/NODE`` and ``/dev/v4l/by-id/IDENTITY``.

        Args:
            node: ``videoN``.
            identity: its stable name.
            content: what each of its buffers holds.
        """
        self.show(node, content)
        os.mknod(self._dev / node, stat.S_IFCHR | 0o660, os.makedev(1, 3))
        (self._dev / "v4l" / "by-id" / identity).symlink_to(f"../../{node}")

    def show(self, node: str, content: bytes) -> None:
        """From the next frame on its buffers hold this."""
        beside = self._pictures / f"{node}.next"
        beside.write_bytes(content)
        beside.rename(self._pictures / node)

    def unplug(self, node: str, *, identity: str) -> None:
        """Node and name are gone; whoever reads it is told that there is no such device."""
        (self._dev / "v4l" / "by-id" / identity).unlink()
        (self._dev / node).unlink()

    def freeze(self) -> None:
        """From now on no read comes back, and no signal ends one."""
        (self._pictures / "frozen").touch()

    def thaw(self) -> None:
        """Reads come back."""
        (self._pictures / "frozen").unlink()

    def close(self) -> None:
        """Ends the namespace's holder; the namespace goes with the last process in it."""
        self._holder.kill()
        self._holder.wait()
