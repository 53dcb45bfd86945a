"""`mien forget`: clears what a camera left on the broker and in its state folder, by hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from edge.commands.doctor.connect import client_id_of, connect, with_secrets
from edge.commands.doctor.findings import Subject
from edge.config.schema import Config
from edge.errors import ConfigError, PublishError, UsageError
from edge.publish.mqtt.connection import Identity
from edge.publish.mqtt.homeassistant import Discovery
from edge.publish.mqtt.owned import OwnedTopics, retained_topics, topics_of_others
from edge.publish.mqtt.sink import outbox_path, owner_of
from edge.publish.outbox.sqlite_file import remove
from edge.service.base_topic import claim_base_topic

ACKNOWLEDGED_S: Final = 10.0
"""How long the broker may take to acknowledge everything."""


def forget_camera(config: Config, *, file: Path | None, camera: str | None, console: Console) -> None:
    """Clear retained topics, Home Assistant's device, waiting events and the list of a camera whose daemon is stopped.

    Args:
        config: the configuration, of the camera or of what it is called now.
        file: where it comes from.
        camera: a former name; None: the configured one, and the former ones that are noted.
        console: where to.

    Raises:
        UsageError: a daemon of this machine publishes there, or the name cannot be one.
        PublishError: no broker, or one that does not take it; what is noted stays.
    """
    if "mqtt" not in config.publish.sinks:
        console.print("mqtt is not among publish.sinks: there is nothing to forget")
        return
    subject = Subject(_named(config, camera), file)
    folder, name = subject.state_folder, subject.config.camera.name
    try:
        with claim_base_topic(subject.config):
            owned = OwnedTopics.load(folder, camera=name, owner=owner_of(config.mqtt, str(file)))
            if camera is not None:
                owned.former.clear()
            _clear(subject, _topics(subject, owned), console)
            owned.forget()
            for each in (name, *(former.camera for former in owned.former)):
                if folder is not None:
                    _remove_outbox(outbox_path(folder, each), console)
    except ConfigError as error:
        if error.key != "camera.name":
            raise
        raise UsageError(f"{error.problem.partition(';')[0]}: stop it first") from None


def _named(config: Config, camera: str | None) -> Config:
    """The configuration under another camera's name."""
    if camera is None:
        return config
    section = msgspec.to_builtins(config.camera) | {"name": camera}
    try:
        return msgspec.structs.replace(config, camera=msgspec.convert(section, type(config.camera)))
    except msgspec.ValidationError:
        raise UsageError(f"--camera: {camera!r} cannot be a camera's name") from None


def _topics(subject: Subject, owned: OwnedTopics) -> list[str]:
    """What the lists name, and what the camera's name implies where there is none; nothing of another list's."""
    config, folder = subject.config, subject.state_folder
    implied = retained_topics(config.mqtt.base_topic(config.device_name, config.camera.name))
    implied += Discovery.of(config, identity=owned.identity).topics
    others = topics_of_others(folder, camera=config.camera.name) if folder else set()
    others -= {topic for former in owned.former for topic in former.topics}
    return [topic for topic in dict.fromkeys([*owned.topics, *implied]) if topic not in others]


def _clear(subject: Subject, topics: list[str], console: Console) -> None:
    """Publish nothing, retained, to each topic, and wait until the broker has it."""
    mqtt = with_secrets(subject)
    connection, wake = connect(mqtt, identity=Identity(client_id=client_id_of(subject, role="forget"), will_topic=None))
    waiting: dict[int, str] = {}
    refused: list[str] = []
    end_s = time.monotonic() + ACKNOWLEDGED_S
    left = list(topics)
    while (left or waiting) and connection.closed is None and time.monotonic() < end_s:
        while left and len(waiting) < connection.window and connection.ready:
            topic = left.pop(0)
            waiting[connection.publish(topic, b"", qos=1, retain=True)] = topic
        for answer in connection.poll(wake=wake, timeout_s=0.1):
            topic = waiting.pop(answer.mid)
            if answer.refusal:
                refused.append(f"{topic}: {answer.refusal}")
            else:
                console.out(f"cleared {topic}", highlight=False)
    if left or waiting:
        raise PublishError(f"the broker did not take everything: {connection.closed or 'it does not answer'}")
    connection.close(goodbye=True)
    if refused:
        raise PublishError(f"the broker refuses {', '.join(refused)}")


def _remove_outbox(path: Path, console: Console) -> None:
    try:
        if path.exists():
            remove(path)
            console.out(f"removed {path}", highlight=False)
    except OSError as error:
        raise PublishError(f"{path}: {error.strerror}") from None
