from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.publish.outbox.base import Bounds, Gap, Record, StoredEvent
from edge.publish.outbox.memory import MemoryOutbox


def event(seq: int, boot_id: str = "b") -> StoredEvent:
    return StoredEvent(boot_id, seq, 0, b"%d" % seq)


def take_all(outbox: MemoryOutbox) -> list[Record]:
    records = []
    while (record := outbox.take()) is not None:
        records.append(record)
    return records


def items(outbox: MemoryOutbox) -> list[object]:
    return [item.seq if isinstance(item, StoredEvent) else item for item in (r.item for r in take_all(outbox))]


def test_events_come_out_in_the_order_in_which_they_went_in() -> None:
    outbox = MemoryOutbox(Bounds(10))
    for seq in range(1, 6):
        outbox.put(event(seq))
    assert items(outbox) == [1, 2, 3, 4, 5]


def test_a_full_outbox_drops_the_oldest_and_says_so_in_their_place() -> None:
    outbox = MemoryOutbox(Bounds(3))
    for seq in range(1, 8):
        outbox.put(event(seq))
    assert outbox.counts() == {"queued": 3, "dropped": 4}
    assert items(outbox) == [Gap("b", 1, 4, "queue_full"), 5, 6, 7]


def test_gaps_of_two_starts_are_told_apart() -> None:
    outbox = MemoryOutbox(Bounds(1))
    for seq, boot_id in ((8, "old"), (9, "old"), (1, "new"), (2, "new")):
        outbox.put(event(seq, boot_id))
    assert items(outbox) == [Gap("old", 8, 9, "queue_full"), Gap("new", 1, 1, "queue_full"), 2]


def test_what_was_not_acknowledged_comes_again_in_front_as_attempted() -> None:
    outbox = MemoryOutbox(Bounds(10))
    for seq in range(1, 5):
        outbox.put(event(seq))
    first, second = outbox.take(), outbox.take()
    assert first
    assert second
    outbox.done(first)
    outbox.release()
    assert [(r.item, r.attempted) for r in take_all(outbox)] == [
        (event(2), True),
        (event(3), False),
        (event(4), False),
    ]


def test_an_event_that_is_refused_becomes_a_gap_and_a_refused_gap_is_forgotten() -> None:
    outbox = MemoryOutbox(Bounds(10))
    outbox.put(event(1))
    record = outbox.take()
    assert record
    outbox.lose(record, reason="refused")
    gap = outbox.take()
    assert gap
    assert gap.item == Gap("b", 1, 1, "refused")
    outbox.lose(gap, reason="refused")
    assert outbox.take() is None
    assert len(outbox) == 0


def test_an_unacknowledged_record_is_still_counted_as_queued() -> None:
    outbox = MemoryOutbox(Bounds(10))
    outbox.put(event(1))
    outbox.take()
    assert len(outbox) == 1
    assert outbox.counts()["queued"] == 1


class OutboxKeepsAccount(RuleBasedStateMachine):
    """Whatever happens, each event is acknowledged, stored, or told as a gap; in order, and within the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = MemoryOutbox(Bounds(5))
        self.seq = 0
        self.taken: list[Record] = []
        self.arrived: set[int] = set()

    @rule(count=st.integers(1, 8))
    def put(self, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            self.outbox.put(event(self.seq))

    @rule()
    def take(self) -> None:
        record = self.outbox.take()
        if record is not None:
            self.taken.append(record)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 100))
    def acknowledge(self, which: int) -> None:
        self._arrive(self.taken.pop(which % len(self.taken)))

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 100))
    def refuse(self, which: int) -> None:
        record = self.taken.pop(which % len(self.taken))
        if isinstance(record.item, StoredEvent):
            self.outbox.lose(record, reason="refused")
        else:
            self._arrive(record)

    @rule()
    def disconnect(self) -> None:
        self.taken.clear()
        self.outbox.release()

    def _arrive(self, record: Record) -> None:
        self.outbox.done(record)
        item = record.item
        self.arrived |= {item.seq} if isinstance(item, StoredEvent) else set(range(item.from_seq, item.to_seq + 1))

    @invariant()
    def is_bounded(self) -> None:
        assert self.outbox.counts()["queued"] <= 5 + len(self.taken)

    def teardown(self) -> None:
        self.outbox.release()
        rest = take_all(self.outbox)
        seqs = [r.item.seq for r in rest if isinstance(r.item, StoredEvent)]
        assert seqs == sorted(set(seqs))
        for record in rest:
            self._arrive(record)
        assert self.arrived == set(range(1, self.seq + 1))


TestOutboxKeepsAccount = OutboxKeepsAccount.TestCase
TestOutboxKeepsAccount.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 3), max_size=30), st.integers(1, 4))
def test_gaps_never_overlap_and_never_cover_what_is_stored(bursts: list[int], bound: int) -> None:
    outbox = MemoryOutbox(Bounds(bound))
    seq = 0
    for burst in bursts:
        for _ in range(burst):
            seq += 1
            outbox.put(event(seq))
        outbox.take()
    covered: list[int] = []
    for item in items(outbox):
        covered += range(item.from_seq, item.to_seq + 1) if isinstance(item, Gap) else [item]  # type: ignore[list-item]
    assert covered == sorted(set(covered))
