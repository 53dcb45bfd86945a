"""`mien watch` as a process on a real broker, with real and with simulated devices, on a terminal and in Chromium."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from brokers import Mosquitto, wait_until
from browsers import browser
from daemons import toml_for
from paho.mqtt.enums import CallbackAPIVersion

pytest.importorskip("starlette", reason="the extra `page` is not installed")

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

__all__ = ["browser"]


class Devices:
    """Simulated devices: each tells once a second how many faces it sees."""

    def __init__(self, port: int, count: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="devices")
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._ended = threading.Event()
        self._count = count
        for number in range(count):
            for kind, word in (("camera", "live"), ("emotion", "happy"), ("count", "0"), ("availability", "online")):
                self.tell(number, kind, word)
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def tell(self, number: int, kind: str, word: str) -> None:
        self._client.publish(f"mien/pi-{number:03d}/front/{kind}", word, qos=1, retain=True)

    def _run(self) -> None:
        turn = 0
        while not self._ended.wait(max(0.0, 1 - time.time() % 1)):
            turn += 1
            for number in range(self._count):
                self.tell(number, "count", str((number + turn) % 5))

    def close(self) -> None:
        self._ended.set()
        if self._thread.ident:
            self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def devices(broker: Mosquitto) -> Iterator[Callable[[int], Devices]]:
    made: list[Devices] = []

    def make(count: int) -> Devices:
        made.append(Devices(broker.port, count))
        return made[-1]

    yield make
    for some in made:
        some.close()


@pytest.fixture
def watch(broker: Mosquitto, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts ``mien watch`` and returns the process and its address."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        out = tmp_path / f"watch-{len(started)}"
        with out.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "edge", "watch", "--broker", f"127.0.0.1:{broker.port}", *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                # Where the tests run in the background Ctrl-C is ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        started.append(process)
        wait_until(lambda: "Open http" in out.read_text(), what=out.read_text)
        found = re.search(r"http://\S+/", out.read_text())
        assert found
        return process, found[0]

    yield start
    for process in started:
        process.kill()
        process.wait()


def run(browser: Any, expression: str) -> Any:
    return browser.execute_script(f"return {expression}")


def text(browser: Any, selector: str) -> str:
    return str(run(browser, f"document.querySelector({selector!r})?.innerText ?? ''"))


def wait_text(browser: Any, selector: str, wanted: str, *, timeout_s: float = 30) -> None:
    wait_until(
        lambda: wanted in text(browser, selector),
        what=lambda: f"{wanted!r}: {text(browser, selector)!r}",
        timeout_s=timeout_s,
    )


def tile(base: str) -> str:
    return f'[data-base="{base}"]'


def test_a_real_camera_is_a_tile_and_a_page_and_what_happens_to_it_is_seen(
    run_daemon: Any, browser: Any, watch: Any, clip: Path, broker: Mosquitto
) -> None:
    _, address = watch()
    child = run_daemon(toml_for(clip, port=broker.port))
    browser.get(address)
    front = tile("mien/pi/front")
    wait_text(browser, front, "live")
    wait_until(lambda: re.search(r"[12] faces?, ", text(browser, front)), what=lambda: text(browser, front))
    browser.get(f"{address}?camera=mien%2Fpi%2Ffront")
    wait_text(browser, "#camera", "live")
    wait_text(browser, "#events", "appeared")
    wait_text(browser, "#away", "Where faces are was not told")
    wait_text(browser, "#faces", "since ")
    child.send_signal(signal.SIGTERM)
    wait_text(browser, "#camera", "offline")
    assert text(browser, "#faces") == ""
    browser.get(address)
    wait_text(browser, front, "offline")
    wait_text(browser, front, "faces unknown")
    wait_text(browser, front, "since ")


@pytest.fixture
def run_daemon(run: Any) -> Any:
    return run


def test_two_hundred_devices_stay_smooth_and_each_is_right(
    browser: Any, watch: Any, devices: Any, broker: Mosquitto
) -> None:
    some = devices(200)
    _, address = watch()
    browser.get(address)
    wait_text(browser, "#sum", "200 cameras: 200 live")
    some.start()
    note = "window.long.push(...list.getEntries().map(e => e.duration))"
    run(browser, f"(window.long = [], new PerformanceObserver(list => {note}).observe({{ type: 'longtask' }}))")
    before = text(browser, tile("mien/pi-007/front"))
    time.sleep(10)
    assert text(browser, tile("mien/pi-007/front")) != before
    assert [duration for duration in run(browser, "window.long") if duration > 100] == []
    some.tell(7, "availability", "offline")
    wait_text(browser, tile("mien/pi-007/front"), "offline")
    wait_text(browser, "#sum", "199 live, 1 offline")
    run(browser, "document.getElementById('only').click()")
    shown = "[...document.querySelectorAll('#tiles li')].filter(tile => tile.checkVisibility()).length"
    wait_until(lambda: run(browser, shown) == 1, what="the one that is not well")


def test_a_broker_that_goes_takes_all_knowledge_with_it_and_one_that_comes_brings_it(
    browser: Any, watch: Any, devices: Any, broker: Mosquitto
) -> None:
    some = devices(3)
    _, address = watch()
    browser.get(address)
    wait_text(browser, "#sum", "3 cameras: 3 live")
    broker.kill()
    wait_text(browser, "#silent", "Not live since ")
    wait_text(browser, tile("mien/pi-001/front"), "faces unknown")
    assert text(browser, "#sum") == "not live"
    broker.start()  # it has kept nothing
    wait_text(browser, "#sum", "3 cameras: 0 live")
    some.tell(1, "count", "4")
    some.tell(1, "camera", "live")
    wait_text(browser, "#sum", "3 cameras: 1 live")
    wait_text(browser, tile("mien/pi-001/front"), "4 faces")


def test_a_watch_that_ends_is_said_to_have_ended(browser: Any, watch: Any, devices: Any) -> None:
    devices(2)
    process, address = watch()
    browser.get(address)
    wait_text(browser, "#sum", "2 cameras: 2 live")
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    wait_text(browser, "#silent", "mien watch does not answer")
    assert run(browser, "document.title").startswith("not live")


def test_nobody_is_kept_from_reading_the_tiles(browser: Any, watch: Any, devices: Any) -> None:
    axe = pytest.importorskip("axe_core_python.selenium", reason="python -m pip install axe-core-python")
    some = devices(4)
    some.tell(1, "availability", "offline")
    some.tell(2, "camera", "lost")
    _, address = watch()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(address)
        wait_text(browser, "#sum", "4 cameras: 2 live, 1 offline, 1 otherwise away")
        found = axe.Axe().run(browser)["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert run(browser, "document.documentElement.scrollWidth") <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_table_is_printed_where_there_is_no_browser(broker: Mosquitto, devices: Any) -> None:
    some = devices(3)
    some.tell(2, "availability", "offline")
    command = [sys.executable, "-m", "edge", "watch", "--terminal", "--seconds", "3"]
    done = subprocess.run(
        [*command, "--broker", f"127.0.0.1:{broker.port}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "3 cameras, 2 live" in done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip().startswith("pi-")}
    assert "live" in rows["pi-000/front"]
    assert "offline" in rows["pi-002/front"]
    assert "unknown" in rows["pi-002/front"]


def test_a_broker_that_is_not_there_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge", "watch", "--terminal", "--seconds", "2", "--broker", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "not live: broker: 127.0.0.1:1 cannot be reached" in " ".join(done.stdout.split()), done.stdout + done.stderr
