"""Tells systemd about readiness, status and progress (sd_notify(3)); silent where there is no systemd."""

from __future__ import annotations

import os
import socket


def notify(**fields: str | int) -> bool:
    """Sends one notification, for example ``notify(READY=1, STATUS="15 fps")``.

    Returns:
        Whether a service manager was there to be told. A manager that is gone is not an error.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    message = "\n".join(f"{key}={value}" for key, value in fields.items())
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(message.encode(), target)
    except OSError:
        return False
    return True
