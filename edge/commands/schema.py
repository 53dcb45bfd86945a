"""JSON Schemas of everything that others read or write: payloads, lines, manifest, configuration."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edge.commands.doctor.findings import DoctorReport
from edge.commands.replay import ReplayLine
from edge.config.reference import make_schema as make_config_schema
from edge.contract.manifest import AnyManifest
from edge.publish.topics import PAYLOADS, TOPICS, schema_of

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
NAMES = (*PAYLOADS, "jsonl", "replay", "doctor", "manifest", "config")


def make_schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) by name.

    Args:
        name: one of `NAMES`.

    Raises:
        UsageError: an unknown name; the message lists the valid ones.
    """
    if name == "config":
        return make_config_schema()
    if name == "jsonl":
        return _make_line_schema()
    own = {"doctor": DoctorReport, "manifest": AnyManifest, "replay": ReplayLine}
    return {"$schema": DRAFT, **msgspec.json.schema(own[name])} if name in own else schema_of(name)


def _make_line_schema() -> dict[str, Any]:
    """Describe a line of ``jsonl.path``: the topic's last level in ``kind``, what is published there in ``payload``."""
    recorded = {name: topic.payload for name, topic in TOPICS.items() if topic.recorded}
    payloads, parts = msgspec.json.schema_components(recorded.values(), ref_template="#/$defs/{name}")
    lines = [
        {
            "type": "object",
            "properties": {"kind": {"const": name}, "payload": payload},
            "required": ["kind", "payload"],
        }
        for name, payload in zip(recorded, payloads, strict=True)
    ]
    return {"$schema": DRAFT, "oneOf": lines, "$defs": parts}
