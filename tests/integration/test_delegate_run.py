"""`mien run` with real delegate libraries: told why the CPU is used, tried again, and never a crash loop."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import Mosquitto, Subscriber, wait_until
from daemons import decoded, ended, toml_for
from delegates import build_delegate

Start = Callable[..., subprocess.Popen[str]]


class Device:
    """A daemon's surroundings that outlive it: a state folder, a broker, a delegate library."""

    def __init__(self, tmp_path: Path, run: Start, broker: Mosquitto, clip: Path) -> None:
        self.library, self.state = tmp_path / "libdelegate.so", tmp_path / "state"
        self.state.mkdir()
        self._run, self._port, self._clip = run, broker.port, clip

    def start(self, *, retry_s: float = 60) -> "subprocess.Popen[str]":
        emotion = f'[emotion]\ndelegate = "external"\noptions = {{ library = "{self.library}" }}\nretry_s = {retry_s}\n'
        return self._run(toml_for(self._clip, port=self._port, extra=emotion), STATE_DIRECTORY=str(self.state))


@pytest.fixture
def device(tmp_path: Path, run: Start, mosquitto: Callable[..., Mosquitto], clip: Path) -> Device:
    return Device(tmp_path, run, mosquitto(), clip)


@pytest.fixture
def heard(device: Device, subscribe: Callable[..., Subscriber]) -> Subscriber:
    return subscribe(device._port, "mien/pi/front/#")


def infos(heard: Subscriber) -> list[Any]:
    return [info["delegate"] for info in decoded(heard.on("info"))]


def wait_delegate(heard: Subscriber, name: str, *, count: int = 1) -> Any:
    """The newest ``info.delegate`` once so many were heard and it is this one."""
    wait_until(
        lambda: len(infos(heard)) >= count and infos(heard)[-1]["name"] == name,
        what=lambda: f"{count} × info, the last with {name}: {infos(heard)}",
        timeout_s=60,
    )
    return infos(heard)[-1]


def test_a_delegate_that_works_is_used_and_told(device: Device, heard: Subscriber) -> None:
    build_delegate(device.library)
    child = device.start()
    told = wait_delegate(heard, "external")
    assert (told["requested"], told["reason"], told["delegated_nodes"]) == ("external", None, 1)
    heard.wait_for("event", count=2)
    assert {event["delegate"] for event in decoded(heard.on("event"))} == {"external"}
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


@pytest.mark.parametrize(
    ("macro", "why"),
    [
        ("CRASH", r"external: .*libdelegate\.so crashed when it was tried \(SIGSEGV\)"),
        ("HANG", r"external: .*libdelegate\.so did not answer within 20 s"),
        ("REFUSE", r"external: .*libdelegate\.so: no device of this kind is plugged in"),
        (None, r"external: .*libdelegate\.so: cannot open shared object file: No such file or directory"),
    ],
    ids=["crash", "hang", "refuse", "missing"],
)
def test_a_delegate_that_does_not_work_is_a_published_reason_and_the_cpu_runs_the_model(
    macro: str | None, why: str, device: Device, heard: Subscriber
) -> None:
    if macro is not None:
        build_delegate(device.library, macro)
    child = device.start()
    told = wait_delegate(heard, "xnnpack")
    assert told["requested"] == "external"
    assert re.fullmatch(why, told["reason"]), told["reason"]
    assert {event["delegate"] for event in decoded(heard.wait_for("event", count=2))} == {"xnnpack"}
    heard.wait_for("problem")
    assert decoded(heard.on("problem"))[-1]["problems"] == [f"delegate: {told['reason']}"]
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0
    assert f"WARNING edge.infer.delegate_fallback: {told['reason']}; the CPU is used, next try in 60 s" in errors


def test_sigterm_while_a_hanging_delegate_is_tried_ends_the_start(device: Device, heard: Subscriber) -> None:
    build_delegate(device.library, "HANG")
    child = device.start()
    wait_until(lambda: _children(child.pid) != [], what=lambda: "a child that tries")
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child, timeout_s=15)
    assert code == 0, errors
    assert _children(child.pid) == []


def test_a_delegate_that_comes_later_takes_over_while_running(device: Device, heard: Subscriber) -> None:
    child = device.start(retry_s=1)
    wait_delegate(heard, "xnnpack")
    build_delegate(device.library)
    told = wait_delegate(heard, "external", count=2)
    assert told["reason"] is None
    heard.wait_for("problem", count=2)
    assert decoded(heard.on("problem"))[-1]["problems"] == []
    before = len(heard.on("event"))
    heard.wait_for("event", count=before + 1)
    assert decoded(heard.on("event"))[-1]["delegate"] == "external"
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


def test_a_delegate_that_crashes_the_daemon_is_disabled_longer_each_time(device: Device, heard: Subscriber) -> None:
    """It passes the child's try and the golden samples, and takes the daemon down some frames later."""
    build_delegate(device.library, "CRASH_AFTER=60")
    pauses_s = []
    for crashes in (1, 2):
        first = device.start()
        assert ended(first, timeout_s=60)[0] == -signal.SIGSEGV
        known = len(infos(heard))
        second = device.start()  # as systemd would
        told = wait_delegate(heard, "xnnpack", count=known + 1)
        assert told["reason"] == f"external: disabled after {crashes} crash{'es' if crashes > 1 else ''}"
        heard.wait_for("availability", b"online")
        second.send_signal(signal.SIGTERM)
        code, errors = ended(second)
        assert code == 0
        found = re.search(r"disabled after .*; the CPU is used, next try in (\d+) s", errors)
        assert found, errors
        pauses_s.append(int(found[1]))
        _let_time_pass(device.state / "attempts.json")
    assert 50 <= pauses_s[0] <= 60 < pauses_s[1] <= 120, pauses_s


def test_a_delegate_that_never_returns_neither_holds_up_the_end_nor_gets_another_try_at_once(
    device: Device, heard: Subscriber
) -> None:
    """Under systemd the watchdog ends such a daemon; here somebody stops it."""
    hanging = device.state.with_name("hanging")
    build_delegate(device.library, "HANG_AFTER=60", f'HANG_FILE="{hanging}"')
    child = device.start()
    wait_until(hanging.exists, what="the delegate to hang", timeout_s=60)
    child.send_signal(signal.SIGTERM)
    _, errors = ended(child, timeout_s=30)
    assert "a driver (camera or delegate) does not let go" in errors
    known = len(infos(heard))
    device.start()
    assert "disabled after 1 crash" in wait_delegate(heard, "xnnpack", count=known + 1)["reason"]


def test_a_kill_while_the_delegate_is_in_use_counts_and_a_stop_in_order_does_not(
    device: Device, heard: Subscriber
) -> None:
    build_delegate(device.library)
    child = device.start()
    wait_delegate(heard, "external")
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0
    child = device.start()
    wait_delegate(heard, "external", count=2)
    child.kill()
    ended(child)
    child = device.start()
    told = wait_delegate(heard, "xnnpack", count=3)
    assert "disabled after 1 crash" in told["reason"]


def test_a_state_folder_that_cannot_be_written_leaves_a_delegate_alone(device: Device, heard: Subscriber) -> None:
    build_delegate(device.library)
    device.state.rmdir()  # permissions do not stop root
    device.start()
    told = wait_delegate(heard, "xnnpack")
    assert told["reason"] == (
        "external: not loaded: the state folder cannot be written, a crash would not be remembered"
    )


def _let_time_pass(file: Path) -> None:
    """An hour later, as far as the file can tell."""
    attempts = json.loads(file.read_text())
    for entry in attempts["entries"].values():
        entry["at"] -= 3600
    file.write_text(json.dumps(attempts))


def _children(pid: int) -> list[str]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.split()
