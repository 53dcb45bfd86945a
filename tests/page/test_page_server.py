"""The page's server over real sockets: who is let in, what is told, and what a viewer cannot do to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from brokers import wait_until
from page_samples import Page, a_token
from publish_samples import ORIGIN, an_info, event_message, present, some_vitals, state_message

from edge.config.loader import make_config
from edge.errors import ConfigError
from edge.page.access import CONTROL_COOKIE, COOKIE, WRONG_MAX, check_page, read_token
from edge.page.board import EVENTS_KEPT
from edge.page.server import CONNECTIONS_MAX, QUIET_MAX_S
from edge.page.sink import PageSink
from edge.publish.base import make_message
from edge.publish.encode import make_health

Serve = Callable[..., Page]


def next_item(stream: http.client.HTTPResponse) -> tuple[str, Any]:
    """Return the next event of the stream: its name and its data."""
    name = ""
    while line := stream.readline():
        key, _, value = line.decode().rstrip("\n").partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            return name, json.loads(value)
    raise EOFError


def wait_for(stream: http.client.HTTPResponse, kind: str) -> Any:
    while True:
        name, data = next_item(stream)
        if name == kind:
            return data


def test_a_viewer_gets_what_is_there_and_then_what_is_new(serve: Serve) -> None:
    page = serve()
    for message in (make_message("info", an_info()), make_message("camera", "live"), make_message("count", "unknown")):
        page.board.put(message)
    page.board.put(event_message(1))
    stream = page.watch()
    first = dict(next_item(stream) for _ in range(5))
    assert first.keys() == {"timeline", "info", "camera", "count", "event"}
    assert (first["camera"], first["count"], first["event"]["seq"]) == ("live", "unknown", 1)
    page.board.put(make_message("camera", "lost"))
    assert wait_for(stream, "camera") == "lost"
    stream.close()
    wait_until(lambda: page.board.viewers == 0, what=lambda: "the viewer who left is still there", timeout_s=20)


def test_the_payloads_are_those_of_the_broker(serve: Serve) -> None:
    page = serve()
    assert page.ask("/api/state")[0] == 404
    state, events = state_message(), [event_message(seq) for seq in range(1, EVENTS_KEPT + 3)]
    for message in (state, *events):
        page.board.put(message)
    assert page.ask("/api/state")[2] == state.data
    told = json.loads(page.ask("/api/events")[2])
    assert [event["seq"] for event in told] == [message.payload.seq for message in events[2:]]  # type: ignore[union-attr]
    assert page.ask("/api/password")[0] == 404
    assert page.ask("/metrics")[2] == b"mien_up 1\n"


def test_healthz_is_503_with_the_reasons(serve: Serve) -> None:
    page = serve()
    assert page.ask("/healthz")[0] == 200
    page.faults = ["camera: lost"]
    status, _, body = page.ask("/healthz")
    assert (status, json.loads(body)["reasons"]) == (503, ["camera: lost"])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8089", 200),
        ("localhost", 200),
        ("[::1]:8089", 200),
        ("Kitchen.local:8089", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_is_not_ours_is_refused(serve: Serve, host: str, status: int) -> None:
    assert serve().ask("/healthz", Host=host)[0] == status


def test_the_token_is_posted_once_and_becomes_a_cookie(serve: Serve, tmp_path: Path) -> None:
    page = serve(token=a_token(tmp_path, "swordfish"))
    assert page.ask("/")[0] == 200, "the page that asks for the token needs none"
    for path in ("/events", "/api/state", "/metrics", "/picture.jpg"):
        assert page.ask(path)[0] == 401, path
    assert page.ask("/sign-in", method="POST", body="token=trout")[0] == 403
    status, headers, _ = page.ask("/sign-in", method="POST", body="token=swordfish")
    assert status == 204
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in headers["set-cookie"].split(";")}
    cookie = headers["set-cookie"].partition(";")[0]
    assert "swordfish" not in cookie
    assert page.ask("/metrics", Cookie=cookie)[0] == 200
    assert page.ask("/metrics", Authorization="Bearer swordfish")[0] == 200
    assert page.ask("/metrics", Cookie=cookie[:-1])[0] == 401
    assert page.ask("/metrics?token=swordfish")[0] == 401


def test_two_cameras_of_one_machine_do_not_sign_each_other_out(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("swordfish")
    names = set()
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        sink = PageSink(
            make_config({"page": {"enabled": True, "listen": f"127.0.0.1:{port}", "token_file": str(file)}})
        )
        sink.watch(lambda fps: make_health(some_vitals(fps=fps), last_seq=0, origin=ORIGIN, moment=present()))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/sign-in", "token=swordfish")
        names.add(str(connection.getresponse().getheader("Set-Cookie")).partition("=")[0])
        sink.stop(timeout_s=5)
    assert len(names) == 2, "a browser keeps cookies by host, not by port"


def test_who_guesses_a_thousand_times_is_stopped(serve: Serve, tmp_path: Path) -> None:
    page = serve(token=a_token(tmp_path, "swordfish"))
    told = [page.ask("/sign-in", method="POST", body=f"token={guess}")[0] for guess in range(30)]
    assert told == [403] * 10 + [429] * 20
    assert page.ask("/sign-in", method="POST", body="token=swordfish")[0] == 429
    assert page.ask("/metrics", Authorization="Bearer swordfish")[0] == 429
    assert page.ask("/healthz")[0] == 200


def test_who_tells_one_of_two_tokens_has_not_guessed_at_the_other(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    view, control = a_token(tmp_path, "swordfish"), a_token(tmp_path / "control", "marlin")
    control.cookie = CONTROL_COOKIE
    page = serve(token=view, control=control)
    for _ in range(2 * WRONG_MAX):
        assert page.ask("/sign-in", method="POST", body="token=swordfish")[0] == 204
        assert page.ask("/metrics", Authorization="Bearer marlin")[0] == 200, "whoever may control may look"
    assert page.ask("/control/pause", method="POST", Authorization="Bearer swordfish")[0] == 401
    assert page.ask("/control/pause", method="POST", Authorization="Bearer marlin")[0] == 202
    for verb in ("selftest", "reload", "active"):
        assert page.ask(f"/control/{verb}", method="POST", Authorization="Bearer marlin")[0] == 404, verb
    assert page.commands == ["pause"]


def test_a_page_on_which_time_stands_still_is_off_and_says_so(serve: Serve) -> None:
    def fail() -> None:
        raise RuntimeError("no second")

    page = serve(second=fail)
    stream = page.watch()
    wait_until(lambda: page.thread.failure == "RuntimeError: no second", what=lambda: str(page.thread.failure))
    with suppress(http.client.IncompleteRead):
        stream.read()  # ends: who looked on is hung up on
    assert not page.is_serving()


def test_pause_needs_the_control_token_and_the_page_itself(serve: Serve, tmp_path: Path) -> None:
    assert serve().ask("/control/pause", method="POST")[0] == 403
    page = serve(control=a_token(tmp_path, "marlin"))
    assert page.ask("/control/pause", method="POST")[0] == 401
    cookie = page.ask("/sign-in", method="POST", body="token=marlin")[1]["set-cookie"].partition(";")[0]
    assert page.ask("/control/pause", method="POST", Cookie=cookie, Origin="http://evil.example")[0] == 403
    assert page.ask("/control/pause", method="POST", Cookie=cookie, Sec_Fetch_Site="cross-site")[0] == 403
    assert page.commands == []
    assert page.ask("/control/pause", method="POST", Cookie=cookie)[0] == 202
    assert page.commands == ["pause"]


def test_the_policy_lets_the_own_script_run_and_nothing_else(serve: Serve) -> None:
    _, headers, body = serve().ask("/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"<script>" in body
    body = body.replace(b"http://www.w3.org/2000/svg", b"")  # a name, not an address
    assert not [link for link in (b"http://", b"https://", b" src=", b"@import") if link in body], "self-contained"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x00\xff\x13garbage\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000_000 + b"\r\n\r\n", b"400"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"DELETE /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (
            b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + b"token=" * 1_500,
            b"403",
        ),
    ],
)
def test_garbage_is_refused_and_the_next_one_is_served(serve: Serve, tmp_path: Path, raw: bytes, status: bytes) -> None:
    page = serve(control=a_token(tmp_path, "swordfish"))
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        try:
            connection.sendall(raw)
            answer = connection.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            answer = b"HTTP/1.1 " + status  # it hung up, which is as good
    assert answer.split(b" ")[1] == status
    assert page.ask("/healthz")[0] == 200


def test_a_thousand_connections_leave_room_for_the_camera(serve: Serve) -> None:
    page = serve()
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=10))
        wait_until(lambda: page.thread.connections <= CONNECTIONS_MAX, what=lambda: "too many are open", timeout_s=10)
        assert page.thread.failure is None
    wait_until(page.is_serving, what=lambda: "nobody is served", timeout_s=10)


@pytest.mark.timeout(120)
def test_a_connection_that_never_asks_is_closed(serve: Serve) -> None:
    page = serve()
    with socket.create_connection(("127.0.0.1", page.port), timeout=4 * QUIET_MAX_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")  # and the rest never comes
        begin = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - begin < 3 * QUIET_MAX_S


def test_a_viewer_who_never_reads_misses_and_delays_nobody(serve: Serve) -> None:
    page = serve()
    with socket.socket() as sleeper:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.connect(("127.0.0.1", page.port))
        sleeper.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: page.board.viewers == 1, what=lambda: "the viewer is there", timeout_s=10)
        for seq in range(1, 20_001):  # 20 MB
            page.board.put(event_message(seq))
        stream = page.watch()
        events = [wait_for(stream, "event")["seq"] for _ in range(EVENTS_KEPT)]
        assert events[-1] == 20_000
        assert page.thread.failure is None


def test_a_viewer_who_never_reads_is_let_go_and_one_who_reads_stays(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.page.server.QUIET_MAX_S", 1.0)
    page = serve()
    reading = page.watch()

    def read() -> None:
        with suppress(http.client.HTTPException, OSError, ValueError):  # the page ends
            while reading.read(4096):
                pass

    reader = threading.Thread(target=read)
    reader.start()
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", page.port))
        lazy.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: page.board.viewers == 2, what="two viewers")
        info = make_message("info", an_info())
        begin_s = time.monotonic()
        while page.board.viewers == 2 and time.monotonic() - begin_s < 20:
            page.board.put(info)
            time.sleep(0.001)
        assert page.board.viewers == 1
        for _ in range(30):
            page.board.put(info)
            time.sleep(0.1)
        assert page.board.viewers == 1
    page.thread.stop(timeout_s=5)
    reader.join(5)


def test_a_stop_hangs_up_on_viewers_without_a_traceback(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    page = serve()
    stream = page.watch()
    begin = time.monotonic()
    page.thread.stop(timeout_s=5)
    assert time.monotonic() - begin < 3
    stream.close()
    assert "page" not in {thread.name for thread in threading.enumerate()}
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"listen": "0.0.0.0:8089"}, "page.token_file"),
        ({"listen": "[::]:8089"}, "page.token_file"),
        ({"listen": "camera.local:8089"}, "page.token_file"),
        ({"listen": "127.0.0.1:0"}, "page.listen"),
        ({"listen": "127.0.0.1:70000"}, "page.listen"),
        ({"picture": True}, "page.token_file"),
    ],
)
def test_what_may_not_be_served_is_a_configuration_error(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_page(make_config({"page": options}).page)
    assert caught.value.key == key


@pytest.mark.parametrize("listen", ["8089", "http://localhost:8089", "local host:1", "127.0.0.1:", "::1:80"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"page\.listen.*ADDRESS:PORT"):
        make_config({"page": {"listen": listen}})


def test_a_token_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    a_token(tmp_path, "swordfish")
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read it"):
        read_token(str(tmp_path / "token"), key="page.token_file", cookie=COOKIE)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_token(str(tmp_path / "token"), key="page.token_file", cookie=COOKIE)
