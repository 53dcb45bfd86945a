"""Requests that come over the network: strictly decoded, bounded in number, each answered once."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from edge.errors import MienError
from edge.publish import Message, Reply, make_message
from edge.publish.payloads import ResponsePayload

log = logging.getLogger(__name__)

PAYLOAD_MAX_BYTES: Final = 1024
WAITING_MAX: Final = 32
"""More than so many that were not looked at yet are dropped, the newest first."""

WORD_MAX: Final = 64
"""Characters of a payload that is no JSON; longer ones are no request."""
BUDGET_S: Final = 0.5
"""After so long `CommandQueue.run_pending` leaves the rest for its next call: the caller has other things to watch."""

_SWITCH: Final[Mapping[bytes, str]] = {b"ON": "resume", b"OFF": "pause"}

Verb = Callable[[], Mapping[str, Any]]
"""Carries out one kind of request; returns what there is to say, raises `MienError` where it could not."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of ``…/request/‹verb›``; an empty one or a word is a request without a transaction."""

    transaction: Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None


class CommandQueue:
    """Takes requests from any thread and answers them on the thread that calls `run_pending`.

    Args:
        boot_id: of this start, part of each answer.
        clock_s: monotonic seconds.

    Attributes:
        refused: requests that were answered with an error.
        dropped: requests that came while too many waited, or that cannot even be answered.
    """

    def __init__(self, *, boot_id: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._boot_id = boot_id
        self._waiting: deque[tuple[str, bytes, Reply | None]] = deque()
        self.refused = self.dropped = 0

    def put(self, verb: str, data: bytes, reply: Reply | None = None) -> None:
        """Takes a request as it came, and where it wants its answer; never blocks, never raises."""
        answerable = len(verb) <= 32 and verb.isascii() and verb.isalnum()
        if not answerable or len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            return
        if verb == "active":  # a switch: what it is set to is the verb
            verb, data = _SWITCH.get(data.strip().upper(), "active"), b""
        self._waiting.append((verb, data[: PAYLOAD_MAX_BYTES + 1], reply))

    def counts(self) -> dict[str, int]:
        """For the health report."""
        return {"requests_refused": self.refused, "requests_dropped": self.dropped}

    def run_pending(self, verbs: Mapping[str, Verb]) -> list[Message]:
        """Carry out what waits now, for `BUDGET_S` at most and at least one, and return the answers.

        Args:
            verbs: what can be asked for.
        """
        messages: list[Message] = []
        end_s = self._clock_s() + BUDGET_S
        for _ in range(len(self._waiting)):  # not: while there are any; whoever floods us would never let us go
            verb, data, reply = self._waiting.popleft()
            messages.append(make_message("response", self._answer(verb, data, verbs), reply=reply))
            if self._clock_s() >= end_s:
                break
        return messages

    def _answer(self, verb: str, data: bytes, verbs: Mapping[str, Verb]) -> ResponsePayload:
        transaction: str | int | None = None
        try:
            transaction = _decode(data).transaction
            if verb == "active":
                raise _RefusedError("active/set: allowed are ON and OFF")
            if verb not in verbs:
                raise _RefusedError(f"unknown verb; there are {', '.join(sorted(verbs))}")
            result = dict(verbs[verb]())
        except (MienError, _RefusedError) as error:
            self.refused += 1
            if self.refused.bit_count() == 1:  # 1, 2, 4, 8, …: whoever floods us does not flood the log
                log.warning("request %s: %s (refused so far: %d)", verb, error, self.refused)
            return self._response(verb, transaction, reason=str(error))
        log.log(logging.DEBUG if verb == "ping" else logging.INFO, "request %s: done", verb)
        return self._response(verb, transaction, result=result)

    def _response(
        self,
        verb: str,
        transaction: str | int | None,
        *,
        result: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> ResponsePayload:
        return ResponsePayload(
            boot_id=self._boot_id,
            verb=verb,
            transaction=transaction,
            status="ok" if reason is None else "error",
            reason=reason,
            result=result,
        )


class _RefusedError(Exception):
    """A request that is not carried out; the message says why."""


def _decode(data: bytes) -> Request:
    """Decode a request; ``PRESS``, ``ON`` or a time, which buttons and flows send by default, ask for nothing more."""
    if len(data) > PAYLOAD_MAX_BYTES:
        raise _RefusedError(f"the payload is longer than {PAYLOAD_MAX_BYTES} bytes")
    try:
        if data.lstrip()[:1] in (b"{", b"["):
            return msgspec.json.decode(data, type=Request)
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise _RefusedError("not a request: not text") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _RefusedError(f"not a request: {error}") from None
    if len(text) > WORD_MAX or not text.isprintable():
        raise _RefusedError(f"not a request: neither a JSON object nor a word of at most {WORD_MAX} characters")
    return Request()
