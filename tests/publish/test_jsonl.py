from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from brokers import wait_until
from publish_samples import event_message, initial_messages, state_message

from edge.config.schema import JsonlConfig
from edge.errors import PublishError
from edge.publish.base import Message, make_message
from edge.publish.jsonl import JsonlSink


def run(path: Path | str, messages: list[Message], *, queue_max: int = 1000) -> JsonlSink:
    sink = JsonlSink(JsonlConfig(path=str(path)), queue_max=queue_max)
    sink.start()
    for message in messages:
        sink.send(message)
    sink.stop(timeout_s=10)
    return sink


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def told(payloads: list[dict[str, Any]]) -> list[int]:
    """The seqs of events and gaps in the order of the lines."""
    seqs: list[int] = []
    for payload in payloads:
        seqs += range(payload["from_seq"], payload["to_seq"] + 1) if "from_seq" in payload else [payload["seq"]]
    return seqs


def test_each_line_is_one_object_with_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    run(path, [*initial_messages(), event_message(1)])
    assert [line["kind"] for line in lines(path)] == ["info", "camera", "state", "event"]
    assert lines(path)[1]["payload"] == "live"
    assert lines(path)[3]["payload"]["seq"] == 1


def test_an_events_bytes_are_those_of_every_other_sink(tmp_path: Path) -> None:
    message = event_message(1)
    run(tmp_path / "x", [message])
    assert (tmp_path / "x").read_bytes() == b'{"kind":"event","payload":' + message.data + b"}\n"


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    run(path, [event_message(1)])
    run(path, [event_message(2)])
    assert [line["payload"]["seq"] for line in lines(path)] == [1, 2]
    assert path.stat().st_mode & 0o007 == 0


def test_a_line_is_there_as_soon_as_it_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(JsonlConfig(path=str(path)))
    sink.start()
    sink.send(event_message(1))
    wait_until(lambda: path.read_bytes().endswith(b"\n"), what="the line")
    sink.stop(timeout_s=10)


def test_a_file_that_cannot_be_opened_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"^jsonl\.path: .*/no/such: No such file or directory$"):
        JsonlSink(JsonlConfig(path=str(tmp_path / "no" / "such"))).start()


def test_a_full_disk_is_named_and_counted_and_ends_nothing() -> None:
    sink = run("/dev/full", [event_message(1), state_message(1), event_message(2)])
    assert sink.status() == "cannot write: No space left on device"
    assert sink.counts() == {"queued": 0, "sent": 0, "dropped": 3}


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from brokers import wait_until
from publish_samples import event_message, state_message
from edge.config.schema import JsonlConfig
from edge.publish.jsonl import JsonlSink
sink = JsonlSink(JsonlConfig(path=sys.argv[2]))
sink.start()
sink.send(event_message(1))
wait_until(lambda: sink.counts()["sent"] == 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # the next line is cut in its middle
for message in (event_message(2), state_message(), event_message(3)):
    sink.send(message)
wait_until(lambda: sink.counts()["dropped"] == 3)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.send(event_message(4))
sink.stop(timeout_s=20)
assert sink.status() == "writing", sink.status()
"""


def test_what_a_full_disk_cut_is_taken_back_and_told_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    subprocess.run([sys.executable, "-c", FULL, str(Path(__file__).parents[1]), str(path)], check=True, timeout=60)
    payloads = [line["payload"] for line in lines(path)]
    assert told(payloads) == [1, 2, 3, 4]
    assert [payload["seq"] for payload in payloads if "seq" in payload] == [1, 4]
    assert {payload["reason"] for payload in payloads if payload.get("type") == "gap"} == {"write_failed"}


def test_a_reader_that_is_too_slow_holds_nobody_up_and_learns_what_it_missed() -> None:
    reader, writer = os.pipe()
    sink = JsonlSink(JsonlConfig(path=f"/proc/self/fd/{writer}"), queue_max=50)
    sink.start()
    for seq in range(1, 2001):  # 1.4 MB into a pipe of 64 KiB that nobody reads: `send` must return each time
        sink.send(event_message(seq))
    assert sink.counts()["dropped"] > 1000
    received = bytearray()
    wait_until(lambda: received.extend(os.read(reader, 1 << 16)) or b'"seq":2000,' in received, what="the last event")
    sink.stop(timeout_s=10)
    os.close(writer)
    while chunk := os.read(reader, 1 << 16):
        received.extend(chunk)
    os.close(reader)
    assert told([json.loads(line)["payload"] for line in bytes(received).splitlines()]) == list(range(1, 2001))


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from publish_samples import event_message
from edge.config.schema import JsonlConfig
from edge.publish.jsonl import JsonlSink
sink = JsonlSink(JsonlConfig())
sink.start()
for seq in range(1, 2001):
    sink.send(event_message(seq))
sink.stop(timeout_s=20)
print(sink.status(), sink.counts()["queued"], file=sys.stderr)
"""


def child(**pipes: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(Path(__file__).parents[1])], **pipes)


def test_a_pipe_that_is_closed_by_its_reader_is_no_crash() -> None:
    with child(stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["kind"] == "event"
        process.stdout.close()
        assert process.stderr.read().decode().splitlines()[-1] == "closed by the reader 0"
        assert process.wait() == 0


def test_standard_output_that_somebody_made_non_blocking_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with child(stdout=writer) as process, os.fdopen(reader, "rb") as stream:
        os.close(writer)
        seqs = [json.loads(line)["payload"]["seq"] for line in stream]
        assert process.wait() == 0
    assert seqs == list(range(1, 2001))


def test_after_the_end_messages_are_no_error(tmp_path: Path) -> None:
    sink = run(tmp_path / "x", [event_message(1)])
    sink.send(make_message("camera", "lost"))
    sink.stop(timeout_s=1)


def test_a_renamed_file_is_followed_by_a_new_one_and_no_line_is_in_both(tmp_path: Path) -> None:
    """As logrotate does it: rename, and the writer goes on under the old name."""
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(JsonlConfig(path=str(path)))
    sink.start()
    sink.send(event_message(1))
    wait_until(lambda: path.read_bytes().endswith(b"\n"), what="the line")
    path.rename(tmp_path / "events.jsonl.1")
    sink.send(event_message(2))
    wait_until(path.exists, what="the new file")
    sink.stop(timeout_s=10)
    assert told([line["payload"] for line in lines(tmp_path / "events.jsonl.1")]) == [1]
    assert told([line["payload"] for line in lines(path)]) == [2]
    assert path.stat().st_mode & 0o007 == 0


def test_a_pipe_without_a_reader_holds_nobody_up_and_is_written_once_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sink = JsonlSink(JsonlConfig(path=str(path)))
    sink.start()
    assert sink.problems() == ["nobody reads the pipe"]
    sink.send(event_message(1))
    for seqs in ([1, 2], [4, 5]):
        with path.open("rb", buffering=0) as reader:  # who leaves, and comes back
            wait_until(lambda: sink.problems() == [], what="the pipe is open")
            sink.send(event_message(seqs[1]))
            found = b""
            while found.count(b"\n") < (2 if seqs == [1, 2] else 1):
                found += reader.read(65536)
        if seqs == [1, 2]:
            assert told([json.loads(line)["payload"] for line in found.splitlines()]) == [1, 2]
            sink.send(event_message(3))  # is lost: nobody reads any more
            wait_until(lambda: sink.problems() == ["nobody reads the pipe"], what="it is told")
    sink.stop(timeout_s=10)
    assert not [thread for thread in threading.enumerate() if thread.name == "jsonl"]


def test_a_pipe_without_a_reader_does_not_keep_a_daemon_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sink = JsonlSink(JsonlConfig(path=str(path)))
    sink.start()
    sink.send(event_message(1))
    begin = time.monotonic()
    sink.stop(timeout_s=10)
    assert time.monotonic() - begin < 3
