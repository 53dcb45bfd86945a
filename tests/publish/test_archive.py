"""Events that are asked for again: what is kept no longer is said, also where nothing else is left to say."""

from __future__ import annotations

import msgspec

from edge.publish.mqtt.archive import Archive
from edge.publish.outbox.base import Bounds, StoredEvent

HOUR_NS = 3_600_000_000_000


def ask(archive: Archive, from_seq: int, *, at_h: float) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Return the answer's result and the messages that follow it."""
    wish = msgspec.json.encode({"boot_id": "b", "from_seq": from_seq})
    answer = archive.ask(wish, None, boot_id="b", now_ns=round(at_h * HOUR_NS))
    assert answer.result is not None
    sent = [msgspec.json.decode(taken[1]) for taken in iter(archive.next_message, None)]
    return answer.result, sent


def test_when_nothing_is_kept_any_more_the_gap_is_told_and_not_silence() -> None:
    archive = Archive(Bounds(10, age_s=3600))
    for seq in (1, 2, 3):
        archive.add(StoredEvent("b", seq, 0, b'{"seq":%d}' % seq), now_ns=0)
    assert [message.get("seq") for message in ask(archive, 2, at_h=0.5)[1]] == [2, 3]
    result, sent = ask(archive, 2, at_h=2)
    assert result["events"] == 0
    assert [(message["from_seq"], message["to_seq"], message["reason"]) for message in sent] == [(2, 3, "not_kept")]
    assert ask(archive, 4, at_h=2) == ({"events": 0, "from_seq": None, "to_seq": None}, [])
    archive.add(StoredEvent("b", 4, 0, b'{"seq":4}'), now_ns=2 * HOUR_NS)
    assert [message.get("to_seq", message.get("seq")) for message in ask(archive, 1, at_h=2)[1]] == [3, 4]
