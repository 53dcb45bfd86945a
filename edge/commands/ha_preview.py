"""`mien ha-preview`: what would appear in Home Assistant, without a broker."""

from __future__ import annotations

import json

from rich.console import Console

from edge.bundles.locate import find_bundle
from edge.config.schema import Config
from edge.contract.bundle import load_emotion_bundle
from edge.publish.mqtt.homeassistant import Discovery


def show_discovery(config: Config, *, console: Console) -> None:
    """Print the discovery message as Home Assistant gets it, and how to take it back.

    Args:
        config: the configuration; ``homeassistant.enabled`` is not asked for.
        console: where to.

    Raises:
        BundleError: the emotion model, whose labels are part of the message, does not verify.
    """
    discovery = Discovery.of(config)
    manifest = load_emotion_bundle(find_bundle(config.emotion.bundle)).manifest
    payload = discovery.describe(labels=manifest.labels, model=f"{manifest.name} {manifest.version}")
    if not config.homeassistant.enabled:
        console.print("homeassistant.enabled is false: this is what would be published.")
    print_plain = console.out  # JSON and topics are neither wrapped nor taken for markup
    print_plain(f"topic    {discovery.topic}   (retained, QoS 1)", highlight=False)
    print_plain(json.dumps(payload, indent=2, ensure_ascii=False), highlight=False)
    print_plain(f"sent again when {config.homeassistant.status_topic} says online", highlight=False)
    print_plain(f"taken back by   mosquitto_pub -h {config.mqtt.host} -t '{discovery.topic}' -r -n", highlight=False)
