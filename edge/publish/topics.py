"""The table of topics: what is published, as what, and how it is delivered. A new topic is a row here and its payload.

Sinks, JSON Schemas, ``…/info`` and the tests of the README's table read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, get_args

import msgspec

from edge.errors import UsageError
from edge.publish.payloads import (
    EventPayload,
    FacesPayload,
    GapPayload,
    HealthPayload,
    HistoryEventPayload,
    InfoPayload,
    ProblemPayload,
    ResponsePayload,
    StatePayload,
)


class Delivery(Enum):
    """How a sink treats the messages of a topic.

    Attributes:
        EVENT: each one, in order, acknowledged (QoS 1, not retained).
        LATEST: the newest one, for whoever comes later as well (QoS 1, retained).
        TELEMETRY: for whoever listens now; one that is late is left out (QoS 0, not retained).
    """

    EVENT = "event"
    LATEST = "latest"
    TELEMETRY = "telemetry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A row of the table.

    Attributes:
        payload: type of the payload; `str` for plain text.
        delivery: see `Delivery`.
        homeassistant: whether Home Assistant's entities read it.
        recorded: whether sinks that keep a record write it; not what repeats another topic, nor answers to a request.
    """

    payload: Any
    delivery: Delivery
    homeassistant: bool = False
    recorded: bool = True

    @property
    def is_retained(self) -> bool:
        """Whether the broker keeps the newest message."""
        return self.delivery is Delivery.LATEST

    @property
    def qos(self) -> int:
        """Return MQTT's quality of service."""
        return 0 if self.delivery is Delivery.TELEMETRY else 1

    @property
    def schemas(self) -> tuple[str, ...]:
        """The schemas of its payload, ``mien.event/1``; none for plain text."""
        structs = get_args(self.payload) or (self.payload,)
        return tuple(str(struct.__struct_config__.tag) for struct in structs if issubclass(struct, msgspec.Struct))


TOPICS: Final[Mapping[str, Topic]] = {
    "info": Topic(payload=InfoPayload, delivery=Delivery.LATEST),
    "camera": Topic(payload=str, delivery=Delivery.LATEST, homeassistant=True),
    "state": Topic(payload=StatePayload, delivery=Delivery.LATEST, homeassistant=True),
    "count": Topic(payload=str, delivery=Delivery.LATEST, homeassistant=True, recorded=False),
    "emotion": Topic(payload=str, delivery=Delivery.LATEST, homeassistant=True, recorded=False),
    "counts": Topic(payload=str, delivery=Delivery.LATEST, recorded=False),
    "active": Topic(payload=str, delivery=Delivery.LATEST, homeassistant=True, recorded=False),
    "problem": Topic(payload=ProblemPayload, delivery=Delivery.LATEST, homeassistant=True),
    "availability": Topic(payload=str, delivery=Delivery.LATEST, homeassistant=True),
    "event": Topic(payload=EventPayload, delivery=Delivery.EVENT, homeassistant=True),
    "history": Topic(payload=HistoryEventPayload | GapPayload, delivery=Delivery.EVENT),
    "response": Topic(payload=ResponsePayload, delivery=Delivery.EVENT, recorded=False),
    "health": Topic(payload=HealthPayload, delivery=Delivery.TELEMETRY, homeassistant=True),
    "faces": Topic(payload=FacesPayload, delivery=Delivery.TELEMETRY),
}
"""Name, which is the last level in MQTT, to its row. After a connect the retained ones are sent in this order."""

REQUEST_FILTERS: Final = ("request/+", "active/set")
"""Topic filters below the base topic on which requests come."""
PAYLOADS: Final[Mapping[str, Any]] = {name: topic.payload for name, topic in TOPICS.items() if topic.schemas}
"""Topics whose payload is JSON, with its type."""
VERSIONS: Final[Mapping[str, str]] = {
    tag.removeprefix("mien.").partition("/")[0]: tag for topic in TOPICS.values() for tag in topic.schemas
}
"""Name of each payload to its schema, as ``…/info`` says it."""


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a topic's payload.

    Args:
        name: one of `PAYLOADS`.

    Raises:
        UsageError: an unknown name; the message lists the valid ones.
    """
    if name not in PAYLOADS:
        raise UsageError(f"schema: {name!r} is unknown; there are {', '.join(PAYLOADS)}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(PAYLOADS[name])
