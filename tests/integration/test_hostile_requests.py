"""Ten thousand hostile messages on the request topics of a real daemon, over a real broker."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from brokers import Mosquitto, Subscriber, wait_until
from daemons import decoded, ended, toml_for
from paho.mqtt.enums import CallbackAPIVersion

from edge.system.host import resident_bytes

Start = Callable[..., subprocess.Popen[str]]

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

COUNT = 10_000
RSS_BOUND_BYTES = 40 * 2**20
BASE = "mien/pi/front/request/"
ODD = [
    b"", b"[]", b"{}x", b'{"a":1}', b'{"transaction":{}}', b'{"transaction":1e999}', b'{"transaction":NaN}',
    b'{"transaction":"' + b"x" * 65 + b'"}', b'{"transaction":' + b"9" * 900 + b"}", b'{"transaction":"\\ud800"}',
    b'{"transaction":"\xff"}', b"\xff\xfe\x00", b"[" * 15_000, b'{"a":' * 3_000, b'{"transaction":' + b"[" * 900,
    b"\x00" * 2_000, b"9" * 5_000, b'{"transaction":"a","transaction":[]}',
]  # fmt: skip
VERBS = ["explode", "PAUSE", "pause ", "pings", "x" * 300, "ü", "a b", "..", "$SYS", "", "%s", "ping\u202e", "0"]


def hostile(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Verb and payload of so many messages: known verbs with nonsense, unknown ones with anything."""
    for number in range(COUNT):
        kind = number % 10
        if kind < 4:
            payload = rng.choice(ODD[1:])
        elif kind < 9:
            payload = b"\x80" + rng.randbytes(rng.randrange(1, 1500))
        else:
            payload = rng.randbytes(rng.choice((17_000, 300_000)) if number % 500 == 9 else 16_000)
        verb = rng.choice(["ping", "pause", "resume", "reload", "selftest"]) if number % 2 else rng.choice(VERBS)
        yield verb, payload


def flood(port: int, messages: Iterator[tuple[str, bytes]]) -> None:
    """Publishes all at once, of mixed quality, some retained, and returns when the broker has them all."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(0xFFFF)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sent = [
        client.publish(BASE + verb, payload, qos=number % 2, retain=number % 7 == 0)
        for number, (verb, payload) in enumerate(messages)
    ]
    for info in sent:
        info.wait_for_publish(120)
    client.disconnect()
    client.loop_stop()


def send_malformed(port: int) -> None:
    """Packets that no client library makes: topics that are not UTF-8, wildcards, lengths that lie."""
    connect = bytes.fromhex("100d00044d5154540402003c000161")
    for topic, length in ((b"mien/pi/front/request/\xff\xfe", 0), (b"mien/pi/front/request/+", 0), (b"a", 2**20)):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            body = len(topic).to_bytes(2, "big") + topic + b"{}"
            peer.sendall(connect + bytes([0x30, len(body)] if not length else [0x30, 0xFF, 0xFF, 0x7F]) + body)


def test_ten_thousand_hostile_requests_neither_stop_nor_slow_nor_fatten_the_daemon(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto("allow_anonymous true", "max_queued_messages 0")
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    answers = subscribe(broker.port, "mien/pi/front/response/#")
    child = run(toml_for(clip, port=broker.port, extra="requests = true\n[publish]\nfaces_hz = 5\nhealth_s = 1\n"))
    subscriber.wait_for("count", b"2")

    def ask(verb: str, transaction: str) -> dict[str, object]:
        """Asks until there is an answer: what comes while too much waits is dropped."""
        for _ in range(30):
            subscriber.publish(BASE + verb, json.dumps({"transaction": transaction}).encode())
            answers.wait_quiet(quiet_s=1)
            found = [answer for answer in decoded(answers.on(verb)) if answer["transaction"] == transaction]
            if found:
                return found[0]
        raise AssertionError(f"no answer to {verb}; the daemon: {child.poll()}")

    assert ask("ping", "before")["status"] == "ok"
    assert ask("selftest", "before")["status"] == "ok"  # its memory belongs to the daemon, not to the flood
    before_bytes = resident_bytes(child.pid)
    faces = len(subscriber.on("faces"))
    send_malformed(broker.port)
    flood(broker.port, hostile(random.Random(5)))
    assert ask("ping", "after")["status"] == "ok"
    told = decoded([message.payload for message in answers.messages])
    refused = [answer for answer in told if answer["status"] == "error"]
    assert len(refused) > 50
    assert all(answer["reason"] for answer in refused)
    assert {answer["verb"] for answer in told if answer["status"] == "ok"} == {"ping", "selftest"}, "nothing was obeyed"
    assert resident_bytes(child.pid) - before_bytes < RSS_BOUND_BYTES
    subscriber.wait_for("faces", count=faces + 5)

    assert ask("pause", "a")["status"] == "ok"
    assert ask("resume", "b")["status"] == "ok"
    assert ask("reload", "c")["result"] == {"applied": [], "pending": []}
    assert ask("selftest", "d")["status"] == "ok"
    tracks = lambda: {event["track"] for event in decoded(subscriber.on("event"))}  # noqa: E731
    wait_until(lambda: len(tracks()) >= 4, what="two faces again")
    health = json.loads(subscriber.on("health")[-1])
    assert health["sinks"]["mqtt"]["counts"]["reconnects"] == 0
    assert health["counts"]["requests_refused"] >= len(refused)
    assert health["counts"]["requests_dropped"] > 0
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0, errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) < 60, "whoever floods us does not flood the log"


def test_the_stop_does_not_wait_for_a_flood(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto("allow_anonymous true", "max_queued_messages 0")
    subscriber = subscribe(broker.port, "mien/pi/front/availability")
    child = run(toml_for(clip, port=broker.port, extra="requests = true\n"))
    subscriber.wait_for("availability", b"online")
    flood(broker.port, (("selftest", b"") for _ in range(500)))
    child.send_signal(signal.SIGTERM)
    assert ended(child, timeout_s=15)[0] == 0
    subscriber.wait_for("availability", b"offline")
