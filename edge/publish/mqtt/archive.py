"""Events that the broker has acknowledged, kept for who asks for them again: ``request/history``.

In memory alone: nothing is written for it, and a start knows none of the events before it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from edge.publish.base import Reply
from edge.publish.encode import as_history, encode
from edge.publish.outbox.base import Bounds, StoredEvent
from edge.publish.payloads import GapPayload, ResponsePayload

REQUEST_MAX_BYTES: Final = 1024
REPLAYS_MAX: Final = 4
"""Requests that are being answered at a time; one more is told so."""
RATE_HZ: Final = 100.0
"""Events sent again a second, at most: who asks must not hold up who listens."""


class HistoryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of ``…/request/history``."""

    boot_id: Annotated[str, Meta(max_length=64)]
    from_seq: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    transaction: Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None


@dataclass(slots=True)
class Replay:
    """Messages that are to be sent again.

    Attributes:
        reply: where they are wanted; None: on ``…/history``.
        waiting: their payloads.
    """

    reply: Reply | None
    waiting: deque[bytes]


class Archive:
    """Keeps the newest events. For the network thread alone.

    Args:
        bounds: on what is kept.

    Attributes:
        replays: requests that are being answered.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._kept: deque[tuple[int, StoredEvent]] = deque()
        self._data_bytes = 0
        self._forgotten: dict[str, int] = {}
        """Of each start the last seq that is kept no longer."""
        self.replays: deque[Replay] = deque()

    def add(self, event: StoredEvent, *, now_ns: int) -> None:
        """Keep an event that the broker has."""
        self._kept.append((now_ns, event))
        self._data_bytes += len(event.data)
        self._forget(now_ns)

    def ask(self, data: bytes, reply: Reply | None, *, boot_id: str, now_ns: int) -> ResponsePayload:
        """Take a request; what it asks for is in `replays` from now on.

        Returns:
            What there is to come, or why nothing is.
        """
        self._forget(now_ns)
        transaction: str | int | None = None
        try:
            if len(data) > REQUEST_MAX_BYTES:
                raise ValueError(f"the payload is longer than {REQUEST_MAX_BYTES} bytes")
            wish = msgspec.json.decode(data, type=HistoryRequest)
            transaction = wish.transaction
            if wish.boot_id != boot_id:
                raise ValueError(f"boot_id: only events of the present start, {boot_id}, are kept")
            if len(self.replays) >= REPLAYS_MAX:
                raise ValueError(f"{REPLAYS_MAX} requests are being answered; ask again later")
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            return _response(boot_id, transaction, reason=str(error))
        kept = (event for _, event in self._kept if event.boot_id == boot_id and event.seq >= wish.from_seq)
        found = sorted(kept, key=lambda event: event.seq)  # what waited was acknowledged after newer ones
        waiting = deque(as_history(event.data) for event in found)
        first = found[0].seq if found else None
        missing_to = first - 1 if first is not None else self._forgotten.get(boot_id, 0)
        if wish.from_seq <= missing_to:
            gap = GapPayload(type="gap", boot_id=boot_id, from_seq=wish.from_seq, to_seq=missing_to, reason="not_kept")
            waiting.appendleft(encode(gap))
        self.replays.append(Replay(reply, waiting))
        said = {"events": len(found), "from_seq": first, "to_seq": found[-1].seq if found else None}
        return _response(boot_id, transaction, result=said)

    def next_message(self) -> tuple[Reply | None, bytes] | None:
        """Remove and return the payload whose turn it is; None where all is sent."""
        while self.replays and not self.replays[0].waiting:
            self.replays.popleft()
        if not self.replays:
            return None
        self.replays.rotate(-1)  # who asks for much does not hold up who asks for little
        return self.replays[-1].reply, self.replays[-1].waiting.popleft()

    def _forget(self, now_ns: int) -> None:
        horizon_ns = now_ns - int((self._bounds.age_s or 0) * 1e9)
        while self._kept and (
            len(self._kept) > self._bounds.events
            or self._data_bytes > self._bounds.data_bytes
            or self._kept[0][0] < horizon_ns
        ):
            _, event = self._kept.popleft()
            self._data_bytes -= len(event.data)
            self._forgotten[event.boot_id] = max(event.seq, self._forgotten.get(event.boot_id, 0))


def _response(
    boot_id: str, transaction: str | int | None, *, result: dict[str, Any] | None = None, reason: str | None = None
) -> ResponsePayload:
    return ResponsePayload(
        boot_id=boot_id,
        verb="history",
        transaction=transaction,
        status="ok" if reason is None else "error",
        reason=reason,
        result=result,
    )
