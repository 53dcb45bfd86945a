"""The broker: name, network, TLS, CONNACK, subscriptions, what a daemon left there. Nothing is published."""

from __future__ import annotations

import json
import stat
import time
from typing import Any, Final

from edge.commands.doctor.connect import client_id_of, connect, with_secrets
from edge.commands.doctor.findings import Finding, Subject, note, ok, wrong
from edge.config.schema import MqttConfig
from edge.errors import ConfigError, config_context
from edge.publish.mqtt.connection import ConnectError, Connection, Identity, Wake, port_of
from edge.publish.mqtt.credentials import check_credentials
from edge.publish.topics import REQUEST_FILTERS
from edge.system.secrets import find_credential

READ_S: Final = 2.0
"""How long retained messages and answers to subscriptions are waited for."""
FIXES: Final = {
    "tls": "mqtt.ca_file must be of the authority that signed the broker's certificate, mqtt.host a name in it",
    "no_answer": "what listens there is no MQTT broker, or it hangs: mqtt.port; a TLS port needs mqtt.tls = true",
    "closed": "is mqtt.port the port of an MQTT broker? A TLS port needs mqtt.tls = true",
    "version": 'mqtt.version = "auto" finds a version that the broker speaks',
    "refused": "mqtt.username and the password must be those that the broker knows (mosquitto_passwd)",
    "configuration": "mqtt.password_file, mqtt.cert_file and mqtt.key_file must be files that this user may read",
}


def check_broker(subject: Subject) -> list[Finding]:
    """Connect as the daemon would, under another client id, and disconnect."""
    config = subject.config
    if "mqtt" not in config.publish.sinks:
        return []
    mqtt, where = with_secrets(subject), f"{config.mqtt.host}:{port_of(config.mqtt)}"
    try:
        with config_context(subject.file or ""):
            check_credentials(mqtt)
    except ConfigError as error:
        denied = "Permission denied" in error.problem
        fix = "sudo mien doctor …: only root may read it" if denied else FIXES["configuration"]
        return [Finding(check="broker", status="note" if denied else "wrong", found=str(error), fix=fix)]
    try:
        connection, wake = connect(mqtt, identity=_identity(mqtt, subject))
    except ConnectError as error:
        return [wrong("broker", f"{where}: {error.problem}", fix=_fix(error, mqtt))]
    retained = _read_retained(connection, wake)
    connection.close(goodbye=True)
    secured = "TLS" if mqtt.tls else "not encrypted"
    rules = "the broker's access rules: requests and discovery need to be read there"
    return [
        ok("broker", f"{where}: connected, {secured}"),
        *(wrong("broker", f"may not subscribe to {topic}", fix=rules) for topic in connection.refused_subscriptions),
        *_readable_by_all(mqtt),
        *_daemon_says(retained),
    ]


def _readable_by_all(mqtt: MqttConfig) -> list[Finding]:
    """Secrets in files whose mode lets everybody read them."""
    paths = [find_credential(name) for name in (mqtt.password_file, mqtt.key_file) if name]
    return [
        note("broker", f"{path} can be read by everybody", fix=f"chmod 600 {path}")
        for path in paths
        if path.stat().st_mode & stat.S_IROTH
    ]


def _identity(mqtt: MqttConfig, subject: Subject) -> Identity:
    config = subject.config
    base = mqtt.base_topic(config.device_name, config.camera.name)
    more = [config.homeassistant.status_topic] if config.homeassistant.enabled else []
    more += [f"{base}/{level}" for level in REQUEST_FILTERS] if mqtt.requests else []
    return Identity(
        client_id=client_id_of(subject, role="doctor"),
        will_topic=None,
        subscriptions=(f"{base}/availability", f"{base}/problem", *more),
        takes_retained=True,
    )


def _fix(error: ConnectError, mqtt: MqttConfig) -> str:
    if error.trouble != "unreachable":
        return FIXES[error.trouble]
    if error.problem.startswith("unknown host"):
        return f"mqtt.host: getent hosts {mqtt.host} must find it"
    listener = f"is a broker running there, does it listen on port {port_of(mqtt)}, does a firewall stand between?"
    return f"{listener} mosquitto answers other machines only with a line listener {port_of(mqtt)}"


def _read_retained(connection: Connection, wake: Wake) -> dict[str, bytes]:
    """Last level and payload of the retained messages that come."""
    found: dict[str, bytes] = {}
    end_s = time.monotonic() + READ_S
    while connection.closed is None and len(found) < 2 and (left_s := end_s - time.monotonic()) > 0:
        connection.poll(wake=wake, timeout_s=min(0.1, left_s))
        found |= {each.topic.rpartition("/")[2]: each.data for each in connection.take_received()}
    return found


def _daemon_says(retained: dict[str, bytes]) -> list[Finding]:
    """Report what a daemon with this configuration last published about itself."""
    if "availability" not in retained:
        return []
    word = retained["availability"].decode(errors="replace")
    if word != "online":
        return [note("daemon", f"does not run now: the broker knows it as {word[:20]!r}")]
    try:
        problems: Any = json.loads(retained.get("problem", b"{}")).get("problems", [])
    except (ValueError, AttributeError):
        problems = []
    if problems:
        return [
            wrong(
                "daemon",
                "; ".join(map(str, problems))[:300],
                fix="see the rows camera, delegate, outbox; a topic that is refused: the broker's access rules",
            )
        ]
    return [ok("daemon", "online, and has no problem")]
