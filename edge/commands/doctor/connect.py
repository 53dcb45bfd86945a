"""A connection to the broker beside the daemon's: for commands, as the service's configuration has it."""

from __future__ import annotations

import msgspec

from edge.commands.doctor.findings import Subject
from edge.config.schema import MqttConfig
from edge.publish.mqtt.connection import ConnectError, Connection, Identity, Version, Wake


def with_secrets(subject: Subject) -> MqttConfig:
    """Return the section with the files that systemd takes credentials from, where it names credentials."""
    mqtt = subject.config.mqtt
    paths = {
        key: subject.secret_path(name, credential=f"mqtt-{suffix}", suffix=suffix)
        for key, name, suffix in (("password_file", mqtt.password_file, "password"), ("key_file", mqtt.key_file, "key"))
        if name is not None
    }
    return msgspec.structs.replace(mqtt, **paths)


def client_id_of(subject: Subject, *, role: str) -> str:
    """Return a client id beside the daemon's, 64 characters at most."""
    config = subject.config
    return f"{config.mqtt.make_client_id(config.device_name, config.camera.name)[:57]}-{role}"


def connect(mqtt: MqttConfig, *, identity: Identity) -> tuple[Connection, Wake]:
    """Try the protocol versions that the configuration allows.

    Raises:
        ConnectError: none of them gets in.
    """
    wake = Wake()
    versions: tuple[Version, ...] = ("5", "3.1.1") if mqtt.version == "auto" else (mqtt.version,)
    for version in versions:
        connection = Connection(mqtt, identity=identity, version=version)
        try:
            connection.open(wake=wake)
            break
        except ConnectError as error:
            if version == versions[-1] or error.trouble not in ("version", "closed"):
                raise
    return connection, wake
