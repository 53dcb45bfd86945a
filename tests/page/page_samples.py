"""A page that is served alone, without a daemon, and what its tests put on it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.page.access import COOKIE, HostNames, read_token
from edge.page.board import Board
from edge.page.server import PageParts, PageThread, bind, make_app


class Page:
    """A served page on a free port."""

    def __init__(self, *, second: Callable[[], None] | None = None, **changes: Any) -> None:
        self.board = Board()
        self.faults: list[str] = []
        self.commands: list[str] = []
        self.parts = PageParts(
            **{
                "board": self.board,
                "hosts": HostNames(["kitchen.local"]),
                "token": None,
                "control": None,
                "faults": lambda: self.faults,
                "metrics": lambda: (b"mien_up 1\n", "text/plain"),
                "command": self.commands.append,
                **changes,
            }
        )
        listener = bind("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        told = second or (lambda: self.board.put_second(time.time_ns() // 1_000_000))
        self.thread = PageThread(make_app(self.parts), listener, second=told)

    def ask(
        self, path: str, *, method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; underscores in names of headers are dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        told = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return told

    def is_serving(self) -> bool:
        """Whether a request is answered now."""
        with suppress(ConnectionError):
            return self.ask("/healthz")[0] == 200
        return False

    def watch(self) -> http.client.HTTPResponse:
        """Begin to look on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/events")
        return connection.getresponse()


def a_token(folder: Path, secret: str) -> Any:
    file = folder / "token"
    file.touch(mode=0o600)
    file.write_text(f"{secret}\n")
    return read_token(str(file), key="page.token_file", cookie=COOKIE)
