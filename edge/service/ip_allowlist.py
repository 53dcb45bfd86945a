"""Which addresses a service may reach: those that its configuration names, where they can be known.

    python -m edge.service.ip_allowlist /etc/mien/front.toml mien@front.service

The unit runs it as root before each start. Until then, and where it fails, the own list of the unit holds: this machine
and private networks. An address that was named once stays allowed until the machine restarts: nobody can tell it from
one that an administrator has added.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from edge.config.loader import load_config
from edge.config.schema import Config
from edge.errors import EXIT_CLEAN, EXIT_RUNTIME, EXIT_USAGE, MienError
from edge.page.access import is_loopback

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HERE: Final = ("127.0.0.0/8", "::1/128")
NEAR: Final = (
    *("169.254.0.0/16", "fe80::/64", "224.0.0.0/4", "ff00::/8"),
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
)
"""What ``IPAddressAllow=`` of ``systemd/mien@.service`` means beside ``localhost``."""
TIMEOUT_S: Final = 10.0


def allowed_networks(config: Config) -> list[Network]:
    """What a configuration needs to reach: this machine, and the addresses of its broker and its camera.

    A name can stand for another address tomorrow, and a pipeline can hold anything: they need all private networks.
    """
    known = [ipaddress.ip_network(here) for here in HERE]
    for host in named_hosts(config):
        if host == "localhost":
            continue
        try:
            known.append(ipaddress.ip_network((host or "").partition("%")[0]))
        except ValueError:
            return [ipaddress.ip_network(network) for network in (*HERE, *NEAR)]
    return [network for network in known if not any(network != other and _lies_in(network, other) for other in known)]


def _lies_in(network: Network, other: Network) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]


def named_hosts(config: Config) -> list[str | None]:
    """Names and addresses that are connected to, or that connect; None for one that cannot be known."""
    hosts: list[str | None] = [config.mqtt.host] if "mqtt" in config.publish.sinks else []
    # `edge.capture` would say more exactly what a source is, and takes a Pi a second to import.
    source = config.camera.source.strip()
    if source.startswith("gstreamer:"):
        hosts.append(None)
    elif "://" in source:
        hosts.append(urlsplit(source.removeprefix("network:")).hostname)
    if config.page.enabled and not is_loopback(config.page.address[0]):
        hosts.append(None)  # whoever looks at the page
    return hosts


def with_additions(networks: Sequence[Network], present: str) -> list[Network]:
    """Those networks, and what an administrator has added to the unit's list.

    Args:
        networks: what the configuration needs.
        present: ``IPAddressAllow`` as ``systemctl show`` tells it.
    """
    ours = {ipaddress.ip_network(network) for network in (*HERE, *NEAR)}
    added = [network for network in map(ipaddress.ip_network, present.split()) if network not in ours]
    return [*networks, *(network for network in added if network not in networks)]


def main(arguments: Sequence[str]) -> int:
    """Narrows or widens the unit's list; returns 0, 1 when it stays as it is, 2 for other arguments."""
    if len(arguments) != 2:
        print("wanted: CONFIG UNIT")
        return EXIT_USAGE
    file, unit = Path(arguments[0]), arguments[1]
    try:
        networks = allowed_networks(load_config(file))
        networks = with_additions(networks, _systemctl("show", "--property=IPAddressAllow", "--value", unit))
        text = " ".join(map(str, networks))
        _systemctl("set-property", "--runtime", unit, "IPAddressAllow=", f"IPAddressAllow={text}")
    except (MienError, OSError, subprocess.SubprocessError, ValueError) as error:
        print(f"{unit} keeps the addresses that it may reach: {error}")
        return EXIT_RUNTIME
    print(f"may reach {text}")
    return EXIT_CLEAN


def _systemctl(*command: str) -> str:
    done = subprocess.run(["systemctl", *command], check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    return done.stdout
