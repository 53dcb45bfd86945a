"""`mien watch`: every camera below a prefix of a broker, on a page of this machine or in a table on the terminal."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.commands.colors import hex_of
from edge.commands.preview import HOST, find_port
from edge.config.schema import MqttConfig
from edge.contract.labels import UNKNOWN
from edge.errors import EXIT_CLEAN, UsageError
from edge.packages import install_line
from edge.page.fleet import Fleet, Tile
from edge.publish.mqtt.connection import port_of
from edge.publish.mqtt.credentials import make_tls_context, read_password
from edge.registry import load_entry

PORT: Final = 8090
SERVER: Final = {"page": "edge.page.fleet_app:serve_fleet"}
RETRY_MAX_S: Final = 10
SILENT_MS: Final = 120_000
"""A camera that is online and not heard for so long is named so: health reports come every 30 s, unless configured."""
STATE_COLOURS: Final = {"live": "green", "stale": "yellow", "opening": "yellow", "paused": "yellow", UNKNOWN: "dim"}


def parse_broker(text: str | None, config: MqttConfig) -> MqttConfig:
    """Return the section with another broker.

    Args:
        text: ``HOST`` or ``HOST:PORT``; None: the section's own.
        config: how to connect.

    Raises:
        UsageError: not a host, or not a port.
    """
    if text is None:
        return config
    host, colon, port = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", "")
    host = host.strip("[]")
    if not host or (colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise UsageError(f"--broker: {text!r}: allowed is HOST or HOST:PORT")
    return replace(config, host=host, port=int(port) if colon else config.port)


class Listener:
    """Subscriber to everything below the prefix, for the time of a ``with`` block; comes back by itself.

    Args:
        config: the broker.
        fleet: takes what is heard.
    """

    def __init__(self, config: MqttConfig, fleet: Fleet) -> None:
        self._config, self._fleet = config, fleet
        version = MQTTProtocolVersion.MQTTv5 if config.version == "5" else MQTTProtocolVersion.MQTTv311
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"mien-watch-{secrets.token_hex(4)}", protocol=version
        )
        self._client.reconnect_delay_set(1, RETRY_MAX_S)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = lambda *_: self._tell(f"{config.host}:{port_of(config)} cannot be reached")
        self._client.on_disconnect = lambda *_: self._tell("the connection is lost")
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Listener:
        """Connect in the background, for as long as it takes.

        Raises:
            ConfigError: a password or certificate that cannot be used.
        """
        config = self._config
        if config.username is not None:
            self._client.username_pw_set(config.username, read_password(config))
        if config.tls:
            self._client.tls_set_context(make_tls_context(config))
        self._client.connect_async(config.host, port_of(config), keepalive=config.keepalive_s)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, _: object, __: object, reason: Any, ___: object) -> None:
        if reason.is_failure:
            self._tell(f"refused: {reason}")
            return
        self._fleet.tell_broker(f"{self._config.host}:{port_of(self._config)}", is_connected=True, now_ms=now_ms())
        client.subscribe(f"{self._fleet.prefix}/+/+/+", qos=1)

    def _on_subscribe(self, _: object, __: object, ___: int, reasons: list[Any], ____: object) -> None:
        if any(reason.is_failure for reason in reasons):
            self._tell(f"{self._fleet.prefix}/+/+/+ may not be read here")

    def _on_message(self, _: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        self._fleet.take(message.topic, bytes(message.payload), retained=message.retain, now_ms=now_ms())

    def _tell(self, status: str) -> None:
        self._fleet.tell_broker(status, is_connected=False, now_ms=now_ms())


def now_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def watch_terminal(config: MqttConfig, *, seconds: float, console: Console) -> int:
    """Show all cameras as a table until Ctrl-C; elsewhere than on a terminal once, at the end.

    Args:
        config: the broker.
        seconds: how long; 0: until Ctrl-C.
        console: where.

    Returns:
        The exit code.

    Raises:
        ConfigError: a password or certificate that cannot be used.
    """
    fleet, end_s = Fleet(config.prefix), time.monotonic() + seconds if seconds else None

    def is_over() -> bool:
        return end_s is not None and time.monotonic() >= end_s

    with Listener(config, fleet):
        if not console.is_terminal:
            _wait(is_over)
            console.print(make_table(fleet, now_ms=now_ms()))
            return EXIT_CLEAN
        with Live(console=console, screen=False, auto_refresh=False) as live:
            _wait(is_over, lambda: live.update(make_table(fleet, now_ms=now_ms()), refresh=True))
    return EXIT_CLEAN


def watch_page(config: MqttConfig, *, port: int | None, seconds: float, console: Console) -> int:
    """Serve a page of all cameras on this machine alone until Ctrl-C.

    Args:
        config: the broker.
        port: of this machine; None: 8090, or a free one where that is taken.
        seconds: how long; 0: until Ctrl-C.
        console: is told the address.

    Returns:
        The exit code.

    Raises:
        UsageError: the port is in use.
        MissingDependencyError: the extra ``page`` is not installed.
        ConfigError: a password or certificate that cannot be used.
    """
    serve = load_entry(SERVER, "page", what="the live", install=install_line("page"))
    fleet, end_s = Fleet(config.prefix), time.monotonic() + seconds if seconds else None
    chosen = find_port(port, PORT)
    with Listener(config, fleet), serve(fleet, port=chosen, clock_ms=now_ms):
        console.print(f"Open http://{HOST}:{chosen}/ (only this machine can). Ctrl-C ends it.", soft_wrap=True)
        _wait(lambda: end_s is not None and time.monotonic() >= end_s)
    return EXIT_CLEAN


def _wait(is_over: Callable[[], bool], show: Callable[[], None] = lambda: None) -> None:
    try:
        while not is_over():
            show()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return  # how it ends


def make_table(fleet: Fleet, *, now_ms: int) -> Table:
    """Return all cameras, one a row, as of now."""
    tiles = fleet.tiles()
    live = sum(tile.camera == "live" for tile in tiles)
    table = Table(box=box.SIMPLE, title=f"{len(tiles)} cameras, {live} live", title_justify="left", expand=False)
    table.add_column("camera", overflow="fold", min_width=12)
    for name in ("state", "faces", "emotion", "frames/s", "heard", "problems"):
        table.add_column(name, overflow="fold")
    for tile in tiles:
        table.add_row(*_cells(tile, fleet.prefix, now_ms))
    if fleet.left_out:
        table.caption = "there are more; they are not shown"
    if not fleet.is_connected:
        since = f" since {_clock(fleet.lost_ms)}" if fleet.lost_ms else ""
        table.caption = f"not live{since}: broker: {fleet.broker}"
    elif not tiles:
        table.caption = f"nothing below {fleet.prefix}/ at {fleet.broker}"
    return table


def _cells(tile: Tile, prefix: str, now_ms: int) -> list[Text]:
    fps = "" if tile.fps is None or tile.camera != "live" else f"{tile.fps:.1f}"
    return [
        Text(tile.base.removeprefix(f"{prefix}/")),
        Text(tile.camera, style=STATE_COLOURS.get(tile.camera, "red")),
        Text(tile.count),
        Text(tile.emotion, style=hex_of(tile.emotion) if tile.emotion not in (UNKNOWN, "none") else ""),
        Text(fps),
        Text(describe_heard(tile, now_ms)),
        Text("; ".join(tile.problems), style="red"),
    ]


def describe_heard(tile: Tile, now_ms: int) -> str:
    """Say when a camera was last heard, or since when it is away; ``told`` is a time by the camera's own clock."""
    if tile.away_ms is not None:
        return f"offline since {_clock(tile.away_ms)}"
    if tile.heard_ms is None:
        return f"not yet; told {_clock(tile.told_ms)}" if tile.told_ms else "not yet"
    silent_s = (now_ms - tile.heard_ms) // 1000
    return f"silent for {silent_s} s" if silent_s * 1000 >= SILENT_MS else f"{silent_s} s ago"


def _clock(at_ms: int) -> str:
    return time.strftime(
        "%H:%M:%S" if abs(now_ms() - at_ms) < 43_200_000 else "%Y-%m-%d %H:%M", time.localtime(at_ms / 1000)
    )
