"""A Debian with a real systemd as PID 1, in a container that boots in seconds.

What is written there is forgotten, unless the container was given a disk.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from brokers import wait_until

PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,python3,python3-venv,ca-certificates,mosquitto,mosquitto-clients,procps,libcap2-bin"
)
ENVIRONMENT = (
    "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root",
    "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0", "TERM=dumb",
)  # fmt: skip
LONGEST_S = 900
"""A container ends by itself after so long, whatever became of the tests."""

# In a mount namespace of its own: nspawn wants the unified hierarchy, and a cgroup that is not the root's. With a disk,
# the root below it is laid under what was written there before.
BOOT = f"""
root=$1 disk=$2; shift 2
if [ -n "$disk" ]; then
  mkdir -p "$disk/upper" "$disk/work" "$disk/root"
  mount -t overlay overlay -o "lowerdir=$root,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
  root=$disk/root
else
  set -- --volatile=overlay "$@"
fi
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
  umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mkdir -p /sys/fs/cgroup/mien-test-$$/payload && echo $$ > /sys/fs/cgroup/mien-test-$$/payload/cgroup.procs
exec timeout -k 20 {LONGEST_S} systemd-nspawn -q -D "$root" "$@" </dev/null
"""


def make_root(folder: Path, suite: str) -> None:
    """Unpacks a small Debian; half a minute, and only once."""
    beside = folder.with_name(f"{folder.name}.{time.time_ns()}")
    subprocess.run(["mmdebstrap", "-q", "--variant=minbase", f"--include={PACKAGES}", suite, beside], check=True)
    (beside / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    beside.rename(folder)


class Container:
    """One booted system without a network.

    Args:
        root: its file system, which is not changed.
        disk: folder that takes what is written there, for the next boot; None: nothing is kept.
        log: takes its console.
        binds: folders of ours to the places where it sees them, read-only.
    """

    def __init__(self, root: Path, *, log: Path, binds: Mapping[Path, str], disk: Path | None = None) -> None:
        self._log = log
        options = [f"--bind-ro={ours}:{theirs}" for ours, theirs in binds.items()]
        options += ["--register=no", "--keep-unit", "--private-network", "--console=pipe", "-b"]
        with log.open("wb") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "bash", "-c", BOOT, "boot", str(root), str(disk or ""), *options],
                stdout=console,
                stderr=console,
            )
        self._leader = ""
        wait_until(self._find_leader, what=lambda: f"PID 1: {log.read_text(errors='replace')}")
        wait_until(self._answers, what="systemd's answer", timeout_s=60)
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, as root; standard output and standard error are one."""
        done = subprocess.run(
            [*self._entry(), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            input=text,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done

    def start(self, *command: str, output: Path) -> subprocess.Popen[bytes]:
        """Starts a command in it that writes to a file of ours."""
        with output.open("wb") as stream:
            return subprocess.Popen([*self._entry(), *command], stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)

    def write(self, path: str, text: str, *, mode: str = "644") -> None:
        """Writes a file in it."""
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, text=text)

    def exists(self, path: str) -> bool:
        """Whether there is such a file in it."""
        return self.run("test", "-e", path, check=False).returncode == 0

    def close(self) -> None:
        """Ends it at once, as when the power goes; a disk keeps what the kernel was given."""
        if self._process.poll() is None:
            subprocess.run(["kill", "-9", self._leader], check=True)
        self._process.wait(30)

    def _entry(self) -> list[str]:
        return ["nsenter", "-t", self._leader, "-a", "-r", "-w", *ENVIRONMENT]

    def _find_leader(self) -> bool:
        """PID 1 as seen from outside: the ``systemd`` below ``timeout`` and ``systemd-nspawn``."""
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        rows = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
        parents = {pid: (parent, name) for pid, parent, name in (row.split(None, 2) for row in rows.splitlines())}
        for pid, (parent, name) in parents.items():
            above, _ = parents.get(parent, ("", ""))
            if name == "systemd" and str(self._process.pid) in (parent, above):
                self._leader = pid
        return bool(self._leader)

    def _answers(self) -> bool:
        return Path(f"/proc/{self._leader}/root/run/systemd/private").is_socket()
