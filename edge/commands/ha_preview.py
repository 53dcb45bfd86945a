"""`mien ha-preview`: what would appear in Home Assistant, without a broker."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from edge.bundles.locate import find_bundle
from edge.commands.doctor.findings import Subject
from edge.config.schema import Config
from edge.contract.bundle import load_emotion_bundle
from edge.publish.mqtt.homeassistant import Discovery
from edge.publish.mqtt.owned import OwnedTopics
from edge.publish.mqtt.sink import owner_of


def show_discovery(config: Config, *, file: Path | None, console: Console) -> None:
    """Print the discovery messages as Home Assistant gets them, and how to take them back.

    Args:
        config: the configuration; ``homeassistant.enabled`` is not asked for.
        file: where it comes from.
        console: where to.

    Raises:
        BundleError: the emotion model, whose labels are part of the message, does not verify.
    """
    owned = OwnedTopics.load(
        Subject(config, file).state_folder, camera=config.camera.name, owner=owner_of(config.mqtt, str(file))
    )
    discovery = Discovery.of(config, identity=owned.identity)
    manifest = load_emotion_bundle(find_bundle(config.emotion.bundle)).manifest
    described = discovery.describe(labels=manifest.labels, model=f"{manifest.name} {manifest.version}")
    if not config.homeassistant.enabled:
        console.print("homeassistant.enabled is false: this is what would be published.")
    print_plain = console.out  # JSON and topics are neither wrapped nor taken for markup
    for topic, payload in described.items():
        print_plain(f"topic    {topic}   (retained, QoS 1)", highlight=False)
        print_plain(json.dumps(payload, indent=2, ensure_ascii=False), highlight=False)
    print_plain(f"sent again when {config.homeassistant.status_topic} says online", highlight=False)
    for topic in described:
        print_plain(f"taken back by   mosquitto_pub -h {config.mqtt.host} -t '{topic}' -r -n", highlight=False)
