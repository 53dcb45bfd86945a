"""The pages of `mien watch`: all cameras as tiles, and each on the page that a daemon serves of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from edge.page.access import HostNames
from edge.page.fleet import Fleet
from edge.page.server import Guard, PageThread, bind, show, stream

STEP_S: Final = 0.5
"""Between two looks at what changed: of each camera the newest, however often it speaks."""


@contextmanager
def serve_fleet(fleet: Fleet, *, port: int, clock_ms: Callable[[], int]) -> Iterator[None]:
    """Serve a fleet on this machine alone.

    Args:
        fleet: the cameras.
        port: of this machine.
        clock_ms: milliseconds since 1970.

    Raises:
        OSError: the port is in use.
    """
    listener = bind("127.0.0.1", port)
    thread = PageThread(make_fleet_app(fleet, clock_ms=clock_ms), listener, second=lambda: fleet.tick(clock_ms()))
    thread.start()
    try:
        yield
    finally:
        thread.stop(timeout_s=2)


def make_fleet_app(fleet: Fleet, *, clock_ms: Callable[[], int]) -> ASGIApp:
    """Return the application."""
    tiles, one = show("fleet.html"), show("page.html")

    async def page(request: Request) -> Response:
        return await (one if "camera" in request.query_params else tiles)(request)

    async def events(request: Request) -> Response:
        base = request.query_params.get("camera")
        board = fleet.board(base) if base is not None else None
        if base is not None and board is None:
            return JSONResponse({"error": f"nothing was heard of {base[:200]!r}"}, status_code=404)
        body = stream(board) if board is not None else _stream_tiles(fleet, clock_ms)
        return StreamingResponse(body, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def access(_: Request) -> Response:
        return JSONResponse({"control": False, "may_control": False, "picture": False})

    routes = [Route("/", page), Route("/events", events), Route("/api/access", access)]
    return Guard(Starlette(routes=routes), hosts=HostNames(()), tokens=())


async def _stream_tiles(fleet: Fleet, clock_ms: Callable[[], int]) -> AsyncIterator[bytes]:
    """Yield the tiles that changed, and what the broker and this machine's clock say; at least once a second."""
    version, told, turns = 0, "", 0
    yield b"retry: 2000\n\n"
    while True:
        tiles = fleet.tiles(after=version)
        version = max((tile.version for tile in tiles), default=version)
        present = {
            "broker": fleet.broker,
            "connected": fleet.is_connected,
            "lost_ms": fleet.lost_ms,
            "left_out": fleet.left_out,
            "prefix": fleet.prefix,
            "bases": sorted(fleet.bases()),
        }
        text = json.dumps(present)
        frames = []
        if text != told:
            told = text
            frames.append(f"event: fleet\ndata: {text}\n\n".encode())
        if tiles:
            frames.append(b"event: tiles\ndata: " + msgspec.json.encode(tiles) + b"\n\n")
        if turns % 2 == 0:
            frames.append(f"event: beat\ndata: {clock_ms()}\n\n".encode())
        turns += 1
        if frames:
            yield b"".join(frames)
        await asyncio.sleep(STEP_S)
