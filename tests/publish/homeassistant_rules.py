"""Home Assistant's rules for MQTT discovery, as far as they concern us, and its templates.

Sources: https://www.home-assistant.io/integrations/mqtt/ (discovery topic, device discovery payload, availability),
https://www.home-assistant.io/integrations/sensor.mqtt/, …/binary_sensor.mqtt/, …/event.mqtt/, and what
https://github.com/home-assistant/core/tree/dev/homeassistant/components/mqtt does: ``discovery.py`` (topic matcher),
``abbreviations.py``, ``schemas.py`` (``DEVICE_DISCOVERY_SCHEMA`` refuses keys that it does not know; components ignore
them), ``event.py`` (payload after the template: a JSON object with ``event_type``).
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import jinja2

TOPIC = re.compile(r"(?P<component>\w+)/(?:(?P<node_id>[a-zA-Z0-9_-]+)/)?(?P<object_id>[a-zA-Z0-9_-]+)/config")

LONG = {
    "dev": "device", "o": "origin", "cmps": "components", "avty_t": "availability_topic",
    "avty_tpl": "availability_template", "p": "platform", "uniq_id": "unique_id", "stat_t": "state_topic",
    "val_tpl": "value_template", "dev_cla": "device_class", "ops": "options", "stat_cla": "state_class", "ic": "icon",
    "ent_cat": "entity_category", "evt_typ": "event_types", "json_attr_t": "json_attributes_topic",
    "json_attr_tpl": "json_attributes_template", "exp_aft": "expire_after", "unit_of_meas": "unit_of_measurement",
}  # fmt: skip
LONG_DEVICE = {"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version", "hw": "hw_version",
               "sa": "suggested_area", "cu": "configuration_url"}  # fmt: skip
LONG_ORIGIN = {"sw": "sw_version", "url": "support_url"}

TEXT = {"type": "string", "minLength": 1}
SUBSCRIBED = {"type": "string", "minLength": 1, "maxLength": 65535, "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"}
ENTITY = {
    "name": TEXT, "unique_id": TEXT, "state_topic": SUBSCRIBED, "availability_topic": SUBSCRIBED,
    "icon": {"type": "string", "pattern": "^mdi:[a-z0-9-]+$"},
    "value_template": TEXT, "json_attributes_topic": SUBSCRIBED, "json_attributes_template": TEXT,
    "entity_category": {"enum": ["diagnostic", "config"]},
}  # fmt: skip


def component(platform: str, required: list[str], **own: Any) -> dict[str, Any]:
    return {
        "if": {"properties": {"platform": {"const": platform}}},
        "then": {
            "properties": {"platform": {}} | ENTITY | own,
            "required": ["state_topic", *required],
            "additionalProperties": False,  # Home Assistant ignores such keys: for us they are mistakes
        },
    }


COMPONENTS = [
    component(
        "sensor",
        [],
        device_class={"enum": ["enum", "duration", "data_size", "temperature"]},  # of its many those that we use
        unit_of_measurement={"enum": ["ms", "B", "°C"]},
        expire_after={"type": "integer", "minimum": 1},
        options={"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
        state_class={"enum": ["measurement", "total", "total_increasing"]},
    ),
    component("binary_sensor", [], device_class={"enum": ["connectivity", "problem", "occupancy"]}),
    component("event", ["event_types"], event_types={"type": "array", "items": TEXT, "minItems": 1}),
]
SCHEMA = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "required": ["name"],
            "anyOf": [{"required": ["identifiers"]}, {"required": ["connections"]}],
            "additionalProperties": False,
            "properties": {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                "connections": {"type": "array"},
            }
            | dict.fromkeys(("name", "manufacturer", "model", "sw_version", "hw_version", "serial_number"), TEXT)
            | {"suggested_area": TEXT, "configuration_url": {"type": "string", "pattern": "^https?://"}},
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": TEXT,
                "sw_version": TEXT,
                "support_url": {"type": "string", "pattern": "^https?://"},
            },
        },
        "availability_topic": SUBSCRIBED,
        "availability_template": TEXT,
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["platform", "unique_id"],
                "properties": {"platform": {"enum": ["sensor", "binary_sensor", "event"]}},
                "allOf": [
                    *COMPONENTS,
                    {  # sensor: options go with device class enum, and then with no state class and no unit
                        "if": {"required": ["options"]},
                        "then": {"required": ["device_class"], "not": {"required": ["state_class"]}},
                    },
                ],
            },
        },
    },
}


def expand(payload: dict[str, Any]) -> dict[str, Any]:
    """A discovery payload with its keys in full, as ``discovery.py`` does it before it checks anything."""
    long: dict[str, Any] = {LONG.get(key, key): value for key, value in payload.items()}
    long["device"] = {LONG_DEVICE.get(key, key): value for key, value in long["device"].items()}
    long["origin"] = {LONG_ORIGIN.get(key, key): value for key, value in long["origin"].items()}
    long["components"] = {
        name: {LONG.get(key, key): value for key, value in entity.items()}
        for name, entity in long["components"].items()
    }
    return long


_environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
_environment.filters["to_json"] = json.dumps  # https://www.home-assistant.io/docs/configuration/templating/


def render(template: str, payload: bytes) -> str:
    """A template as Home Assistant fills it in: ``value`` is the text, ``value_json`` what it says where it is JSON."""
    variables: dict[str, Any] = {"value": payload.decode()}
    with contextlib.suppress(ValueError):
        variables["value_json"] = json.loads(payload)
    return _environment.from_string(template).render(variables).strip()
