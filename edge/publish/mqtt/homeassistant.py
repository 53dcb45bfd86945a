"""Home Assistant's MQTT discovery: one retained message that describes the device and its entities.

The format is that of https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload (Home Assistant 2024.11
and newer). Home Assistant reads the topics that are published anyway; its templates turn them into states.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec

from edge import __version__
from edge.config.schema import Config, HomeAssistantConfig
from edge.contract.labels import NONE, UNCERTAIN, UNKNOWN
from edge.publish.mqtt.mailbox import Mailbox
from edge.publish.mqtt.owned import OwnedTopics, retained_topics
from edge.publish.payloads import CameraState, InfoPayload
from edge.records import EventType
from edge.system.host import board_name

log = logging.getLogger(__name__)

EVENT_ATTRIBUTES: Final = ("track", "emotion", "previous", "confidence", "reason", "ts", "boot_id", "seq")
"""Fields of an event that become attributes of the event entity; all of them would fill Home Assistant's database."""
KNOWN: Final = f"{{{{ None if value == '{UNKNOWN}' else value }}}}"
"""Template of a state that may be unknown: Home Assistant takes ``None`` for that."""
FACES: Final = (
    "{% set told = namespace(faces=[]) %}{% for face in value_json.faces or [] %}{% set told.faces = told.faces + "
    "[{'track': face.track, 'emotion': face.emotion, 'since': face.since}] %}{% endfor %}"
    "{{ {'faces': none if value_json.faces is none else told.faces} | to_json }}"
)
"""Template of the faces as attributes; without confidences, which move all the time, and each change is a row."""
DIAGNOSTICS: Final[Mapping[str, dict[str, Any]]] = {
    "fps": {"name": "Frames per second", "ic": "mdi:speedometer", "val_tpl": "{{ value_json.fps }}"},
    "frame_age": {
        "name": "Frame age",
        "dev_cla": "duration",
        "unit_of_meas": "ms",
        "val_tpl": "{{ value_json.frame_age_ms.p50 if value_json.frame_age_ms else None }}",
    },
    "memory": {
        "name": "Memory",
        "dev_cla": "data_size",
        "unit_of_meas": "B",
        "val_tpl": "{{ value_json.rss_bytes }}",
    },
    "temperature": {
        "name": "Processor temperature",
        "dev_cla": "temperature",
        "unit_of_meas": "°C",
        "val_tpl": "{{ value_json.temperature_c }}",
    },
    "drops": {
        "name": "Dropped frames",
        "ic": "mdi:filmstrip-off",
        "stat_cla": "total_increasing",
        "val_tpl": "{{ value_json.drops }}",
    },
    "queue": {"name": "Waiting events", "ic": "mdi:tray-full", "val_tpl": "{{ value_json.queue_depth }}"},
}
"""Entities that are read out of ``…/health``. ``None`` is what Home Assistant takes for unknown."""
BIRTH: Final = b"online"
"""What Home Assistant says on its status topic when it has started."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where and as what one camera's device appears.

    Attributes:
        config: the configuration's section.
        base: base topic of what is published.
        name: of the device, for people.
        can_pause: whether requests are carried out (``mqtt.requests``): a switch and a button appear.
        health_s: how often ``…/health`` comes; diagnostics that are three times as old are not known any more.
        page_url: address of the live page; None: there is none, or nobody said.
        identity: of an earlier start, where one is noted: the device stays the same under another name.
    """

    config: HomeAssistantConfig
    base: str
    name: str
    can_pause: bool = False
    health_s: float = 30
    page_url: str | None = None
    identity: str | None = None

    @classmethod
    def of(cls, config: Config, *, identity: str | None = None) -> Discovery:
        """The discovery that a configuration describes, whether or not it is enabled."""
        base = config.mqtt.base_topic(config.device_name, config.camera.name)
        name = f"Mien {config.device_name} {config.camera.name}"
        return cls(
            config.homeassistant,
            base,
            name,
            can_pause=config.mqtt.requests,
            health_s=config.publish.health_s,
            page_url=config.page.url if config.page.enabled else None,
            identity=identity,
        )

    @property
    def device_id(self) -> str:
        """The same at every start, also under another name, out of the characters that discovery allows.

        It begins as one made from the base topic, another for each.

        The readable part alone may be shared: ``a-b/c`` and ``a/b-c``, or two names in another script.
        """
        if self.identity:
            return self.identity
        readable = re.sub(r"[^a-zA-Z0-9]+", "_", self.base)[:64].strip("_").lower()
        return "_".join(filter(None, (readable, hashlib.sha256(self.base.encode()).hexdigest()[:8])))

    @property
    def topics(self) -> list[str]:
        """Where the messages go."""
        return list(self.describe(labels=(), model=""))

    def describe(self, *, labels: Sequence[str], model: str) -> dict[str, dict[str, Any]]:
        """The messages by their topics.

        Args:
            labels: of the emotion model.
            model: its name and version.
        """
        prefix, entities = self.config.discovery_prefix, self._entities(labels)
        shared = {"dev": self._describe_device(model), "o": {"name": "mien", "sw": __version__}, "qos": 1}
        for key, entity in entities.items():
            entity["uniq_id"] = f"{self.device_id}_{key}"
            if key != "event":  # one that comes back would tell its last event again, and automations would fire
                entity["avty_t"] = f"{self.base}/availability"
        if not self.config.per_component:
            return {f"{prefix}/device/{self.device_id}/config": shared | {"cmps": entities}}
        return {
            f"{prefix}/{entity.pop('p')}/{self.device_id}/{key}/config": shared | entity
            for key, entity in entities.items()
        }

    def messages(self, info: InfoPayload) -> dict[str, bytes]:
        """The messages by their topics as they are published, for what runs here."""
        model = f"{info.model.name} {info.model.version or ''}".rstrip()
        described = self.describe(labels=info.labels, model=model)
        return {topic: msgspec.json.encode(message) for topic, message in described.items()}

    def _describe_device(self, model: str) -> dict[str, Any]:
        where = {"hw": board_name(), "sa": self.config.area, "cu": self.page_url}
        known = {key: text for key, text in where.items() if text}
        return {"ids": [self.device_id], "name": self.name, "mf": "Mien", "mdl": model, "sw": __version__} | known

    def _entities(self, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
        fields = ", ".join(f"'{name}': value_json.{name}" for name in EVENT_ATTRIBUTES)
        diagnostic = {"p": "binary_sensor", "ent_cat": "diagnostic"}
        problem = f"{self.base}/problem"
        entities: dict[str, dict[str, Any]] = {
            "count": {
                "p": "sensor",
                "name": "Faces",
                "ic": "mdi:account-multiple",
                "stat_t": f"{self.base}/count",
                "val_tpl": KNOWN,
                "stat_cla": "measurement",
                "json_attr_t": f"{self.base}/state",
                "json_attr_tpl": FACES,
            },
            "occupancy": {
                "p": "binary_sensor",
                "name": "Occupancy",
                "dev_cla": "occupancy",
                "stat_t": f"{self.base}/count",
                "val_tpl": f"{{{{ None if value == '{UNKNOWN}' else 'OFF' if value == '0' else 'ON' }}}}",
            },
            "emotion": {
                "p": "sensor",
                "name": "Emotion",
                "ic": "mdi:emoticon-outline",
                "stat_t": f"{self.base}/emotion",
                "val_tpl": KNOWN,
                "dev_cla": "enum",
                "ops": [*labels, UNCERTAIN, NONE],
            },
            "event": {
                "p": "event",
                "name": "Face",
                "ic": "mdi:face-recognition",
                "stat_t": f"{self.base}/event",
                "evt_typ": [kind.value for kind in EventType],
                "val_tpl": f"{{{{ {{'event_type': value_json.type, {fields}}} | to_json }}}}",
            },
            "camera": diagnostic
            | {
                "name": "Camera",
                "dev_cla": "connectivity",
                "stat_t": f"{self.base}/camera",
                "val_tpl": "{{ 'ON' if value == 'live' else 'OFF' }}",
            },
            "camera_state": {
                "p": "sensor",
                "ent_cat": "diagnostic",
                "name": "Camera state",
                "ic": "mdi:cctv",
                "stat_t": f"{self.base}/camera",
                "dev_cla": "enum",
                "ops": list(get_args(CameraState)),
            },
            "problem": diagnostic
            | {
                "name": "Problem",
                "dev_cla": "problem",
                "stat_t": problem,
                "val_tpl": "{{ 'ON' if value_json.problems else 'OFF' }}",
                "json_attr_t": problem,
                "json_attr_tpl": "{{ {'problems': value_json.problems} | to_json }}",
            },
        }
        return entities | self._diagnostics() | (self._controls() if self.can_pause else {})

    def _diagnostics(self) -> dict[str, dict[str, Any]]:
        """Numbers of the health report; unavailable when it does not come."""
        return {
            key: {
                "p": "sensor",
                "ent_cat": "diagnostic",
                "stat_t": f"{self.base}/health",
                "exp_aft": int(3 * self.health_s) + 1,
                "stat_cla": "measurement",
            }
            | entity
            for key, entity in DIAGNOSTICS.items()
        }

    def _controls(self) -> dict[str, dict[str, Any]]:
        """Entities that ask for something; only where requests are carried out."""
        return {
            "active": {
                "p": "switch",
                "name": "Watching",
                "ic": "mdi:cctv",
                "stat_t": f"{self.base}/active",
                "cmd_t": f"{self.base}/active/set",
            },
            "selftest": {
                "p": "button",
                "ent_cat": "diagnostic",
                "name": "Self-test",
                "ic": "mdi:clipboard-check-outline",
                "cmd_t": f"{self.base}/request/selftest",
            },
        }


class Announcement:
    """Tells Home Assistant of the camera, again when it starts, and clears what an earlier start left on the broker.

    Args:
        discovery: how it is told; None: it is not.
        owned: what earlier starts published.
        mailbox: takes the messages.
        base: base topic of the camera.
    """

    def __init__(self, discovery: Discovery | None, owned: OwnedTopics, mailbox: Mailbox, *, base: str) -> None:
        self._discovery, self._owned, self._mailbox, self._base = discovery, owned, mailbox, base
        self._births = 0

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics that are to be received."""
        return (self._discovery.config.status_topic,) if self._discovery else ()

    def start(self) -> None:
        """Note what this start is going to publish, and file the clearing of what it is not."""
        topics = retained_topics(self._base) + (self._discovery.topics if self._discovery else [])
        identity = self._discovery.device_id if self._discovery else self._owned.identity or ""
        for topic in self._owned.claim(topics, identity=identity):
            self._mailbox.retain(topic, b"")

    def announce(self, info: InfoPayload) -> None:
        """Put the discovery messages for what runs here into the mailbox."""
        if self._discovery is not None:
            for topic, data in self._discovery.messages(info).items():
                self._mailbox.retain(topic, data)

    def topic_of(self, kind: str) -> str:
        """Return the full topic of a retained message: of ours by its name, of Home Assistant's as it is."""
        return kind if "/" in kind else f"{self._base}/{kind}"

    def receive(self, topic: str, data: bytes) -> bool:
        """Announce again when Home Assistant has started; return whether the message was for this part."""
        if self._discovery is None or topic not in self.subscriptions:
            return False
        messages = [(topic, self._mailbox.latest(topic)) for topic in self._discovery.topics]
        if data == BIRTH and any(message is not None for _, message in messages):
            self._births += 1
            if self._births.bit_count() == 1:  # whoever floods us does not flood the log
                log.info("mqtt: Home Assistant has started (%d): telling it again what there is", self._births)
            for each, message in messages:
                if message is not None:
                    self._mailbox.retain(each, message)
        return True

    def acknowledged(self, topic: str) -> None:
        """Remember that the broker has cleared a topic, if it is one that was to be cleared."""
        full = self.topic_of(topic)
        if self._owned.withdrawn(full):
            self._mailbox.forget(full)
