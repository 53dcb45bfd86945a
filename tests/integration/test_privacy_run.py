"""In the default configuration no picture is made into a file, and nothing is written or sent but the messages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Mosquitto, Subscriber, wait_until
from daemons import STOP_PATIENCE_S, ended, toml_for, wait_events
from tools import ROOT, missing, require_tool

Start = Callable[..., subprocess.Popen[str]]

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

WATCHED_S = 40
"""Longer than from one health report to the next."""
PICTURE_WRITERS = ("imencode", "imencodemulti", "imencodeanimation", "imwrite", "imwritemulti", "imwriteanimation")
WATCH_WRITERS = f"""
import os, cv2

def watched(name, real):
    def note(*arguments, **options):
        with open(os.environ["WRITERS_LOG"], "a") as log:
            print(name, file=log)
        return real(*arguments, **options)
    return note

for name in {PICTURE_WRITERS!r}:
    if hasattr(cv2, name):
        setattr(cv2, name, watched(name, getattr(cv2, name)))
"""
CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)$")


def writers_watched(folder: Path) -> dict[str, str]:
    """An environment in which every Python notes calls of OpenCV's picture writers, in ``folder/writers``."""
    (folder / "sitecustomize.py").write_text(WATCH_WRITERS)
    return {"PYTHONPATH": f"{folder}:{ROOT}", "WRITERS_LOG": str(folder / "writers")}


def calls(log: Path) -> list[str]:
    """The finished system calls of strace's log, ``write(3</file>, ""..., 5) = 5``."""
    begun: dict[str, str] = {}
    finished = []
    for line in log.read_text(errors="replace").splitlines():
        if found := RESUMED.match(line):
            finished.append(begun.pop(found["pid"], "") + found["rest"])
        elif found := CALL.match(line):
            text = f"{found['name']}({found['rest']}"
            if text.endswith("<unfinished ...>"):
                begun[found["pid"]] = text.removesuffix("<unfinished ...>")
            else:
                finished.append(text)
    return finished


def count_written(log: Path) -> Counter[str]:
    """Bytes by where they went: a path, ``TCP``, ``standard error``, ``another process``."""
    written = Counter[str]()
    for call in calls(log):
        found = re.match(r"(?:p?writev?(?:64)?|send\w+)\((\d+)<([^>]*(?:->[^>]*)?)>.* = (\d+)$", call)
        if found is None:
            continue
        number, target, count = found[1], found[2], int(found[3])
        kind = target.partition(":")[0]
        if number == "2":
            target = "standard error"
        elif kind in ("TCP", "TCPv6", "UDP", "UDPv6"):
            target = kind
        elif kind in ("pipe", "anon_inode", "UNIX", "UNIX-STREAM", "UNIX-DGRAM"):
            target = "this machine"
        written[target] += count
    return written


def opened_for_writing(log: Path) -> set[str]:
    """Paths of files that could be written to, also through memory."""
    found = (re.match(r'openat\(.*?, "([^"]*)", (\S+?)[,)].* = \d+', call) for call in calls(log))
    return {match[1] for match in found if match and re.search("O_WRONLY|O_RDWR|O_CREAT", match[2])}


@pytest.fixture
def strace() -> str:
    program = require_tool("strace", "apt install strace")
    if subprocess.run([program, "-f", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        missing("ptrace", "strace may not trace here (a container: --cap-add=SYS_PTRACE)")
    return program


def test_by_default_nothing_is_written_or_sent_but_the_messages_and_the_outbox(
    broker: Mosquitto, heard: Subscriber, run: Start, tmp_path: Path, strace: str
) -> None:
    log, state = tmp_path / "strace", tmp_path / "state"
    state.mkdir()
    names = "write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,openat"
    # -D: the daemon is our child, strace its companion.
    prefix = [strace, "-D", "-f", "--seccomp-bpf", "-yy", "-s", "256", "-e", f"trace={names}", "-o", str(log)]
    child = run(
        toml_for("demo", port=broker.port, loop=False, extra='[privacy]\nuse_context = "research"\n'),
        prefix=prefix,
        STATE_DIRECTORY=str(state),
        PYTHONDONTWRITEBYTECODE="1",
        **writers_watched(tmp_path),
    )
    wait_events(heard, "face_appeared", 2)
    time.sleep(WATCHED_S)
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child, timeout_s=STOP_PATIENCE_S + 20)
    assert code == 0, errors
    heard.wait_quiet()
    wait_until(lambda: "+++ exited with 0 +++" in log.read_text(errors="replace")[-4000:], what="strace's end")

    assert not (tmp_path / "writers").exists(), (tmp_path / "writers").read_text()
    assert json.loads(heard.on("info")[0])["privacy"] == {"use_context": "research", "exemption": None}
    assert heard.on("health"), "watched for too short a time"
    messages = sum(len(message.topic) + len(message.payload) for message in heard.messages)
    written = count_written(log)
    outbox = sum(count for target, count in written.items() if target.startswith(f"{state}/outbox-front.db"))
    sent = written["TCP"]
    elsewhere = {
        target: count
        for target, count in written.items()
        if target not in ("TCP", "this machine") and not target.startswith(f"{state}/outbox-front.db")
    }
    assert sent == pytest.approx(messages, rel=0.1), written
    assert outbox > 0, written
    assert sum(elsewhere.values()) < 0.1 * messages, elsewhere
    print(f"{messages} bytes of messages, {sent} over TCP, {outbox} to the outbox, elsewhere {elsewhere}")
    strange = {path for path in opened_for_writing(log) if not path.startswith((str(state), "/dev/null", "/proc/self"))}
    assert not strange


def test_the_watch_on_picture_writers_notices_one(tmp_path: Path) -> None:
    """So that the test above means something."""
    portrait = next((ROOT / "edge").rglob("*.jpg"))
    command = [sys.executable, "-m", "edge", "replay", str(portrait), "--render", str(tmp_path / "out.png")]
    done = subprocess.run(
        command, env={**os.environ, **writers_watched(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "imencode" in (tmp_path / "writers").read_text()
