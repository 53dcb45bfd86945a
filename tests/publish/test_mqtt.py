"""The MQTT sink against a real mosquitto."""

from __future__ import annotations

import itertools
import json
import logging
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import Link, Mosquitto, Subscriber, free_port, restart_broker, wait_until
from publish_samples import event_message, initial_messages, state_message
from tools import require_tool

from edge.config.schema import JsonlConfig, MqttConfig
from edge.errors import ConfigError
from edge.publish.base import make_message
from edge.publish.jsonl import JsonlSink
from edge.publish.mqtt.backoff import Backoff
from edge.publish.mqtt.connection import Connection, Identity, Wake
from edge.publish.mqtt.session import may_answer_on
from edge.publish.mqtt.sink import MqttSink

pytestmark = pytest.mark.broker

Start = Callable[..., MqttSink]
Brokers = Callable[..., Mosquitto]
Subscribe = Callable[..., Subscriber]


@pytest.fixture
def start_sink() -> Iterator[Start]:
    """Starts sinks that retry quickly; they end with the test."""
    sinks: list[MqttSink] = []

    def start(port: int, *, device: str = "pi", cap_s: float = 0.2, **config: Any) -> MqttSink:
        sink = MqttSink(
            MqttConfig(**{"host": "127.0.0.1", "port": port} | config),
            device=device,
            camera="front",
            backoff=Backoff(base_s=0.05, cap_s=cap_s, rng=random.Random(1)),
        )
        sinks.append(sink)
        sink.start()
        return sink

    yield start
    for sink in sinks:
        sink.stop(timeout_s=2)


def send(sink: MqttSink, *messages: Any) -> None:
    for message in messages:
        sink.send(message)


def wait_status(sink: MqttSink, text: str) -> None:
    wait_until(lambda: text in sink.status(), what=lambda: f"status {text!r}, have {sink.status()!r}")


def seqs(payloads: list[bytes]) -> list[int]:
    """The seqs that events and gaps speak of, in their order."""
    told: list[int] = []
    for payload in map(json.loads, payloads):
        told += range(payload["from_seq"], payload["to_seq"] + 1) if "from_seq" in payload else [payload["seq"]]
    return told


def test_after_a_connect_comes_the_state_and_only_then_online(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    wait_status(sink, "connected (MQTT 5)")
    assert subscriber.messages == []  # nothing to say yet, so nothing is online
    send(sink, *initial_messages())
    subscriber.wait_for("availability", b"online")
    assert [message.topic for message in subscriber.messages] == [
        f"mien/pi/front/{level}" for level in ("info", "camera", "count", "emotion", "state", "availability")
    ]


def test_a_late_subscriber_finds_the_state_and_no_events(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    early = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, *initial_messages())
    early.wait_for("availability", b"online")
    send(sink, event_message(1), state_message(1))
    early.wait_for("state", count=2)
    late = subscribe(broker.port)
    late.wait_for("availability", b"online")
    wait_until(lambda: len(late.messages) == 6, what="six retained topics")
    assert all(message.retain for message in late.messages)
    assert json.loads(late.on("state")[0])["last_seq"] == 1
    assert late.on("event") == []


def test_events_are_sent_once_in_order_with_quality_expiry_and_type(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    messages = [event_message(seq) for seq in range(1, 101)]
    send(sink, *initial_messages(), *messages)
    assert subscriber.wait_for("event", count=100) == [message.data for message in messages]
    event = next(message for message in subscriber.messages if message.topic == "mien/pi/front/event")
    assert (event.qos, event.retain) == (1, False)
    assert event.properties.ContentType == "application/json"
    assert not hasattr(event.properties, "MessageExpiryInterval")  # whoever was away finds all
    state = next(message for message in subscriber.messages if message.topic == "mien/pi/front/state")
    assert state.qos == 1
    assert not hasattr(state.properties, "MessageExpiryInterval")
    wait_until(lambda: sink.counts()["sent"] == 100, what="100 acknowledgements")
    assert sink.counts() == {"queued": 0, "dropped": 0, "sent": 100, "refused": 0, "skipped": 0, "reconnects": 0}


def test_events_expire_only_where_that_is_configured(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    send(start_sink(broker.port, expiry_s=60), *initial_messages(), event_message(1))
    subscriber.wait_for("event")
    event, state = (
        next(message for message in subscriber.messages if message.topic == f"mien/pi/front/{level}")
        for level in ("event", "state")
    )
    assert 55 <= event.properties.MessageExpiryInterval <= 60
    assert not hasattr(state.properties, "MessageExpiryInterval")


def test_an_events_bytes_are_the_same_in_every_sink(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start, tmp_path: Path
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    lines = JsonlSink(JsonlConfig(path=str(tmp_path / "x")))
    lines.start()
    message = event_message(1)
    for sink in (start_sink(broker.port), lines):
        sink.send(message)
    lines.stop(timeout_s=5)
    (data,) = subscriber.wait_for("event")
    assert (tmp_path / "x").read_bytes() == b'{"kind":"event","payload":' + data + b"}\n"


def test_the_state_never_overtakes_the_events_that_it_counts(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, *initial_messages())
    subscriber.wait_for("availability", b"online")
    for seq in range(1, 301):
        send(sink, event_message(seq, live_s=60), state_message(seq))
    subscriber.wait_for("event", count=300)
    wait_until(lambda: json.loads(subscriber.on("state")[-1])["last_seq"] == 300, what="the last state")
    last_event = 0
    for message in subscriber.messages:
        payload = json.loads(message.payload) if message.payload[:1] == b"{" else {}
        last_event = payload.get("seq", last_event)
        assert payload.get("last_seq", 0) <= last_event


def test_a_real_subscriber_from_the_command_line_sees_the_topics(mosquitto: Brokers, start_sink: Start) -> None:
    program = require_tool("mosquitto_sub", "apt-get install mosquitto-clients")
    broker = mosquitto()
    sink = start_sink(broker.port, prefix="home/mien")
    send(sink, *initial_messages())
    wait_until(lambda: sink.counts()["queued"] == 0 and "connected" in sink.status(), what="a connection")
    command = [program, "-p", str(broker.port), "-t", "home/mien/pi/front/availability", "-C", "1", "-W", "10"]
    assert subprocess.run(command, capture_output=True, check=True, timeout=20).stdout == b"online\n"


def test_a_clean_stop_flushes_says_stopped_and_leaves_no_will(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, *initial_messages())
    subscriber.wait_for("availability", b"online")
    send(sink, *(event_message(seq) for seq in range(1, 201)), state_message(200))
    sink.stop(timeout_s=10)
    assert sink.status() == "stopped"
    subscriber.wait_for("availability", b"offline")
    assert seqs(subscriber.on("event")) == list(range(1, 201))
    assert subscriber.messages[-1].topic == "mien/pi/front/availability"
    assert subscriber.on("availability") == [b"online", b"offline"]
    late = subscribe(broker.port)
    assert late.wait_for("availability") == [b"offline"]


def test_events_sent_just_before_a_stop_wait_for_the_first_connection(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, event_message(1))
    sink.stop(timeout_s=10)
    assert seqs(subscriber.wait_for("event")) == [1]


def test_a_stop_before_the_brokers_answer_has_arrived_leaves_no_will(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start, link: Callable[[int], Link]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    network = link(broker.port)
    network.mute = True
    sink = start_sink(network.port)
    wait_until(lambda: "as mien-pi-front" in broker.log, what="the broker's having read CONNECT")
    sink.stop(timeout_s=10)
    wait_until(lambda: "Client mien-pi-front" in broker.log, what="the broker's having noticed the end")
    subscriber.wait_quiet()
    assert subscriber.on("availability") == []


def test_a_goodbye_is_heard_though_not_everything_was_read(mosquitto: Brokers, subscribe: Subscribe) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    identity = Identity("reader", will_topic="mien/pi/front/availability", subscriptions=("flood",))
    connection = Connection(MqttConfig(host="127.0.0.1", port=broker.port), identity=identity, version="5")
    wake = Wake()
    connection.open(wake=wake)
    connection.poll(wake=wake, timeout_s=1)  # the subscription is on its way
    for _ in range(100):
        subscriber.publish("flood", b"x" * 1000)
    subscriber.wait_quiet()
    connection.close(goodbye=True)
    wait_until(lambda: "Client reader" in broker.log, what="the broker's having noticed the end")
    subscriber.wait_quiet()
    assert subscriber.on("availability") == []
    assert "Client reader disconnected." in broker.log


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from publish_samples import initial_messages
from edge.config.schema import JsonlConfig, MqttConfig
from edge.publish.mqtt.session import may_answer_on
from edge.publish.mqtt.sink import MqttSink
sink = MqttSink(MqttConfig(host="127.0.0.1", port=int(sys.argv[2])), device="pi", camera="front")
sink.start()
for message in initial_messages():
    sink.send(message)
time.sleep(600)
"""


def test_a_process_that_is_killed_is_offline(mosquitto: Brokers, subscribe: Subscribe) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parents[1]), str(broker.port)]
    with subprocess.Popen(command) as child:
        subscriber.wait_for("availability", b"online")
        child.send_signal(signal.SIGKILL)
    subscriber.wait_for("availability", b"offline")
    assert subscribe(broker.port).wait_for("availability") == [b"offline"]


def test_a_broker_that_is_absent_at_start_blocks_nothing_and_learns_everything_later(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    broker.kill()
    sink = start_sink(broker.port)
    send(sink, *initial_messages(), *(event_message(seq, live_s=0) for seq in range(1, 11)))
    wait_status(sink, "unreachable: Connection refused")
    assert sink.counts()["queued"] == 10
    broker.start()
    subscriber = subscribe(broker.port)
    wait_status(sink, "connected")
    subscriber.wait_for("availability", b"online")
    wait_until(lambda: sink.counts()["queued"] == 0, what="an empty outbox")


def test_a_stop_while_the_broker_is_absent_is_quick(start_sink: Start) -> None:
    sink = start_sink(free_port(), cap_s=600)
    send(sink, *initial_messages(), event_message(1))
    wait_status(sink, "unreachable")
    sink.stop(timeout_s=60)
    assert sink.status() == "stopped"


def told(subscriber: Subscriber) -> set[int]:
    """The seqs of all events that a subscriber saw on event, on history or in a gap."""
    return set(seqs(subscriber.on("event"))) | set(seqs(subscriber.on("history")))


def check_account(sink: MqttSink, subscriber: Subscriber, last: int) -> None:
    """Nothing is lost, nothing historical is shown as live, and what was dropped is what was told as dropped."""
    everything = set(range(1, last + 1))
    wait_until(lambda: told(subscriber) == everything, what=lambda: f"{sorted(everything - told(subscriber))}")
    wait_until(lambda: sink.counts()["queued"] == 0, what="an empty outbox")
    live = seqs(subscriber.on("event"))
    assert live == sorted(set(live))
    assert not any(b"historical" in data for data in subscriber.on("event"))
    gaps = [json.loads(data) for data in subscriber.on("history") if b'"gap"' in data]
    assert {gap["reason"] for gap in gaps} <= {"queue_full"}
    assert sink.counts()["dropped"] == len({seq for gap in gaps for seq in range(gap["from_seq"], gap["to_seq"] + 1)})


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_killed_ten_times_loses_no_event(
    version: str, mosquitto: Brokers, subscribe: Subscribe, start_sink: Start, link: Callable[[int], Link]
) -> None:
    broker = mosquitto("allow_anonymous true", "max_inflight_messages 0")  # it passes on before it acknowledges
    network = link(broker.port)
    subscriber = subscribe(broker.port)
    sink = start_sink(network.port, version=version, queue_max=40)
    send(sink, *initial_messages())
    numbers = itertools.count(1)
    for round_number in range(10):
        subscriber.wait_for("availability", b"online", count=round_number + 1)
        for _ in range(15):
            send(sink, event_message(next(numbers), live_s=0.5))
        if round_number % 2:
            wait_until(lambda: sink.counts()["sent"] > 0)
        broker.freeze()  # in the middle of the work; what it has passed on is read before it dies
        subscriber.wait_quiet()
        for _ in range(20 if round_number % 3 else 60):  # every third time more than the outbox holds
            send(sink, event_message(next(numbers), live_s=0.5))
        restart_broker(broker, subscriber, network)
    check_account(sink, subscriber, next(numbers) - 1)
    assert sink.counts()["dropped"] > 0
    assert sink.counts()["reconnects"] == 10


@pytest.mark.parametrize("seed", range(3))
def test_a_network_cut_at_any_byte_loses_no_event(
    seed: int, mosquitto: Brokers, subscribe: Subscribe, start_sink: Start, link: Callable[[int], Link]
) -> None:
    broker = mosquitto()
    network = link(broker.port)
    subscriber = subscribe(broker.port)
    sink = start_sink(network.port, version="3.1.1" if seed == 2 else "5")
    rng = random.Random(seed)
    send(sink, *initial_messages())
    numbers = itertools.count(1)
    for _ in range(15):
        network.cut(after_bytes=rng.randrange(20_000))
        for _ in range(40):
            send(sink, event_message(next(numbers), live_s=rng.choice([0.0, 0.1, 5.0])))
        time.sleep(rng.uniform(0, 0.1))
    network.cut(after_bytes=1 << 40)
    check_account(sink, subscriber, next(numbers) - 1)
    assert sink.counts()["reconnects"] > 0


def test_what_was_not_sent_in_time_goes_to_history_in_order_and_never_to_event(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, *(event_message(seq, live_s=0) for seq in range(1, 51)), event_message(51, live_s=60))
    subscriber.wait_for("event")
    assert seqs(subscriber.wait_for("history", count=50)) == list(range(1, 51))
    assert all(json.loads(data)["historical"] is True for data in subscriber.on("history"))
    assert seqs(subscriber.on("event")) == [51]
    assert b"historical" not in subscriber.on("event")[0]


def test_a_full_queue_is_told_as_a_gap_once_connected(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start, link: Callable[[int], Link]
) -> None:
    broker = mosquitto()
    network = link(broker.port)
    network.down = True
    subscriber = subscribe(broker.port)
    sink = start_sink(network.port, queue_max=10)
    send(sink, *(event_message(seq, live_s=0) for seq in range(1, 101)))
    assert sink.counts()["dropped"] == 90
    network.down = False
    history = subscriber.wait_for("history", count=11)
    assert json.loads(history[0]) == {
        "schema": "mien.gap/1",
        "type": "gap",
        "boot_id": "b00t",
        "from_seq": 1,
        "to_seq": 90,
        "reason": "queue_full",
    }
    assert seqs(history[1:]) == list(range(91, 101))


def test_telemetry_is_dropped_not_queued_while_the_broker_is_away(mosquitto: Brokers, start_sink: Start) -> None:
    broker = mosquitto()
    broker.kill()
    sink = start_sink(broker.port)
    for _ in range(50):
        send(sink, make_message("faces", "{}"))
    assert sink.counts()["skipped"] == 50
    assert sink.counts()["queued"] == 0


def test_right_then_wrong_then_right_passwords(
    mosquitto: Brokers, start_sink: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tool = require_tool("mosquitto_passwd", "apt-get install mosquitto")
    users, secret = tmp_path / "users", tmp_path / "secret"
    subprocess.run([tool, "-b", "-c", str(users), "mien", "s3cret-right"], check=True, capture_output=True)
    users.chmod(0o600)
    broker = mosquitto("allow_anonymous false", f"password_file {users}")
    secret.write_text("s3cret-right\n")
    config = {"username": "mien", "password_file": str(secret)}
    sink = start_sink(broker.port, **config)
    wait_status(sink, "connected")
    secret.write_text("s3cret-wrong\n")
    broker.kill()
    broker.start()
    wait_status(sink, "refused: Not authorized")
    secret.write_text("s3cret-right")
    wait_status(sink, "connected")
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_missing_password_is_a_named_refusal(version: str, mosquitto: Brokers, start_sink: Start) -> None:
    broker = mosquitto("allow_anonymous false")
    wait_status(start_sink(broker.port, version=version), "refused: Not authorized (user name, password or client id")


def test_a_password_out_of_the_environment(
    mosquitto: Brokers, start_sink: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = require_tool("mosquitto_passwd", "apt-get install mosquitto")
    subprocess.run([tool, "-b", "-c", str(tmp_path / "u"), "mien", "pass"], check=True, capture_output=True)
    broker = mosquitto("allow_anonymous false", f"password_file {tmp_path / 'u'}")
    monkeypatch.setenv("MIEN_PASSWORD", "pass")
    wait_status(start_sink(broker.port, username="mien", password_env="MIEN_PASSWORD"), "connected")


def allow(rules: Path, *lines: str) -> None:
    rules.write_text("\n".join(lines) + "\n")
    rules.chmod(0o600)


def test_a_topic_that_may_not_be_written_is_named_and_its_events_become_history(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start, tmp_path: Path
) -> None:
    allow(rules := tmp_path / "acl", "topic read #", "topic write mien/pi/front/history")
    broker = mosquitto("allow_anonymous true", f"acl_file {rules}")
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, event_message(1), event_message(2))
    wait_until(lambda: seqs(subscriber.on("history")) == [1, 2], what="both events")
    assert all(json.loads(item)["historical"] for item in subscriber.on("history"))
    wait_status(sink, "connected (MQTT 5); event refused: Not authorized")
    assert sink.counts()["refused"] == 2
    assert sink.counts()["dropped"] == 0


def test_what_a_broker_refuses_for_a_while_is_kept_and_told_and_comes_when_it_may(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start, tmp_path: Path
) -> None:
    allow(rules := tmp_path / "acl", "topic read #")
    broker = mosquitto("allow_anonymous true", f"acl_file {rules}")
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, *(event_message(seq) for seq in range(1, 31)))
    wait_status(sink, "history refused: Not authorized")
    assert sink.counts()["queued"] == 30
    allow(rules, "topic readwrite #")
    broker.reload()
    # One that was not tried before the reload may still be live.
    heard = lambda: sorted({*seqs(subscriber.on("history")), *seqs(subscriber.on("event"))})  # noqa: E731
    wait_until(lambda: heard() == list(range(1, 31)), what=lambda: f"all events: {heard()}")
    wait_until(lambda: sink.counts()["queued"] == 0, what="an empty outbox")
    assert all("from_seq" not in json.loads(item) for item in subscriber.on("history"))
    assert sink.counts()["dropped"] == 0
    wait_until(
        lambda: not sink.problems() or sink.problems() == ["event refused: Not authorized"], what="the end of it"
    )


def test_a_broker_that_allows_nothing_at_all_is_no_endless_loop(
    mosquitto: Brokers, start_sink: Start, tmp_path: Path
) -> None:
    allow(rules := tmp_path / "acl", "topic deny #")
    broker = mosquitto("allow_anonymous true", f"acl_file {rules}")
    sink = start_sink(broker.port)
    send(sink, *initial_messages(), event_message(1))
    wait_status(sink, "history refused")
    assert sink.counts()["queued"] == 1
    assert sink.counts()["dropped"] == 0
    time.sleep(1.5)  # history is tried again after one second, then after two
    assert 6 + 2 <= sink.counts()["refused"] <= 6 + 4
    began = time.monotonic()
    sink.stop(timeout_s=5)
    assert time.monotonic() - began < 4, "it does not wait for what the broker does not take"


def test_two_machines_of_one_name_are_told_so(
    mosquitto: Brokers, start_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto()
    first = start_sink(broker.port, device="raspberrypi", cap_s=5)
    wait_status(first, "connected")
    start_sink(broker.port, device="raspberrypi", cap_s=5)
    wait_until(
        lambda: "again and again: does another client call itself mien-raspberrypi-front?" in caplog.text,
        what="the named error",
    )


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_two_clients_of_one_name_are_a_problem_while_connected(
    version: str, mosquitto: Brokers, start_sink: Start
) -> None:
    broker = mosquitto()
    sinks = [start_sink(broker.port, device="raspberrypi", version=version) for _ in range(2)]
    twin = "another client calls itself mien-raspberrypi-front: they throw each other out"
    wait_until(lambda: all(twin in sink.problems() for sink in sinks), what=lambda: str([s.status() for s in sinks]))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("retain_available false", "the broker keeps no retained messages: who subscribes learns only what changes"),
        ("max_qos 0", "the broker offers QoS 0 only: events that get lost on the way are not sent again"),
    ],
)
def test_a_broker_without_retained_messages_or_qos_1_is_worked_with_and_told(
    setting: str, problem: str, mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto("allow_anonymous true", setting)
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, *initial_messages())
    wait_status(sink, "connected")
    send(sink, event_message(1))
    subscriber.wait_for("event")
    assert sink.problems() == [problem]
    wait_until(lambda: sink.counts()["queued"] == 0, what="the outbox to be empty")
    assert sink.counts()["reconnects"] == 0
    sink.stop(timeout_s=2)
    assert subscriber.wait_for("availability", count=2)[-1] == b"offline"


def test_a_message_that_is_too_large_for_the_broker_becomes_a_gap(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto("allow_anonymous true", "max_packet_size 400")
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, event_message(1))
    gap = json.loads(subscriber.wait_for("history")[0])
    assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (1, 1, "too_large")
    assert sink.counts()["reconnects"] == 0
    assert sink.problems() == ["event refused: larger than the broker takes (400 bytes)"]


def test_a_missing_password_file_is_refused_at_start(tmp_path: Path) -> None:
    config = MqttConfig(username="mien", password_file=str(tmp_path / "none"))
    sink = MqttSink(config, device="pi", camera="front")
    with pytest.raises(ConfigError, match=r"^mqtt\.password_file: .*/none: No such file or directory$"):
        sink.start()
    sink.stop(timeout_s=1)


def test_backoff_has_full_jitter_and_a_cap() -> None:
    backoff = Backoff(base_s=1, cap_s=8, rng=random.Random(0))
    many = [Backoff(base_s=1, cap_s=8, rng=random.Random(seed)) for seed in range(200)]
    rounds = [[each.next_s() for each in many] for _ in range(6)]
    for bound, values in zip((1, 2, 4, 8, 8, 8), rounds, strict=True):
        assert max(values) <= bound
        assert max(values) > 0.9 * bound
        assert min(values) < 0.1 * bound
    for _ in range(10_000):
        assert backoff.next_s() <= 8
    backoff.reset()
    assert backoff.next_s() <= 1


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        ("answers/me", True),
        ("mien/pi/front/response/mine", True),
        ("mien/pi/frontdoor", True),
        ("mien/pi/front", False),
        ("mien/pi/front/event", False),
        ("mien/pi/front/request/pause", False),
        ("mien/pi/back/request/pause", False),
        ("mien/pi/back/active/set", False),
        ("homeassistant/device/x/config", False),
        ("$SYS/x", False),
        ("a/+/b", False),
        ("a/#", False),
        ("a\0b", False),
        ("x" * 300, False),
    ],
)
def test_an_answer_goes_nowhere_where_it_would_be_taken_for_something_else(topic: str, allowed: bool) -> None:
    assert may_answer_on(topic, base="mien/pi/front") == allowed


HISTORY = "mien/pi/front/request/history"


def test_acknowledged_events_are_sent_again_to_who_asks(
    mosquitto: Brokers, subscribe: Subscribe, start_sink: Start
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port, history=True)
    events = [event_message(seq) for seq in range(1, 31)]
    send(sink, *initial_messages(), *events)
    wait_until(lambda: sink.counts()["sent"] == 30, what="acknowledgements")

    def responses() -> list[Any]:
        told = [json.loads(each.payload) for each in subscriber.messages if each.topic.endswith("response/history")]
        return [each["result"] or each["reason"] for each in told]

    subscriber.publish(HISTORY, b'{"boot_id": "b00t", "from_seq": 21}')
    again = [json.loads(data) for data in subscriber.wait_for("history", count=12) if b'"historical"' in data]
    assert [event["seq"] for event in again] == list(range(21, 31))
    assert responses() == [{"events": 10, "from_seq": 21, "to_seq": 30}]
    subscriber.publish(HISTORY, b'{"boot_id": "b00t", "from_seq": 30}', reply=("mine/x", b"7"))
    for wrong in b'{"boot_id": "old", "from_seq": 1}', b"PRESS", b'{"boot_id": "b00t", "from_seq": 0}':
        subscriber.publish(HISTORY, wrong)
    wait_until(lambda: len(responses()) == 4, what=lambda: str(responses()))
    assert responses()[1] == "boot_id: only events of the present start, b00t, are kept"
    assert len([each for each in subscriber.messages if each.topic == "mien/pi/front/event"]) == 30, (
        "none is live twice"
    )


def test_what_is_not_kept_any_more_is_a_gap(mosquitto: Brokers, subscribe: Subscribe, start_sink: Start) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port, history=True, queue_max=5)
    send(sink, *initial_messages())
    for seq in range(1, 9):
        send(sink, event_message(seq))
        wait_until(lambda: sink.counts()["sent"] == seq, what="its acknowledgement")  # noqa: B023
    subscriber.publish(HISTORY, b'{"boot_id": "b00t", "from_seq": 1}')
    told = [json.loads(data) for data in subscriber.wait_for("history", count=8) if b'"type"' in data]
    assert (told[0]["reason"], told[0]["from_seq"], told[0]["to_seq"]) == ("not_kept", 1, 3)
    assert [event["seq"] for event in told[1:]] == [4, 5, 6, 7, 8]


def test_without_the_key_no_history_is_told(mosquitto: Brokers, subscribe: Subscribe, start_sink: Start) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    sink = start_sink(broker.port)
    send(sink, *initial_messages(), event_message(1))
    subscriber.wait_for("event")
    subscriber.publish(HISTORY, b'{"boot_id": "b00t", "from_seq": 1}')
    subscriber.wait_quiet()
    assert len(subscriber.on("history")) == 1, "only the request itself"
    assert sink.counts()["sent"] == 1
