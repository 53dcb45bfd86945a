"""SIGTERM at any moment: the process ends soon, and says ``offline`` once it has a broker to tell."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Mosquitto, Subscriber, free_port
from daemons import STOP_PATIENCE_S, ended, toml_for

Start = Callable[..., subprocess.Popen[str]]
pytestmark = pytest.mark.timeout(600)

MOMENTS = 20
TERMINATES_ITSELF = """
import io, os, signal, sys

class Wire(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        if b"ready after" in bytes(data):
            os.kill(os.getpid(), signal.SIGTERM)
        return os.write(2, data)

sys.stderr = io.TextIOWrapper(io.BufferedWriter(Wire()), line_buffering=True)
sys.argv = ["mien", "run", "--config", sys.argv[1]]
from edge.cli import main
main()
"""


@pytest.fixture
def ready_after_s(clip: Path, run: Start) -> float:
    """From the process' start to its being ready, on this machine, now."""
    began = time.monotonic()
    child = run(toml_for(clip, port=free_port()))
    assert child.stderr is not None
    assert any("ready after" in line for line in child.stderr)
    taken_s = time.monotonic() - began
    child.terminate()
    ended(child)
    return taken_s


def stop_at(child: subprocess.Popen[str], delay_s: float) -> tuple[float, str]:
    """Sends SIGTERM after a while; how long the end took, and what was logged."""
    lines: list[str] = []
    assert child.stderr is not None
    reader = threading.Thread(target=lines.extend, args=(child.stderr,))
    reader.start()
    time.sleep(delay_s)
    child.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    code = child.wait(60)
    taken_s = time.monotonic() - sent
    reader.join()
    # Before the interpreter runs our code the signal's own end is fine.
    assert code in (0, -signal.SIGTERM), lines
    assert not any("Traceback" in line for line in lines), lines
    return taken_s, "".join(lines)


def test_at_twenty_random_moments_of_start_and_flight(
    clip: Path,
    run: Start,
    ready_after_s: float,
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[..., Subscriber],
) -> None:
    """The moments are spread over one and a half starts, so that they hit loading, connecting and running alike."""
    broker, moments = mosquitto(), random.Random(5)
    taken, connected = [], 0
    for number in range(MOMENTS):
        heard = subscribe(broker.port, f"mien/pi{number}/front/#")
        child = run(toml_for(clip, port=broker.port).replace('"pi"', f'"pi{number}"'))
        taken_s, log = stop_at(child, moments.uniform(0, 1.5 * ready_after_s))
        taken.append(taken_s)
        heard.wait_quiet()
        told = heard.on("availability")
        assert told in ([], [b"offline"], [b"online", b"offline"]), told
        if "connected (MQTT" in log:
            connected += 1
            assert told, log
        heard.close()
    print(f"ready after {ready_after_s:.1f} s; {connected} of {MOMENTS} connected; longest end {max(taken):.2f} s")
    assert max(taken) < STOP_PATIENCE_S
    assert 0 < connected < MOMENTS, "the moments missed a part of the start"


def test_a_sigterm_in_the_middle_of_a_log_line_is_heeded(clip: Path, tmp_path: Path) -> None:
    """The main thread is inside the write of a line then: whoever logs in the signal's handler fails there."""
    file = tmp_path / "mien.toml"
    file.write_text(toml_for(clip, port=free_port()))
    command = [sys.executable, "-c", TERMINATES_ITSELF, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "SIGTERM: stopping" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("share", [0.7, 0.9, 1.2])
def test_without_a_broker_it_ends_as_soon(share: float, clip: Path, run: Start, ready_after_s: float) -> None:
    taken_s, log = stop_at(run(toml_for(clip, port=free_port())), share * ready_after_s)
    print(f"longest end {taken_s:.2f} s")
    assert taken_s < STOP_PATIENCE_S, log
