"""The MQTT sink against peers that are no broker, an old broker, or a broken one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from brokers import free_port, wait_until
from publish_samples import event_message, initial_messages

from edge.config.schema import MqttConfig
from edge.publish.mqtt.backoff import Backoff
from edge.publish.mqtt.sink import MqttSink

Start = Callable[..., MqttSink]
Peer = Callable[[socket.socket], object]

CONNACK_5 = bytes([0x20, 3, 0, 0, 0])
CONNACK_311 = bytes([0x20, 2, 0, 0])


@pytest.fixture
def start_sink() -> Iterator[Start]:
    sinks: list[MqttSink] = []

    def start(port: int, *, connect_timeout_s: float = 5, **config: Any) -> MqttSink:
        sink = MqttSink(
            MqttConfig(**{"host": "127.0.0.1", "port": port} | config),
            device="pi",
            camera="front",
            backoff=Backoff(base_s=0.02, cap_s=0.05, rng=random.Random(1)),
            connect_timeout_s=connect_timeout_s,
        )
        sinks.append(sink)
        sink.start()
        return sink

    yield start
    for sink in sinks:
        sink.stop(timeout_s=1)


@pytest.fixture
def serve() -> Iterator[Callable[[Peer], int]]:
    """Listens on a free port and lets a function handle each connection in a thread."""
    listeners: list[socket.socket] = []

    def listen(peer: Peer) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def handle(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                peer(client)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield listen
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def level_of(connect: bytes) -> int:
    """The protocol level of a CONNECT packet: 5, or 4 for 3.1.1."""
    return connect[connect.index(b"MQTT") + 4]


def drain(client: socket.socket) -> None:
    while client.recv(4096):
        pass


def wait_status(sink: MqttSink, text: str) -> None:
    wait_until(lambda: text in sink.status(), what=lambda: f"status {text!r}, have {sink.status()!r}")


def test_a_peer_that_never_answers_blocks_nothing(serve: Callable[[Peer], int], start_sink: Start) -> None:
    sink = start_sink(serve(drain), connect_timeout_s=0.3)
    for message in (*initial_messages(), event_message(1)):
        sink.send(message)
    wait_status(sink, "no answer to CONNECT within 0.3 s: is this an MQTT broker?")
    assert sink.counts()["queued"] == 1


def test_a_stop_does_not_wait_for_a_peer_that_never_answers(serve: Callable[[Peer], int], start_sink: Start) -> None:
    connected = threading.Event()
    sink = start_sink(serve(lambda client: connected.set() or drain(client)))
    assert connected.wait(10)
    sink.stop(timeout_s=60)
    assert sink.status() == "stopped"


def test_a_stop_with_events_waits_for_a_peer_that_never_answers_no_longer_than_it_may(
    serve: Callable[[Peer], int], start_sink: Start
) -> None:
    connected = threading.Event()
    sink = start_sink(serve(lambda client: connected.set() or drain(client)))
    sink.send(event_message(1))
    assert connected.wait(10)
    began_s = time.monotonic()
    sink.stop(timeout_s=0.5)
    assert time.monotonic() - began_s >= 0.5
    assert sink.status() == "stopped"


def test_a_web_server_is_no_broker(serve: Callable[[Peer], int], start_sink: Start) -> None:
    port = serve(lambda client: client.recv(4096) and client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 200))
    sink = start_sink(port)
    wait_status(sink, "is this an MQTT broker?")
    assert sink.counts()["reconnects"] == 0


def test_random_bytes_are_no_broker(serve: Callable[[Peer], int], start_sink: Start) -> None:
    rng = random.Random(0)
    answers = 0

    def babble(client: socket.socket) -> None:
        nonlocal answers
        client.recv(4096)
        client.sendall(rng.randbytes(300))
        answers += 1

    sink = start_sink(serve(babble), connect_timeout_s=0.1)
    sink.send(event_message(1))
    wait_until(lambda: answers >= 100, what="100 attempts")
    assert sink.counts()["sent"] == 0
    assert sink.counts()["queued"] == 1


@pytest.mark.parametrize("refusal", [bytes([0x20, 2, 0, 0x01]), bytes([0x20, 3, 0, 0x84, 0])])
def test_auto_falls_back_to_311_when_5_is_refused(
    refusal: bytes, serve: Callable[[Peer], int], start_sink: Start
) -> None:
    levels: list[int] = []

    def old_broker(client: socket.socket) -> None:
        levels.append(level_of(client.recv(4096)))
        client.sendall(CONNACK_311 if levels[-1] == 4 else refusal)
        drain(client)

    sink = start_sink(serve(old_broker))
    wait_status(sink, "connected (MQTT 3.1.1)")
    assert levels == [5, 4]


def test_auto_falls_back_to_311_when_the_peer_hangs_up_on_5_twice(
    serve: Callable[[Peer], int], start_sink: Start
) -> None:
    levels: list[int] = []

    def old_broker(client: socket.socket) -> None:
        levels.append(level_of(client.recv(4096)))
        if levels[-1] == 4:
            client.sendall(CONNACK_311)
            drain(client)

    sink = start_sink(serve(old_broker))
    wait_status(sink, "connected (MQTT 3.1.1)")
    assert levels == [5, 5, 4]


def test_auto_falls_back_to_311_when_the_peer_is_silent_on_5_twice(
    serve: Callable[[Peer], int], start_sink: Start
) -> None:
    levels: list[int] = []

    def old_broker(client: socket.socket) -> None:
        levels.append(level_of(client.recv(4096)))
        if levels[-1] == 4:
            client.sendall(CONNACK_311)
        drain(client)

    sink = start_sink(serve(old_broker), connect_timeout_s=0.1)
    wait_status(sink, "connected (MQTT 3.1.1)")
    assert levels == [5, 5, 4]


def test_auto_stays_with_5_when_a_broker_that_took_it_falls_silent(
    serve: Callable[[Peer], int], start_sink: Start
) -> None:
    levels: list[int] = []

    def dying_broker(client: socket.socket) -> None:
        levels.append(level_of(client.recv(4096)))
        if len(levels) == 1:
            client.sendall(CONNACK_5)
        elif len(levels) % 2:
            drain(client)

    start_sink(serve(dying_broker), connect_timeout_s=0.1)
    wait_until(lambda: len(levels) >= 7, what="seven attempts")
    assert set(levels) == {5}


def test_auto_asks_for_5_again_when_311_fares_no_better(serve: Callable[[Peer], int], start_sink: Start) -> None:
    levels: list[int] = []
    start_sink(serve(lambda client: levels.append(level_of(client.recv(4096)))))
    wait_until(lambda: len(levels) >= 6, what="six attempts")
    assert levels[:6] == [5, 5, 4, 5, 5, 4]


@pytest.mark.parametrize(("code", "words"), [(0x87, "Not authorized"), (0x86, "Bad user name or password")])
def test_auto_does_not_fall_back_for_any_other_refusal(
    code: int, words: str, serve: Callable[[Peer], int], start_sink: Start
) -> None:
    levels: list[int] = []

    def strict_broker(client: socket.socket) -> None:
        levels.append(level_of(client.recv(4096)))
        client.sendall(bytes([0x20, 3, 0, code, 0]))
        drain(client)

    sink = start_sink(serve(strict_broker))
    wait_until(lambda: len(levels) >= 4, what="four attempts")
    wait_status(sink, f"refused: {words}")
    assert set(levels) == {5}


def test_a_demanded_version_is_kept(serve: Callable[[Peer], int], start_sink: Start) -> None:
    levels: list[int] = []

    def old_broker(client: socket.socket) -> None:
        levels.append(level_of(client.recv(4096)))
        client.sendall(bytes([0x20, 2, 0, 0x01]))
        drain(client)

    sink = start_sink(serve(old_broker), version="5")
    wait_until(lambda: len(levels) >= 4, what="four attempts")
    wait_status(sink, "refused: MQTT 5 is not supported")
    assert set(levels) == {5}


def test_a_broker_that_acknowledges_nothing_is_left(serve: Callable[[Peer], int]) -> None:
    connections = 0

    def deaf_broker(client: socket.socket) -> None:
        nonlocal connections
        connections += 1
        client.recv(4096)
        client.sendall(CONNACK_5)
        drain(client)

    now_ns = 0
    config = MqttConfig(host="127.0.0.1", port=serve(deaf_broker), keepalive_s=5)
    sink = MqttSink(config, device="pi", camera="front", backoff=Backoff(base_s=0.01), clock_ns=lambda: now_ns)
    sink.start()
    sink.send(event_message(1))
    wait_until(lambda: connections == 1 and "connected" in sink.status(), what="the connection")
    time.sleep(0.1)
    now_ns = 6_000_000_000
    sink.send(event_message(2))
    wait_until(lambda: "nothing was acknowledged for 5 s" in sink.status(), what=lambda: sink.status())
    assert sink.counts()["queued"] == 2
    now_ns += 10**12
    sink.stop(timeout_s=0)


def test_session_taken_over_is_named(
    serve: Callable[[Peer], int], start_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def jealous_broker(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(CONNACK_5 + bytes([0xE0, 1, 0x8E]))
        drain(client)

    start_sink(serve(jealous_broker))
    wait_until(lambda: "session taken over: another client calls itself mien-pi-front" in caplog.text)


def test_the_brokers_own_reason_for_a_disconnect_is_named(
    serve: Callable[[Peer], int], start_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def closing_broker(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(CONNACK_5 + bytes([0xE0, 1, 0x8B]))
        drain(client)

    start_sink(serve(closing_broker))
    wait_until(lambda: "the broker ended the connection: Server shutting down" in caplog.text)


def test_the_brokers_receive_maximum_is_respected(serve: Callable[[Peer], int], start_sink: Start) -> None:
    """CONNACK with Receive Maximum 3: never more than three unacknowledged messages."""
    received = bytearray()

    def small_broker(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(bytes([0x20, 6, 0, 0, 3, 0x21, 0, 3]))
        while data := client.recv(65536):
            received.extend(data)

    sink = start_sink(serve(small_broker))
    for seq in range(1, 10):
        sink.send(event_message(seq))
    wait_until(lambda: b'"seq":3,' in received, what="three events")
    time.sleep(0.2)
    assert b'"seq":4,' not in received


def test_an_unknown_host_is_named(start_sink: Start) -> None:
    wait_status(start_sink(1883, host="no-such-host.invalid"), "unknown host no-such-host.invalid")
    wait_status(start_sink(1883, host="bad..host"), "unknown host bad..host: not a host name")


@pytest.fixture
def amqtt_port() -> Iterator[int]:
    """A broker that speaks MQTT 3.1.1 only."""
    broker_module = pytest.importorskip("amqtt.broker", reason="pip install mien[demo]")
    port = free_port()
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> Any:
        broker = broker_module.Broker(config)
        await broker.start()
        return broker

    broker = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    yield port
    asyncio.run_coroutine_threadsafe(broker.shutdown(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_auto_gets_connected_to_a_real_broker_that_speaks_311_only(
    amqtt_port: int, start_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edge")
    sink = start_sink(amqtt_port, connect_timeout_s=0.5)  # it misreads CONNECT of MQTT 5 and waits
    for message in (*initial_messages(), *(event_message(seq) for seq in range(1, 51))):
        sink.send(message)
    wait_status(sink, "connected (MQTT 3.1.1)")
    wait_until(lambda: sink.counts()["sent"] == 50, what=lambda: json.dumps(sink.counts()))
    assert "trying MQTT 3.1.1" in caplog.text


def test_a_topic_that_is_not_utf_8_is_left_out_and_ends_nothing(
    start_sink: Start, serve: Callable[[Peer], int], caplog: pytest.LogCaptureFixture
) -> None:
    def publish(topic: bytes) -> bytes:
        body = len(topic).to_bytes(2, "big") + topic + b"\0{}"
        return bytes([0x30, len(body)]) + body

    def peer(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(CONNACK_5)
        for topic in (b"mien/pi/front/request/\xff\xfe", b"\xc3", b"mien/pi/front/request/ping"):
            client.sendall(publish(topic))
        drain(client)

    asked: list[tuple[str, bytes]] = []
    sink = MqttSink(MqttConfig(host="127.0.0.1", port=serve(peer), requests=True), device="pi", camera="front")
    sink.listen(lambda verb, data, reply: asked.append((verb, data)))
    sink.start()
    wait_until(lambda: asked, what=lambda: f"the request: {sink.status()}")
    assert asked == [("ping", b"{}")]
    assert sink.status() == "connected (MQTT 5)"
    sink.stop(timeout_s=0.1)


def test_a_packet_without_measure_ends_the_connection_before_it_fills_the_memory(
    start_sink: Start, serve: Callable[[Peer], int]
) -> None:
    taken: list[int] = []

    def peer(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(CONNACK_311 + b"\x30\xff\xff\xff\x7f\x00\x01a")  # PUBLISH of 256 MB
        sent = 0
        try:
            while sent < 256 * 2**20:
                client.sendall(bytes(2**16))
                sent += 2**16
        except OSError:
            taken.append(sent)
            raise

    sink = start_sink(serve(peer), version="3.1.1", requests=True)
    wait_until(lambda: taken, what=lambda: f"the end of the connection: {sink.status()}")
    assert taken[0] < 32 * 2**20  # what the sockets of both sides hold
    wait_status(sink, "the broker sent a packet of 268435455 bytes; 16384 are allowed")


def test_a_broker_that_hangs_up_is_not_called_again_and_again_during_a_stop(
    serve: Callable[[Peer], int], start_sink: Start
) -> None:
    calls: list[float] = []

    def hang_up(client: socket.socket) -> None:
        calls.append(time.monotonic())
        client.recv(1000)
        client.sendall(CONNACK_311)

    sink = start_sink(serve(hang_up), version="3.1.1")
    sink.send(event_message(1))
    wait_until(lambda: len(calls) >= 2, what="two connections")
    stopped_at = time.monotonic()
    sink.stop(timeout_s=1.5)
    assert sum(at > stopped_at for at in calls) <= 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("mien", "a-b", "c"), ("mien", "a", "b-c")),
        (("home", "a", "b"), ("mien", "a", "b")),
        (("home", "a", "b"), ("house", "a", "b")),
    ],
)
def test_no_two_base_topics_share_a_client_id(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    first, second = (
        MqttConfig(prefix=prefix).make_client_id(device, camera) for prefix, device, camera in (one, other)
    )
    assert first != second
    assert MqttConfig().make_client_id("pi", "front") == "mien-pi-front"
    assert MqttConfig(client_id="mine").make_client_id("a-b", "c") == "mine"
