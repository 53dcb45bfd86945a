"""Brokers that are away, die, fall silent or refuse, and a daemon that is killed: nothing that was stored is lost."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Link, Mosquitto, Subscriber, restart_broker, wait_until
from integration.daemon_process import DaemonProcess, Place, told_places
from tools import require_tool

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]  # twenty starts on a busy machine

Start = Callable[..., DaemonProcess]
Brokers = Callable[..., Mosquitto]
Subscribe = Callable[..., Subscriber]


def told(subscriber: Subscriber) -> set[Place]:
    """The events that came live, late, or as part of a gap."""
    return set(told_places(subscriber.on("event"))) | set(told_places(subscriber.on("history")))


def wait_told(subscriber: Subscriber, places: set[Place]) -> None:
    wait_until(lambda: places <= told(subscriber), what=lambda: f"{sorted(places - told(subscriber))}", timeout_s=60)


def test_without_a_broker_and_killed_twice_everything_stored_comes_on_history_in_order(
    start_daemon: Start, mosquitto: Brokers, subscribe: Subscribe
) -> None:
    broker = mosquitto()
    broker.kill()
    first = start_daemon(broker.port, mqtt="queue_max = 8\n")
    wait_until(lambda: len(first.made()) >= 15, what=lambda: first.log, timeout_s=60)
    first.kill()
    second = start_daemon(broker.port, mqtt="queue_max = 1000\n")
    wait_until(lambda: len(second.made()) >= 6, what=lambda: second.log, timeout_s=60)
    second.kill()
    stored = second.stored()
    boots = list(dict.fromkeys(boot_id for boot_id, _ in stored))
    assert boots == [first.made()[0][0], second.made()[0][0]]
    for boot_id in boots:
        seqs = [seq for boot, seq in stored if boot == boot_id]
        assert seqs == list(range(1, len(seqs) + 1)), "from the first on, without a hole"
    broker.start()
    subscriber = subscribe(broker.port)
    third = start_daemon(broker.port, mqtt="queue_max = 1000\n")
    wait_told(subscriber, set(stored))
    history = subscriber.on("history")
    assert [place for place in told_places(history) if place[0] in boots] == stored
    rows = [json.loads(data) for data in history]
    assert [row["reason"] for row in rows if row.get("type") == "gap"] == ["queue_full"]
    assert all(row["historical"] for row in rows if "seq" in row)
    info = json.loads(subscriber.wait_for("info")[0])
    assert (info["previous"]["boot_id"], info["previous"]["last_seq"]) == stored[-1]
    third.stop()


def test_a_broker_killed_ten_times_loses_no_event_and_finds_the_state_again_each_time(
    start_daemon: Start, mosquitto: Brokers, subscribe: Subscribe, link: Callable[[int], Link]
) -> None:
    broker = mosquitto("allow_anonymous true", "max_inflight_messages 0")  # it passes on before it acknowledges
    network = link(broker.port)
    subscriber = subscribe(broker.port)
    daemon = start_daemon(network.port)
    for round_number in range(10):
        subscriber.wait_for("availability", b"online", count=round_number + 1)
        late = subscribe(broker.port)
        late.wait_for("availability", b"online")
        assert all(late.on(level) for level in ("info", "camera", "state", "count", "emotion"))
        late.close()
        daemon.wait_made(len(daemon.made()) + 1)
        broker.freeze()  # what it has passed on is read before it dies
        subscriber.wait_quiet()
        restart_broker(broker, subscriber, network)
    subscriber.wait_for("availability", b"online", count=11)
    wait_told(subscriber, set(daemon.made()))
    daemon.stop()
    wait_told(subscriber, set(daemon.made()) - set(daemon.stored()))
    live = told_places(subscriber.on("event"))
    assert live == sorted(set(live))
    assert subscriber.on("availability")[-1] == b"offline"


def test_sigkill_at_20_random_moments_loses_nothing_that_was_stored_and_leaves_nobody_online(
    start_daemon: Start, mosquitto: Brokers, subscribe: Subscribe, link: Callable[[int], Link]
) -> None:
    rng = random.Random(11)
    broker = mosquitto()
    network = link(broker.port)
    subscriber = subscribe(broker.port)
    ever_stored: set[Place] = set()
    for number in range(20):
        network.down = number % 3 == 0
        daemon = start_daemon(network.port)
        if number % 4:
            daemon.wait_made(1)
        time.sleep(rng.uniform(0.0, 0.8))
        daemon.kill()
        stored = daemon.stored()
        assert len(stored) == len(set(stored))
        boots = list(dict.fromkeys(boot_id for boot_id, _ in stored))
        assert stored == sorted(stored, key=lambda place: (boots.index(place[0]), place[1])), "in the order of making"
        ever_stored |= set(stored)
        network.cut()
        wait_until(
            lambda: subscriber.on("availability")[-1:] in ([], [b"offline"]),
            what=lambda: f"offline: {subscriber.on('availability')}",
        )
    assert ever_stored
    subscriber.wait_quiet()
    assert subscriber.on("availability")[-1] == b"offline"
    network.down = False
    start_daemon(network.port)
    wait_told(subscriber, ever_stored)
    wait_until(lambda: subscriber.on("availability")[-1] == b"online", what="online")


def test_a_broker_that_accepts_and_never_answers_is_named_and_the_events_are_stored(start_daemon: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel accepts, nobody ever reads
        daemon = start_daemon(listener.getsockname()[1])
        text = "no answer to CONNECT within 5 s: is this an MQTT broker?"
        daemon.wait_log(text)
        daemon.wait_status(text)
        daemon.wait_made(5)
        daemon.stop()
    assert daemon.stored() == daemon.made()


def test_a_broker_that_freezes_is_left_and_gets_everything_once_it_answers_again(
    start_daemon: Start, mosquitto: Brokers, subscribe: Subscribe
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    daemon = start_daemon(broker.port)
    subscriber.wait_for("availability", b"online")
    broker.freeze()
    daemon.wait_log("nothing was acknowledged for 5 s")
    daemon.wait_made(len(daemon.made()) + 3)
    broker.thaw()
    subscriber.wait_for("availability", b"online", count=2)
    wait_told(subscriber, set(daemon.made()))
    daemon.stop()
    wait_told(subscriber, set(daemon.made()) - set(daemon.stored()))
    assert subscriber.wait_for("availability", b"offline")


def test_a_wrong_password_is_named_and_the_right_one_is_read_while_it_retries(
    start_daemon: Start, mosquitto: Brokers, subscribe: Subscribe, tmp_path: Path
) -> None:
    tool = require_tool("mosquitto_passwd", "apt-get install mosquitto")
    users, secret = tmp_path / "users", tmp_path / "secret"
    subprocess.run([tool, "-b", "-c", str(users), "mien", "s3cret-right"], check=True, capture_output=True)
    users.chmod(0o600)
    broker = mosquitto("allow_anonymous false", f"password_file {users}")
    secret.write_text("s3cret-wrong\n")
    daemon = start_daemon(broker.port, mqtt=f'username = "mien"\npassword_file = "{secret}"\n')
    daemon.wait_log("WARNING edge.publish.mqtt.sink: mqtt: 127.0.0.1:")
    daemon.wait_status("refused: Not authorized (user name, password or client id are not accepted)")
    secret.write_text("s3cret-right\n")
    daemon.wait_status("connected (MQTT 5)")
    subscriber = subscribe(broker.port, username="mien", password="s3cret-right")
    subscriber.wait_for("availability", b"online")
    daemon.stop()
    assert "s3cret" not in daemon.log


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"host": "no-such-host.invalid"}, "unknown host no-such-host.invalid"),
        ({"mqtt": "tls = true\n"}, "TLS: wrong version number (does this port speak TLS?)"),
    ],
    ids=["unknown host", "no TLS"],
)
def test_what_keeps_it_from_the_broker_is_named_in_log_and_status(
    options: dict[str, str], text: str, start_daemon: Start
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_in_plain() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer_in_plain, daemon=True).start()
        daemon = start_daemon(listener.getsockname()[1], **options)
        daemon.wait_log(text)
        daemon.wait_status(text)
        daemon.wait_made(1)
        daemon.stop()
    assert daemon.stored() == daemon.made()
