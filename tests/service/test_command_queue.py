"""Requests from the network: decoded strictly, bounded in size, number and time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.service.command_queue import BUDGET_S, PAYLOAD_MAX_BYTES, WAITING_MAX, CommandQueue


def answers(queue: CommandQueue) -> list[dict[str, Any]]:
    return [json.loads(message.data) for message in queue.run_pending({"ping": dict})]


@pytest.fixture
def queue() -> CommandQueue:
    return CommandQueue(boot_id="b00t")


@given(verb=st.sampled_from(["ping", "explode"]) | st.text(max_size=40), data=st.binary(max_size=PAYLOAD_MAX_BYTES + 9))
@example(verb="ping", data=b'{"transaction":' * 60)
@example(verb="ping", data=b"[" * PAYLOAD_MAX_BYTES)
@example(verb="ping", data=b'{"transaction": "\\ud800"}')
@example(verb="ping", data=b'{"transaction": ' + b"9" * 900 + b"}")
@example(verb="ping", data=b'{"transaction": 18446744073709551615}')
@example(verb="ping", data=b"\xef\xbb\xbf{}")
@example(verb="²", data=b"")
def test_whatever_comes_is_dropped_or_answered_once(verb: str, data: bytes) -> None:
    queue = CommandQueue(boot_id="b00t")
    queue.put(verb, data)
    told = answers(queue)
    assert len(told) + queue.dropped == 1
    for answer in told:
        assert answer["verb"] == verb
        assert (answer["status"] == "ok") == (answer["reason"] is None)
        assert answer["status"] == "error" or verb == "ping"
        assert len(json.dumps(answer["transaction"])) < 512


@pytest.mark.parametrize("transaction", ["a", "x" * 64, 7, -(2**63), 2**63 - 1, None])
def test_a_transaction_is_echoed(transaction: Any, queue: CommandQueue) -> None:
    queue.put("ping", json.dumps({"transaction": transaction}).encode())
    assert [(answer["status"], answer["transaction"]) for answer in answers(queue)] == [("ok", transaction)]


@pytest.mark.parametrize("transaction", ["x" * 65, 2**63, 10**300, 1.5, True, {}, [1]])
def test_a_transaction_out_of_bounds_is_an_error_with_a_reason(transaction: Any, queue: CommandQueue) -> None:
    queue.put("ping", json.dumps({"transaction": transaction}).encode())
    (answer,) = answers(queue)
    assert answer["status"] == "error"
    assert answer["reason"].startswith("not a request: ")


def test_more_than_so_many_that_wait_are_dropped_and_counted(queue: CommandQueue) -> None:
    for _ in range(WAITING_MAX + 9):
        queue.put("ping", b"")
    assert queue.dropped == 9
    assert len(queue.run_pending({"ping": dict})) == WAITING_MAX


def test_a_flood_of_slow_requests_keeps_nobody_from_other_work() -> None:
    now_s = 0.0

    def slow() -> dict[str, Any]:
        nonlocal now_s
        now_s += 0.3
        queue.put("selftest", b"")  # meanwhile the network brings more
        return {}

    queue = CommandQueue(boot_id="b00t", clock_s=lambda: now_s)
    for _ in range(10):
        queue.put("selftest", b"")
    assert len(queue.run_pending({"selftest": slow})) == 2
    assert now_s <= BUDGET_S + 0.3


@pytest.mark.parametrize("data", [b"", b"  ", b"PRESS", b"ON", b"1764240000", b"2026-11-27T08:00Z", b"null"])
def test_what_buttons_and_flows_send_by_default_is_a_request_without_a_transaction(
    data: bytes, queue: CommandQueue
) -> None:
    queue.put("ping", data)
    assert [(answer["status"], answer["transaction"]) for answer in answers(queue)] == [("ok", None)]


@pytest.mark.parametrize("data", [b"{", b"[1", b" {]", b'{"transaction": "a"', b"\xff\xfe", b"\0", b"x" * 65])
def test_broken_json_bytes_and_long_text_stay_an_error(data: bytes, queue: CommandQueue) -> None:
    queue.put("ping", data)
    assert [answer["status"] for answer in answers(queue)] == ["error"]


@pytest.mark.parametrize(("data", "verb"), [(b"ON", "resume"), (b"OFF", "pause"), (b" off\n", "pause")])
def test_a_switch_is_set_by_its_word(data: bytes, verb: str, queue: CommandQueue) -> None:
    done: list[str] = []
    queue.put("active", data)
    verbs = {name: lambda name=name: done.append(name) or {} for name in ("pause", "resume")}
    (message,) = queue.run_pending(verbs)
    assert (json.loads(message.data)["verb"], done) == (verb, [verb])


def test_a_switch_that_is_set_to_something_else_is_told_what_is_allowed(queue: CommandQueue) -> None:
    queue.put("active", b"maybe")
    (answer,) = answers(queue)
    assert answer["reason"] == "active/set: allowed are ON and OFF"
