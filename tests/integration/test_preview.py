"""`mien preview` as a process, with a clip as the camera."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from brokers import wait_until

pytest.importorskip("starlette", reason="the extra `page` is not installed")

pytestmark = pytest.mark.timeout(180)


class Preview:
    """A preview that runs, and what it printed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        (folder / "tmp").mkdir()
        self.folder = folder
        self.out = folder / "out"
        with self.out.open("wb") as out, (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge", "preview", *arguments],
                stdout=out,
                stderr=log,
                cwd=folder,
                env={**os.environ, "TMPDIR": str(folder / "tmp")},
            )

    @property
    def printed(self) -> str:
        return self.out.read_text()

    def wait_ready(self) -> None:
        wait_until(
            lambda: "ready after" in (self.folder / "log").read_text(),
            what=lambda: (self.folder / "log").read_text() + self.printed,
        )
        found = re.search(r"^Open http://127\.0\.0\.1:(\d+)/#token=(\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        self.port, self.token = int(found[1]), found[2]

    def ask(self, path: str, *, token: str = "", body: str | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        told = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return told


@pytest.fixture
def preview(tmp_path: Path) -> Iterator[Any]:
    started: list[Preview] = []

    def start(*arguments: str) -> Preview:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Preview(folder, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_it_prints_where_to_look_and_shows_the_picture_to_whoever_knows(preview: Any, clip: Path) -> None:
    run = preview("--source", str(clip))
    run.wait_ready()
    assert f"ssh -L {run.port}:127.0.0.1:{run.port} " in run.printed
    assert run.ask("/picture.jpg")[0] == 401
    wait_until(lambda: run.ask("/picture.jpg", token=run.token)[0] == 200, what="a picture")
    _, headers, data = run.ask("/picture.jpg", token=run.token)
    assert headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    assert listening(run.process.pid) == {("127.0.0.1", run.port)}, "it opens nothing else"
    assert run.token not in (run.folder / "log").read_text()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(15) == 0
    left = [path.name for path in run.folder.rglob("*") if path.name not in ("out", "log", "tmp")]
    assert left == [], "nothing is kept"


def listening(pid: int) -> set[tuple[str, int]]:
    """TCP addresses that a process listens at or is connected to, as the kernel tells them."""
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(fd.readlink()))
    inodes = {link[8:-1] for link in links if link.startswith("socket:")}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    places = [row[1].split(":") for row in rows if row[9] in inodes]
    return {(socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16)) for host, port in places}


def test_a_configuration_gives_its_camera_and_nothing_of_its_broker(preview: Any, clip: Path, tmp_path: Path) -> None:
    config = tmp_path / "mien.toml"
    config.write_text(
        f'[camera]\nname = "hall"\nsource = "{clip}"\nrotate = 90\n[mqtt]\nhost = "192.0.2.1"\n'
        "[homeassistant]\nenabled = true\n"
    )
    run = preview("--config", str(config))
    run.wait_ready()
    wait_until(lambda: run.ask("/api/info", token=run.token)[0] == 200, what="an info")
    assert b'"name":"hall"' in run.ask("/api/info", token=run.token)[2]
    assert listening(run.process.pid) == {("127.0.0.1", run.port)}


def test_a_port_that_is_in_use_is_one_line_where_it_was_asked_for(preview: Any, clip: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = preview("--source", str(clip), "--port", str(port))
        assert run.process.wait(30) == 2
    assert (run.folder / "log").read_text() == f"mien: error: --port: {port} is in use\n"


def test_another_port_is_taken_where_none_was_asked_for(preview: Any, clip: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 8089))
            other.listen()
        except OSError:
            pytest.skip("8089 is in use here already")
        run = preview("--source", str(clip))
        run.wait_ready()
        assert run.port != 8089


def test_a_source_that_is_not_there_is_one_line(preview: Any) -> None:
    run = preview("--source", "no-such.mp4")
    assert run.process.wait(30) != 0
    assert "no-such.mp4" in (run.folder / "log").read_text().splitlines()[-1]
