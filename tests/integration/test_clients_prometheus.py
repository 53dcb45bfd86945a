"""The metrics of a real daemon in a real Prometheus: every query of the dashboard and every rule of ours."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import Mosquitto, accepts, free_port, wait_until
from daemons import toml_for
from tools import require_tool

from edge.commands.example import read_example

pytestmark = pytest.mark.broker


class Prometheus:
    """A Prometheus of this test, on loopback."""

    def __init__(self, folder: Path, *, target: str) -> None:
        program = require_tool("prometheus", "apt-get install prometheus")
        folder.mkdir()
        config = yaml.safe_load(read_example("prometheus"))
        config["scrape_configs"][0] |= {"scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
        config["global"] = {"evaluation_interval": "1s"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "mien-rules.yml").write_text(read_example("prometheus-rules"))
        self.port = free_port()
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, what=lambda: (folder / "log").read_text())

    def _is_ready(self) -> bool:
        """It listens before it answers: https://prometheus.io/docs/prometheus/latest/management_api/."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    started: list[Prometheus] = []

    def start(target: str) -> Prometheus:
        started.append(Prometheus(tmp_path / "prometheus", target=target))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_every_query_and_rule_is_answered_from_a_running_daemon(
    clip: Path,
    run: Callable[..., subprocess.Popen[str]],
    mosquitto: Callable[..., Mosquitto],
    prometheus: Callable[[str], Prometheus],
) -> None:
    broker, port = mosquitto(), free_port()
    page = f'[page]\nenabled = true\nlisten = "127.0.0.1:{port}"\n'
    run(toml_for(clip, port=broker.port, extra=page))
    wait_until(lambda: accepts(port), what="the page")
    server = prometheus(f"127.0.0.1:{port}")
    wait_until(lambda: bool(server.query("mien_faces == 2")), what="two faces in Prometheus", timeout_s=60)
    wait_until(lambda: bool(server.query("rate(mien_frames_total[1m]) > 0")), what="a rate", timeout_s=60)

    dashboard = json.loads(read_example("grafana"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    empty = [each for each in expressions if not server.query(each.replace("$instance", ".*"))]
    assert empty == []

    def rules() -> list[dict[str, Any]]:
        return [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] == "ok" for rule in rules()), what=lambda: str(rules()))
    assert len(rules()) == 6
    assert {rule["name"]: rule["state"] for rule in rules() if rule["state"] != "inactive"} == {}
    broker.kill()
    wait_until(
        lambda: any(rule["name"] == "MienBrokerAway" and rule["state"] == "pending" for rule in rules()),
        what=lambda: f"an alert that waits for its five minutes: {rules()}",
        timeout_s=60,
    )
