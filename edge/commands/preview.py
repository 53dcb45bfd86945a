"""`mien preview`: the live page with the camera's picture, on this machine alone, for aiming a camera."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import tempfile
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console

from edge.capture import SOURCES, parse_source
from edge.config.loader import load_config, make_config
from edge.config.schema import Config, PageConfig
from edge.errors import UsageError
from edge.service.daemon import run_daemon

HOST = "127.0.0.1"
PORT = 8089
FILES = ("video", "pictures")


def run_preview(
    *, config_file: Path | None, overrides: dict[str, str] | None, port: int | None, console: Console
) -> int:
    """Show a camera in a browser until Ctrl-C: nothing is published, and no other port is opened.

    Args:
        config_file: its camera and models are used; None: the defaults.
        overrides: keys that replace those of the file.
        port: of this machine; None: 8089, or a free one where that is taken.
        console: is told the address.

    Returns:
        The exit code.

    Raises:
        UsageError: the port is in use.
        MienError: the configuration or the camera cannot be used.
    """
    file = str(config_file or "--set")
    config = load_config(config_file, overrides=overrides) if config_file else make_config({}, overrides=overrides)
    chosen = find_port(port, PORT)
    with tempfile.TemporaryDirectory(prefix="mien-preview-") as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_urlsafe(24))
        _tell(console, port=chosen, token=token.read_text())
        return run_daemon(_for_preview(config, port=chosen, token=token), file=file, max_frames=None)


def _for_preview(config: Config, *, port: int, token: Path) -> Config:
    """Return the configuration with the page as its only way out; a file begins again at its end."""
    camera = config.camera
    if parse_source(camera.source, kinds=SOURCES).kind in FILES:
        camera = replace(camera, options={"loop": True} | camera.options)
    return replace(
        config,
        camera=camera,
        publish=replace(config.publish, sinks=()),
        homeassistant=replace(config.homeassistant, enabled=False),
        page=PageConfig(enabled=True, listen=f"{HOST}:{port}", token_file=str(token), picture=True),
    )


def find_port(wanted: int | None, usual: int) -> int:
    """Return a port of this machine that is free now: the one that is wanted, else the usual one, else any.

    Raises:
        UsageError: the one that was asked for is in use.
    """
    for port in (wanted,) if wanted else (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UsageError(f"--port: {wanted} is in use")


def _tell(console: Console, *, port: int, token: str) -> None:
    """Print where to look. What stands behind ``#`` stays in the browser: it is in no request and in no log."""
    address = f"http://{HOST}:{port}/#token={token}"
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    console.print(f"Open {address}", soft_wrap=True)
    console.print(
        f"From another machine: ssh -L {port}:{HOST}:{port} {user}@{socket.gethostname()}, then the same address there",
        soft_wrap=True,
    )
    console.print(
        "Only this address shows the picture; none is kept, and nothing else is sent. Ctrl-C ends it.", soft_wrap=True
    )
