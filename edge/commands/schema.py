"""JSON Schemas of everything that others read or write: payloads, manifest, configuration."""

from __future__ import annotations

from typing import Any

import msgspec

from edge.commands.doctor.findings import DoctorReport
from edge.config.reference import make_schema as make_config_schema
from edge.contract.manifest import AnyManifest
from edge.publish.topics import PAYLOADS, schema_of

NAMES = (*PAYLOADS, "doctor", "manifest", "config")


def make_schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) by name.

    Args:
        name: one of `NAMES`.

    Raises:
        UsageError: an unknown name; the message lists the valid ones.
    """
    if name == "config":
        return make_config_schema()
    if name == "doctor":
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(DoctorReport)}
    if name == "manifest":
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(AnyManifest)}
    return schema_of(name)
