"""One instance a base topic and machine: a second one would publish into the first one's topics and throw it out."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import struct
from collections.abc import Iterator

from edge.config.schema import Config
from edge.errors import ConfigError
from edge.publish.mqtt.connection import port_of


@contextlib.contextmanager
def claim_base_topic(config: Config) -> Iterator[None]:
    """Hold the base topic at its broker for this process, for the time of a ``with`` block.

    The claim is an abstract Unix socket (unix(7)): the kernel frees it when the process ends, however it ends, and
    services that run as different users see it alike. Containers and other machines do not.

    Raises:
        ConfigError: another process of this machine holds it; the message names its process id.
    """
    if "mqtt" not in config.publish.sinks:
        yield
        return
    topic = config.mqtt.base_topic(config.device_name, config.camera.name)
    name = f"{config.mqtt.host.lower()}:{port_of(config.mqtt)}/{topic}"
    address = b"\0mien/" + hashlib.sha256(name.encode()).hexdigest().encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ConfigError(
                "camera.name",
                f"{config.camera.name}: process {_holder(address)} on this machine publishes to {topic} already; "
                "give every camera a name of its own",
            ) from None
        claim.listen(1)
        yield


def _holder(address: bytes) -> str:
    """Process id of the holder of a claim; ``?`` where it ended meanwhile."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(address)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return "?"
    return str(struct.unpack("3i", credentials)[0])
