from __future__ import annotations

import importlib.util
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.bundles.locate import shipped_bundles
from edge.commands.demo.broker import HOST, USUAL_PORT, run_broker
from edge.commands.demo.listener import Listener
from edge.commands.demo.run import BASE, make_config_text, run_demo
from edge.config.loader import load_config
from edge.errors import MissingDependencyError

needs_amqtt = pytest.mark.skipif(importlib.util.find_spec("amqtt") is None, reason="amqtt: pip install '.[demo]'")
needs_models = pytest.mark.skipif(
    not any(name.startswith("emotion-") for name in shipped_bundles()), reason="no emotion model is shipped yet"
)
COMMAND = [sys.executable, "-m", "edge", "demo"]
TIMEOUT_S = 90


def wait_for_text(child: subprocess.Popen[str], text: str) -> str:
    """Reads a child's lines until one holds the text; all that was read."""
    assert child.stdout is not None
    read = []
    for line in child.stdout:
        read.append(line)
        if text in line:
            return "".join(read)
    raise AssertionError(f"{text!r} did not come; {''.join(read)!r}")


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@needs_amqtt
def test_the_broker_hands_on_messages_and_is_gone_afterwards() -> None:
    with run_broker() as port, Listener(host=HOST, port=port, base=BASE) as listener:
        sender = paho.Client(CallbackAPIVersion.VERSION2)
        sender.connect(HOST, port)
        sender.loop_start()
        sender.publish(f"{BASE}/camera", "live", qos=1).wait_for_publish(10)
        assert listener.messages.get(timeout=10) == ("camera", "live")
        sender.disconnect()
        sender.loop_stop()
    assert not accepts(port)


@needs_amqtt
def test_two_brokers_stand_side_by_side() -> None:
    with run_broker() as one, run_broker() as other:
        assert one != other
        assert accepts(one)
        assert accepts(other)


@needs_amqtt
def test_a_broker_whose_usual_port_is_taken_takes_another() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((HOST, USUAL_PORT))
            taken.listen()
        except OSError:
            pass  # somebody else has it: all the better
        with run_broker() as port:
            assert port != USUAL_PORT
            assert accepts(port)


@needs_amqtt
def test_the_broker_ends_when_its_parent_is_killed() -> None:
    program = (
        "import time\n"
        "from edge.commands.demo.broker import run_broker\n"
        "with run_broker() as port:\n print(port, flush=True)\n time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while accepts(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not accepts(port)


def test_without_amqtt_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amqtt", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"-m pip install 'amqtt"):
        run_demo(seconds=1)


@pytest.mark.parametrize("camera", [None, "0", 'rtsp://host/a"b\\c', "gstreamer:videotestsrc ! fakesink"])
def test_the_demo_s_configuration_is_a_good_one(tmp_path: Path, camera: str | None) -> None:
    file = tmp_path / "demo.toml"
    file.write_text(make_config_text(port=4711, camera=camera), encoding="utf-8")
    config = load_config(file)
    assert config.camera.source == (camera or "demo")
    assert (config.mqtt.host, config.mqtt.port) == (HOST, 4711)
    assert f"{config.mqtt.prefix}/{config.device_name}/{config.camera.name}" == BASE


@needs_amqtt
@needs_models
def test_on_a_pipe_faces_and_events_come_over_mqtt_and_it_ends_with_0() -> None:
    done = subprocess.run([*COMMAND, "--seconds", "5"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    events = re.findall(r"^event: .*#(\d+)", done.stdout, re.MULTILINE)
    assert [int(seq) for seq in events] == list(range(1, len(events) + 1))
    assert len(events) >= 4
    assert re.search(
        r"^faces: \w+ (happy|neutral|uncertain|sad|angry|surprise|fear|disgust)", done.stdout, re.MULTILINE
    )
    assert f"{len(events)} events published to mqtt://{HOST}:" in done.stdout
    assert "none missing" in done.stdout
    assert "mosquitto_sub -h 127.0.0.1 -p" in done.stdout
    assert " demo --camera 0" in done.stdout
    assert "(stopped)" in done.stdout  # whoever was in view when it ended


@needs_amqtt
@needs_models
def test_a_subscriber_from_outside_sees_the_same_events() -> None:
    child = subprocess.Popen([*COMMAND, "--seconds", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    port = int(re.search(r"-p (\d+)", wait_for_text(child, "mosquitto_sub"))[1])  # type: ignore[index]
    with Listener(host=HOST, port=port, base=BASE) as listener:
        told = wait_for_text(child, "event: ") + wait_for_text(child, "event: ")
        heard = []
        while len([level for level, _ in heard if level == "event"]) < 1:
            heard.append(listener.messages.get(timeout=30))
    child.send_signal(signal.SIGINT)
    rest, errors = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 0, errors
    seqs = {payload.seq for level, payload in heard if level == "event"}  # type: ignore[union-attr]
    assert seqs <= {int(seq) for seq in re.findall(r"#(\d+)", told + rest)}


@needs_amqtt
@needs_models
@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGINT, "subscribe:"), (signal.SIGINT, "event:"), (signal.SIGTERM, "event:")]
)
def test_a_signal_ends_it_cleanly_early_and_late(number: signal.Signals, after: str) -> None:
    child = subprocess.Popen([*COMMAND, "--seconds", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_text(child, after)
    child.send_signal(number)
    rest, errors = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, errors) == (0, "")
    assert " demo --camera 0" in rest


SIGNALS_ALL_OVER_THE_WAIT = """
import queue, random, signal, sys
from types import SimpleNamespace as Fake
from edge.commands.demo import run

class Screen:
    def show(self, story):
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 3e-4))

run.DRAW_INTERVAL_S = 1e-4
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
daemon, listener = Fake(poll=lambda: None), Fake(messages=queue.Queue())
story = Fake(availability="online", never_saw=False)
for _ in range(int(sys.argv[1])):
    with run.stop_on_signals() as stop:
        run._watch(daemon, listener, story, Screen(), seconds=0, stop=stop)
        signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_signal_ends_it_whatever_the_main_thread_is_doing() -> None:
    """It waited for itself where Ctrl-C came while the main thread held the lock of the event that asks for the end."""
    command = [sys.executable, "-c", SIGNALS_ALL_OVER_THE_WAIT, "10000"]
    subprocess.run(command, timeout=TIMEOUT_S, check=True)


@needs_amqtt
@needs_models
def test_a_camera_that_is_not_there_is_one_line_and_the_daemon_s_exit_code() -> None:
    done = subprocess.run(
        [*COMMAND, "--camera", "/nowhere/film.mp4"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("mien: error: /nowhere/film.mp4")
    assert done.stderr.count("\n") == 1


@needs_amqtt
@needs_models
def test_a_camera_that_shows_nothing_is_said_with_the_reason_and_what_to_do() -> None:
    done = subprocess.run([*COMMAND, "--camera", "83"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert re.match(r"mien: error: camera: .*there is no camera /dev/video83.*ls /dev/video\*", done.stderr)
    assert done.stderr.count("\n") == 1
    assert "published" not in done.stdout, "no summary of nothing"


@needs_amqtt
@needs_models
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}])
def test_on_a_terminal_of_80_by_24_a_live_table_is_drawn(environment: dict[str, str]) -> None:
    """On a real pseudo-terminal; Ctrl-C gives the screen back and ends with 0."""
    shown, code = run_on_terminal(environment, until=b"events", then=b"\x03")
    assert code == 0
    assert "faces" in shown or "face" in shown
    assert "mosquitto_sub" in shown
    assert "\x1b[?1049h" in shown
    assert "\x1b[?1049l" in shown
    if "NO_COLOR" in environment:
        assert "\x1b[38;2" not in shown
        assert "\x1b[38;5" not in shown


def run_on_terminal(environment: dict[str, str], *, until: bytes, then: bytes) -> tuple[str, int]:
    """Runs the demo on a pseudo-terminal of 80 by 24, types when a text was shown and an event had time to come."""
    pid, terminal = pty.fork()
    if pid == 0:  # the child: nothing but exec
        os.execve(
            sys.executable,
            [*COMMAND, "--seconds", "0"],
            {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environment},
        )
    shown, typed, deadline = b"", False, time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the child closed the terminal
                break
            if not part:
                break
            shown += part
        if not typed and until in shown and b"appeared" in shown:
            os.write(terminal, then)
            typed = True
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(status)
