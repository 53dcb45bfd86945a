"""`mien privacy`: what a configuration reads, keeps and sends, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from edge.commands.doctor.findings import Subject
from edge.config.schema import Config, JsonlConfig, MqttConfig
from edge.publish import check_sinks
from edge.publish.mqtt.connection import port_of
from edge.publish.mqtt.homeassistant import Discovery
from edge.publish.mqtt.sink import outbox_path
from edge.publish.topics import REQUEST_FILTERS, TOPICS, Delivery
from edge.service.check import check_privacy
from edge.system.crash_guard import FILE as ATTEMPTS_FILE
from edge.system.redact import redact

Row = tuple[str, str]

CHANGE: Final = "when it changes"
TOLD: Final[dict[str, tuple[str, Callable[[Config], str]]]] = {
    "info": ("versions, models, camera, what it is for", lambda config: "at the start"),
    "camera": ("whether the camera delivers", lambda config: CHANGE),
    "state": (
        "each face: number, emotion, since when",
        lambda config: f"{CHANGE}, at most {config.publish.state_hz:g} a second",
    ),
    "count": ("how many faces", lambda config: CHANGE),
    "emotion": ("the emotion that most show", lambda config: CHANGE),
    "counts": ("how many show each emotion", lambda config: CHANGE),
    "active": ("whether the camera is paused", lambda config: _if(config.mqtt.requests, CHANGE, "never")),
    "problem": ("what does not work", lambda config: CHANGE),
    "availability": ("whether Mien runs", lambda config: CHANGE),
    "event": ("a face came, changed or left: scores, place, size", lambda config: "at each"),
    "history": ("events that could not be sent in time", lambda config: "after an interruption"),
    "response": ("answers to requests", lambda config: _if(config.mqtt.requests, "at each", "never")),
    "health": ("rates, latency, memory", lambda config: f"every {config.publish.health_s:g} s"),
    "faces": (
        "each face: scores, place, five points",
        lambda config: _if(config.publish.faces_hz > 0, f"at most {config.publish.faces_hz:g} a second", "never"),
    ),
}
"""What each topic says of people, and how often."""

KEPT_THERE: Final = {
    Delivery.LATEST: "the newest",
    Delivery.EVENT: "until delivered",
    Delivery.TELEMETRY: "no",
}


def show_privacy(config: Config, *, file: Path | None, console: Console) -> None:
    """Print what is read, kept and sent with a configuration.

    Args:
        config: the configuration.
        file: where it comes from; None: the defaults.
        console: where to.

    Raises:
        ConfigError: a workplace or a place of education without an exemption, or an unknown sink.
    """
    check_privacy(config.privacy)
    sinks = check_sinks(config)
    subject = Subject(config, file)
    console.print(f"What {file or 'the default configuration'} does with what the camera sees.", soft_wrap=True)
    _show(console, "For what", _purpose(config))
    _show(console, "Read", _read(config, file))
    _show(console, "Kept", _kept(subject, sinks))
    _show(console, "Sent", _sent(config, sinks))
    if sinks:
        console.print(_topics(config))
    _show(console, "Never", NEVER)
    console.print("A notice to hang up: mien example notice > notice.html")


NEVER: Final[tuple[Row, ...]] = (
    ("who somebody is", "no face is compared with others; a face's number is random and ends when it leaves"),
    ("anybody else", "nothing is sent to the makers of Mien or to other addresses than these"),
)


def _purpose(config: Config) -> Iterator[Row]:
    privacy = config.privacy
    yield "use_context", privacy.use_context or "unset (privacy.use_context)"
    if privacy.exemption:
        yield "exemption", privacy.exemption


def _read(config: Config, file: Path | None) -> Iterator[Row]:
    camera, mqtt = config.camera, config.mqtt
    yield (
        redact(camera.source),
        f"pictures, {camera.width}×{camera.height}, {camera.fps:g} a second; each stays in memory for a moment",
    )
    secrets = (mqtt.password_file, mqtt.key_file, mqtt.cert_file, mqtt.ca_file)
    for name in filter(None, (file, *secrets, config.page.token_file, config.page.control_token_file)):
        yield str(name), "at the start"


def _kept(subject: Subject, sinks: tuple[str, ...]) -> Iterator[Row]:
    config, folder = subject.config, subject.state_folder
    mqtt, name = config.mqtt, config.camera.name
    yield "pictures", "none"
    if "mqtt" in sinks:
        bounds = f"at most {mqtt.queue_max} events, {mqtt.queue_max_bytes / 2**20:g} MiB, {mqtt.queue_max_age_h:g} h"
        where = str(outbox_path(folder, name)) if folder else "memory"
        yield where, f"events until the broker has them; {bounds}"
        if folder:
            yield str(folder / f"topics-{name}.json"), "names of the topics that the broker keeps"
    if folder:
        yield str(folder / ATTEMPTS_FILE), "which model or delegate brought the service down"
    if "jsonl" in sinks and config.jsonl.path != "-":
        yield _jsonl_place(config.jsonl), "every message of the topics below; grows until you delete it"
    if config.page.enabled:
        yield "memory", "for the page: the last events, and ten minutes of who was there, as numbers"
    yield "the log", f"changes of state and faults ({config.log.level}); no faces, no emotions"
    yield "on your command", "mien run --trace: numbers; mien replay --render: pictures"


def _sent(config: Config, sinks: tuple[str, ...]) -> Iterator[Row]:
    page = config.page
    if "mqtt" in sinks:
        yield f"{config.mqtt.host}:{port_of(config.mqtt)}", _broker(config.mqtt)
    if "jsonl" in sinks:
        yield _jsonl_place(config.jsonl), "every message, one a line"
    if config.homeassistant.enabled:
        yield ", ".join(Discovery.of(config).topics), "what Home Assistant shows; the broker keeps it"
    if not page.enabled:
        yield "the page", "off"
        return
    guard = "with the token" if page.token_file else "without a token"
    yield f"http://{page.listen}/", f"whoever opens it {guard}: faces as boxes, scores, events, not encrypted"
    if page.picture:
        yield "", "THE CAMERA'S PICTURE, to look at; it is not stored here"


def _broker(mqtt: MqttConfig) -> str:
    who = f"as {mqtt.username}" if mqtt.username else "without a user name"
    line = f"MQTT, {_if(mqtt.tls, 'encrypted', 'not encrypted')}, {who}; whoever may subscribe there can read it"
    if mqtt.requests:
        line += f"; carries out requests on {', '.join(f'…/{name}' for name in REQUEST_FILTERS)}"
    return line


def _topics(config: Config) -> Padding:
    base = config.mqtt.base_topic(config.device_name, config.camera.name)
    table = Table(f"{base}/…", "says", "how often", "kept there", box=None, header_style="", padding=(0, 2, 0, 0))
    for name, topic in TOPICS.items():
        says, rate = TOLD[name]
        table.add_row(name, says, rate(config), KEPT_THERE[topic.delivery])
    return Padding(table, (0, 0, 0, 2))


def _jsonl_place(jsonl: JsonlConfig) -> str:
    return "standard output" if jsonl.path == "-" else jsonl.path


def _show(console: Console, title: str, rows: Iterator[Row] | tuple[Row, ...]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", max_width=32)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    console.print(f"\n{title}")
    console.print(Padding(table, (0, 0, 0, 2)))


def _if(condition: bool, yes: str, no: str) -> str:
    return yes if condition else no
