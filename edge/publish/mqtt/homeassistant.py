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
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from edge import __version__
from edge.config.schema import Config, HomeAssistantConfig
from edge.contract.labels import NONE, UNCERTAIN, UNKNOWN
from edge.publish.mqtt.mailbox import Mailbox
from edge.publish.payloads import CameraState, InfoPayload
from edge.records import EventType
from edge.system.files import replace_file

log = logging.getLogger(__name__)

EVENT_ATTRIBUTES: Final = ("track", "emotion", "previous", "confidence", "reason", "ts", "boot_id", "seq")
"""Fields of an event that become attributes of the event entity; all of them would fill Home Assistant's database."""
KNOWN: Final = f"{{{{ None if value == '{UNKNOWN}' else value }}}}"
"""Template of a state that may be unknown: Home Assistant takes ``None`` for that."""
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
    """

    config: HomeAssistantConfig
    base: str
    name: str
    can_pause: bool = False

    @classmethod
    def of(cls, config: Config) -> Discovery:
        """The discovery that a configuration describes, whether or not it is enabled."""
        base = config.mqtt.base_topic(config.device_name, config.camera.name)
        name = f"Mien {config.device_name} {config.camera.name}"
        return cls(config.homeassistant, base, name, can_pause=config.mqtt.requests)

    @property
    def device_id(self) -> str:
        """The same at every start, another for every base topic, out of the characters that discovery allows.

        The readable part alone may be shared: ``a-b/c`` and ``a/b-c``, or two names in another script.
        """
        readable = re.sub(r"[^a-zA-Z0-9]+", "_", self.base)[:64].strip("_").lower()
        return "_".join(filter(None, (readable, hashlib.sha256(self.base.encode()).hexdigest()[:8])))

    @property
    def topic(self) -> str:
        """Where the message goes."""
        return f"{self.config.discovery_prefix}/device/{self.device_id}/config"

    def describe(self, *, labels: Sequence[str], model: str) -> dict[str, Any]:
        """The message.

        Args:
            labels: of the emotion model.
            model: its name and version.
        """
        return {
            "dev": {"ids": [self.device_id], "name": self.name, "mf": "Mien", "mdl": model, "sw": __version__},
            "o": {"name": "mien", "sw": __version__},
            "avty_t": f"{self.base}/availability",
            "qos": 1,
            "cmps": {
                key: entity | {"uniq_id": f"{self.device_id}_{key}"} for key, entity in self._entities(labels).items()
            },
        }

    def encode(self, info: InfoPayload) -> bytes:
        """The message as it is published, for what runs here."""
        return msgspec.json.encode(
            self.describe(labels=info.labels, model=f"{info.model.name} {info.model.version or ''}".rstrip())
        )

    def _entities(self, labels: Sequence[str]) -> Mapping[str, dict[str, Any]]:
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
        return entities | (self._controls() if self.can_pause else {})

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


class DiscoveryNote:
    """Keeps over restarts where Home Assistant was told of a camera, so that it can be taken back.

    Without it a camera whose discovery was switched off, or whose name changed, would stay in Home Assistant for ever.

    Args:
        path: a small file in the service's state folder; None where there is none: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: str | None = None

    def read(self) -> str | None:
        """The topic of a message that is still out there; None where nothing is known."""
        try:
            text = self._path.read_text(encoding="utf-8").strip() if self._path else ""
        except (OSError, UnicodeDecodeError):
            return None
        self._known = text if re.fullmatch(r"[^#+\s\x00-\x1f]{1,512}/device/[a-zA-Z0-9_]+/config", text) else None
        return self._known

    def write(self, topic: str | None) -> None:
        """Notes the topic that is out there now; None: none any more. A disk that is full or read-only forgets it."""
        if self._path is None or topic == self._known:
            return
        self._known = topic
        try:
            if topic is None:
                self._path.unlink(missing_ok=True)
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                replace_file(self._path, f"{topic}\n".encode())
        except OSError as error:
            log.info("homeassistant: %s: %s", self._path, error.strerror)


class Announcement:
    """Tells Home Assistant of the camera, again when it starts, and takes back what is not so any more.

    Args:
        discovery: how it is told; None: it is not.
        note: where it was told in earlier starts.
        mailbox: takes the messages.
        base: base topic of the camera.
    """

    def __init__(self, discovery: Discovery | None, note: DiscoveryNote, mailbox: Mailbox, *, base: str) -> None:
        self._discovery, self._note, self._mailbox, self._base = discovery, note, mailbox, base
        self._withdrawn_topic: str | None = None
        self._births = 0

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics that are to be received."""
        return (self._discovery.config.status_topic,) if self._discovery else ()

    def start(self) -> None:
        """Withdraw what an earlier start announced and this one does not."""
        told = self._note.read()
        if told is not None and (self._discovery is None or told != self._discovery.topic):
            self._withdrawn_topic = told
            self._mailbox.retain("withdrawal", b"")

    def announce(self, info: InfoPayload) -> None:
        """Put the discovery message for what runs here into the mailbox."""
        if self._discovery is not None:
            self._mailbox.retain("discovery", self._discovery.encode(info))

    def topic_of(self, kind: str) -> str:
        """Return the full topic of a retained message."""
        if kind == "discovery" and self._discovery is not None:
            return self._discovery.topic
        if kind == "withdrawal" and self._withdrawn_topic is not None:
            return self._withdrawn_topic
        return f"{self._base}/{kind}"

    def receive(self, topic: str, data: bytes) -> bool:
        """Announce again when Home Assistant has started; return whether the message was for this part."""
        if topic not in self.subscriptions:
            return False
        message = self._mailbox.latest("discovery")
        if data == BIRTH and message is not None:
            self._births += 1
            if self._births.bit_count() == 1:  # whoever floods us does not flood the log
                log.info("mqtt: Home Assistant has started (%d): telling it again what there is", self._births)
            self._mailbox.retain("discovery", message)
        return True

    def acknowledged(self, topic: str) -> None:
        """Remember that the broker has what was sent to a topic, if it is one of Home Assistant's."""
        if topic == self._withdrawn_topic:
            log.info("mqtt: taken back from Home Assistant: %s", topic)
            self._mailbox.forget("withdrawal")
            self._withdrawn_topic = None
            self._note.write(None)
        elif self._discovery is not None and topic == self._discovery.topic and self._withdrawn_topic is None:
            self._note.write(topic)
