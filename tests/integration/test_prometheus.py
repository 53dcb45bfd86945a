"""Debian's Prometheus scrapes a real daemon: what it stores, and what is absent because it is not known."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from brokers import Mosquitto, Subscriber, wait_until
from daemons import toml_for
from tools import require_tool

pytest.importorskip("starlette", reason="the extra `page` is not installed")

Start = Callable[..., subprocess.Popen[str]]

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

TOKEN = "swordfish"
CONFIG = """
global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: mien
    authorization: {{ credentials: {token} }}
    static_configs: [{{ targets: ["127.0.0.1:{port}"] }}]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(address: str, *, post: bool = False) -> bytes:
    request = Request(address, method="POST" if post else "GET", headers={"Authorization": f"Bearer {TOKEN}"})
    with urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


class Prometheus:
    """A server that scrapes one daemon every second."""

    def __init__(self, folder: Path, target: int) -> None:
        folder.mkdir()
        (folder / "prometheus.yml").write_text(CONFIG.format(port=target, token=TOKEN))
        self.port = free_port()
        program = require_tool("prometheus", "apt-get install prometheus")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        try:
            with urlopen(
                f"http://127.0.0.1:{self.port}/api/v1/query?{urlencode({'query': expression})}", timeout=5
            ) as answer:
                return list(json.load(answer)["data"]["result"])
        except OSError:
            return []

    def wait(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, once there are any."""
        found: list[dict[str, Any]] = []

        def holds() -> bool:
            found[:] = self.query(expression)
            return bool(found)

        wait_until(holds, what=expression, timeout_s=40)
        return found


@pytest.fixture
def scraped(
    run: Start, broker: Mosquitto, heard: Subscriber, clip: Path, tmp_path: Path
) -> Iterator[tuple[Prometheus, int]]:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    port = free_port()
    extra = (
        f'[page]\nenabled = true\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"\ncontrol_token_file = "{token}"\n'
    )
    run(toml_for(clip, port=broker.port, extra=extra))
    heard.wait_for("event")
    server = Prometheus(tmp_path / "prometheus", port)
    yield server, port
    server.process.kill()
    server.process.wait()


def test_prometheus_stores_what_is_known_and_nothing_of_what_is_not(scraped: tuple[Prometheus, int]) -> None:
    server, port = scraped
    server.wait("mien_camera_up == 1")
    server.wait("mien_mqtt_connected == 1")
    server.wait("rate(mien_frames_total[10s]) > 0")
    server.wait("histogram_quantile(0.95, rate(mien_frame_age_seconds_bucket[10s])) > 0")
    server.wait('histogram_quantile(0.95, rate(mien_step_seconds_bucket{stage="detect"}[10s])) > 0')
    server.wait("mien_faces == on (instance) sum by (instance) (mien_faces_by_emotion)")
    server.wait('mien_events_total{type="face_appeared"} > 0')
    server.wait("mien_outbox_queued >= 0")
    server.wait("mien_outbox_dropped_total == 0")
    assert len(server.wait("mien_frames_dropped_total")) == 4
    (build,) = server.wait("mien_build_info")
    assert {"version", "model", "delegate"} <= set(build["metric"])

    state = json.loads(ask(f"http://127.0.0.1:{port}/api/state"))
    ids = {state["boot_id"], *(face["track"] for face in state["faces"] or [])}
    series = server.query('{job="mien"}')
    assert len(series) < 200, "a label that never repeats would fill the store"
    assert not [one for one in series if ids & set(one["metric"].values())]

    ask(f"http://127.0.0.1:{port}/control/pause", post=True)
    server.wait("mien_camera_up == 0")
    server.wait("absent(mien_faces)")
    server.wait("absent(mien_faces_by_emotion)")


def test_promtool_has_nothing_to_say(scraped: tuple[Prometheus, int]) -> None:
    _, port = scraped
    promtool = require_tool("promtool", "apt-get install prometheus")
    text = ask(f"http://127.0.0.1:{port}/metrics")
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
