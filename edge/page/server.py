"""The page's server: Starlette on uvicorn, in one thread of its own. What fails here stays here.

Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) carry the payloads as they are
published; the event's name is the topic's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from edge.page.access import HostNames, Token, find_told
from edge.page.board import Board

log = logging.getLogger(__name__)
uvicorn_log = logging.getLogger("uvicorn.error")
uvicorn_log.setLevel(logging.WARNING)  # "Started server process" is no news
# Neither is a stream that a stop cuts off; uvicorn gives it a traceback.
uvicorn_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)))

CONNECTIONS_MAX: Final = 64
HEADER_MAX_BYTES: Final = 16_384
FORM_MAX_BYTES: Final = 4_096
QUIET_MAX_S: Final = 10.0
"""A connection that has not sent a whole request, or has taken nothing of its answer, for so long is closed."""
BEAT_S: Final = 5.0
"""A viewer hears something at least so often, or knows that the connection is dead."""
API: Final = ("info", "state", "health")
"""Topics whose newest payload can be asked for."""
VERBS: Final = ("pause", "resume")
"""What the control token lets do; the broker's other requests are none of the page's."""


@dataclass(frozen=True, kw_only=True)
class PageParts:
    """What the server shows and lets do.

    Attributes:
        board: what there is to see.
        hosts: names that it may be called by.
        token: opens everything; None: whoever reaches the address may look.
        control: lets pause and resume; None: nobody may.
        faults: why the service is not well, one line each; empty when it is.
        metrics: the metrics as text, and its content type.
        command: carries out ``pause`` or ``resume``.
        picture: returns the newest frame as JPEG, or None where none is fresh; None: no picture leaves the machine.
    """

    board: Board
    hosts: HostNames
    token: Token | None
    control: Token | None
    faults: Callable[[], list[str]]
    metrics: Callable[[], tuple[bytes, str]]
    command: Callable[[str], None]
    picture: Callable[[], bytes | None] | None = None

    @property
    def tokens(self) -> list[Token]:
        """Those that are configured; whoever may control may look."""
        return [token for token in (self.control, self.token) if token is not None]


def make_app(parts: PageParts) -> ASGIApp:
    """Return the application; every request passes the names and the token first."""
    page = show("page.html")
    board = parts.board

    async def events(request: Request) -> Response:
        return StreamingResponse(stream(board), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def payload(request: Request) -> Response:
        kind = request.path_params["kind"]
        data = board.events() if kind == "events" else board.latest(kind) if kind in API else None
        if data is None:
            known = ", ".join(sorted({*API, "events"}))
            return _refuse(404, f"nothing was told yet about {kind}" if kind in API else f"there are {known}")
        return Response(data, media_type="application/json")

    async def health(request: Request) -> Response:
        faults = parts.faults()
        camera = (board.latest("camera") or b"unknown").decode()
        content = {"status": "failing" if faults else "ok", "camera": camera, "reasons": faults}
        return JSONResponse(content, status_code=503 if faults else 200)

    async def metrics(request: Request) -> Response:
        text, kind = await asyncio.to_thread(parts.metrics)
        return Response(text, headers={"Content-Type": kind})

    async def access(request: Request) -> Response:
        control = parts.control
        may_control = control is not None and control.knows(request.cookies.get(control.cookie))
        return JSONResponse(
            {"control": control is not None, "may_control": may_control, "picture": bool(parts.picture)}
        )

    async def command(request: Request) -> Response:
        control, verb = parts.control, request.path_params["verb"]
        if verb not in VERBS:
            return _refuse(404, f"there are {', '.join(VERBS)}")
        if control is None:
            return _refuse(403, "page.control_token_file is not set: nobody may control the camera from here")
        if not _is_own(request):
            return _refuse(403, "asked for by another page")
        if not control.knows(request.cookies.get(control.cookie)):
            bearer = _bearer(request)
            if not bearer or control not in find_told(parts.tokens, bearer):
                return _refuse(401, "the control token is needed")
        parts.command(verb)
        return Response(status_code=202)

    async def sign_in(request: Request) -> Response:
        if not _is_own(request):
            return _refuse(403, "asked for by another page")
        form = parse_qs((await _body(request)).decode("utf-8", "replace"))
        told = form.get("token", [""])[0]
        tokens = parts.tokens
        if any(token.is_blocked for token in tokens):
            return _refuse(429, "too many wrong tokens; wait a minute")
        right = find_told(tokens, told)
        if not right:
            return _refuse(403, "this is not the token")
        response = Response(status_code=204)
        for token in tokens if parts.control in right else right:
            response.set_cookie(
                token.cookie, token.value, max_age=365 * 24 * 3600, httponly=True, samesite="strict", path="/"
            )
        return response

    async def picture(request: Request) -> Response:
        data = await asyncio.to_thread(parts.picture) if parts.picture else None
        if data is None:
            return _refuse(
                404, "no picture" if parts.picture else "page.picture is false: no picture leaves this machine"
            )
        return Response(data, media_type="image/jpeg")

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/events", events),
            Route("/api/access", access),
            Route("/api/{kind}", payload),
            Route("/healthz", health),
            Route("/metrics", metrics),
            Route("/picture.jpg", picture),
            Route("/sign-in", sign_in, methods=["POST"]),
            Route("/control/{verb}", command, methods=["POST"]),
        ]
    )
    return Guard(app, hosts=parts.hosts, tokens=parts.tokens if parts.token is not None else ())


class Guard:
    """Checks the name, the tokens and the answer's headers of every request.

    Args:
        app: the application behind it.
        hosts: names that it may be called by.
        tokens: each opens it; none: whoever reaches it may look.
    """

    OPEN: Final = ("/", "/healthz", "/sign-in")
    """What needs no token: the page itself holds nothing and asks for it."""
    HEADERS: Final = (
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )

    def __init__(self, app: ASGIApp, *, hosts: HostNames, tokens: Sequence[Token]) -> None:
        self._app, self._hosts, self._tokens = app, hosts, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.HEADERS]
            await send(message)

        if scope["type"] != "http":
            return
        refused = self._check(Request(scope))
        await (refused or self._app)(scope, receive, send_guarded)

    def _check(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self._hosts.allows(host):
            return _refuse(421, f"{host[:64]!r} is not among page.hosts")
        tokens = self._tokens
        if not tokens or request.url.path in self.OPEN:
            return None
        if any(token.knows(request.cookies.get(token.cookie)) for token in tokens):
            return None
        bearer = _bearer(request)
        if bearer and find_told(tokens, bearer):
            return None
        if bearer and any(token.is_blocked for token in tokens):
            return _refuse(429, "too many wrong tokens; wait a minute")
        return _refuse(401, "the token is needed", {"WWW-Authenticate": "Bearer"})


def _refuse(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status_code=status, headers=dict(headers or {}))


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _is_own(request: Request) -> bool:
    """Whether a request comes from the page itself, or from no page at all."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def _body(request: Request) -> bytes:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > FORM_MAX_BYTES:
            return b""
    return data


async def stream(board: Board) -> AsyncIterator[bytes]:
    """Yield what is new for one viewer; a beat where nothing is."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(news.set)

    viewer = board.join(wake)
    try:
        yield b"retry: 2000\n\n"
        while True:
            news.clear()
            items = viewer.take()
            # Plain topics are words, not JSON: quoted, so that a viewer decodes one way.
            yield b"".join(b"event: %s\ndata: %s\n\n" % (kind.encode(), _as_json(data)) for kind, data in items)
            try:
                await asyncio.wait_for(news.wait(), BEAT_S)
            except asyncio.TimeoutError:
                yield b"event: beat\ndata: %d\n\n" % (time.time_ns() // 1_000_000)
    finally:
        board.leave(viewer)


def _as_json(data: bytes) -> bytes:
    return data if data[:1] in (b"{", b"[") or data == b"null" else b'"%s"' % data


def show(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers with a page of this folder."""
    html, policy = load_page(name)

    async def page(request: Request) -> Response:
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})

    return page


def load_page(name: str = "page.html") -> tuple[bytes, str]:
    """Return a page and the policy that lets its own script and style run, and nothing else."""
    html = resources.files("edge.page").joinpath(name).read_text("utf-8")

    def digests(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'" for block in blocks
        )

    policy = (
        f"default-src 'none'; script-src {digests('script')}; style-src {digests('style')}; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *"
    )
    return html.encode(), policy


class _BoundedProtocol(H11Protocol):
    """Closes connections that are too many, and those over which no whole request comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._is_refused = len(self.connections) >= CONNECTIONS_MAX
        if self._is_refused:
            transport.abort()
            return
        super().connection_made(transport)
        self._served: object = None
        self._unsent = 0
        self._timer = self.loop.call_later(QUIET_MAX_S, self._close_quiet)

    def _close_quiet(self) -> None:
        """Close a connection that answers nothing and got no new request since the last look, or takes nothing."""
        unsent = self.transport.get_write_buffer_size() if self.flow.write_paused else 0
        if unsent and unsent == self._unsent:  # while it is paused nothing is added
            self.transport.abort()
            return
        self._unsent = unsent
        cycle: RequestResponseCycle | None = self.cycle
        if (cycle is None or cycle.response_complete) and cycle is self._served:
            self.transport.close()
            return
        self._served = cycle
        self._timer = self.loop.call_later(QUIET_MAX_S, self._close_quiet)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_refused:
            self._timer.cancel()
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(CONNECTIONS_MAX)
    except BaseException:
        listener.close()
        raise
    return listener


class PageThread:
    """Runs the server on a bound socket until `stop`.

    Args:
        app: the application.
        listener: where it listens.
        second: called once a second, to note what changes with time alone.

    Attributes:
        failure: why it ended by itself; None while it runs.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, *, second: Callable[[], None]) -> None:
        self.failure: str | None = None
        self._second = second
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_BoundedProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=HEADER_MAX_BYTES,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, timeout_s: float) -> None:
        """Hang up on every viewer and end the thread."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout_s)
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - a page that dies never touches the pipeline
            self.failure = f"{type(error).__name__}: {error}"
            log.error("the page ended: %s", self.failure)

    async def _serve(self) -> None:
        beat = asyncio.create_task(self._beat())
        beat.add_done_callback(self._exit)  # a page on which time stands still must not go on
        try:
            await self._server.serve(sockets=[self._listener])
            if beat.done():
                beat.result()  # raises what ended it
        finally:
            beat.cancel()
        if not self._server.should_exit:
            raise RuntimeError("the server ended by itself")

    def _exit(self, _: asyncio.Task[None]) -> None:
        self._server.should_exit = self._server.force_exit = True

    async def _beat(self) -> None:
        next_s = time.monotonic()
        while True:
            next_s = max(next_s + 1, time.monotonic())
            await asyncio.sleep(next_s - time.monotonic())
            self._second()
