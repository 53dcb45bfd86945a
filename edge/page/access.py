"""Who may look, and who may do something: names of this page, tokens, and how often somebody may guess."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from edge.config.schema import PageConfig
from edge.errors import ConfigError
from edge.system.secrets import find_credential, read_secret

COOKIE: Final = "mien_page"
CONTROL_COOKIE: Final = "mien_control"
WRONG_MAX: Final = 10
WRONG_WITHIN_S: Final = 60.0
"""After so many wrong tokens in so many seconds nobody may try for the rest of them."""


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HostNames:
    """Names that the page may be called by. A page of somebody else's that has its own name lead here is refused.

    An address needs no entry: DNS rebinding takes a name.

    Args:
        names: as configured.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {"localhost", *(name.lower() for name in names)}

    def allows(self, host: str) -> bool:
        """Whether a request with this ``Host`` may be answered; its port does not matter."""
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.rpartition(":")[0] or name
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Token:
    """A secret that is shown once and becomes a cookie; the cookie is not the secret.

    Args:
        secret: the first line of the token's file.
        cookie: the cookie's name.
        clock_s: monotonic seconds.
    """

    def __init__(self, secret: str, *, cookie: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.cookie = cookie
        self._secret = secret.encode()
        self._clock_s = clock_s
        self._wrong_s: deque[float] = deque(maxlen=WRONG_MAX)
        # The same after a restart: a display on a wall needs nobody who types. Another token makes it worthless.
        self.value = hmac.new(self._secret, f"mien {cookie}".encode(), hashlib.sha256).hexdigest()

    @property
    def is_blocked(self) -> bool:
        """Whether too many wrong ones came lately."""
        full = len(self._wrong_s) == WRONG_MAX
        return full and self._clock_s() - self._wrong_s[0] < WRONG_WITHIN_S

    def matches(self, told: str) -> bool:
        """Whether a text is the secret."""
        return hmac.compare_digest(told.encode(), self._secret)

    def note_wrong(self) -> None:
        """Count a wrong guess."""
        self._wrong_s.append(self._clock_s())

    def knows(self, value: str | None) -> bool:
        """Whether a cookie is the one that was given for the secret."""
        return value is not None and hmac.compare_digest(value.encode(), self.value.encode())


def find_told(tokens: Sequence[Token], told: str) -> list[Token]:
    """Return the tokens whose secret somebody told; none while guessing is blocked.

    Only what is none of them is a wrong guess: who tells the token for looking has not guessed at the one for control.
    """
    if any(token.is_blocked for token in tokens):
        return []
    right = [token for token in tokens if token.matches(told)]
    for token in tokens if not right else ():
        token.note_wrong()
    return right


def read_token(name: str | None, *, key: str, cookie: str) -> Token | None:
    """Return the token in a file; None where no file is named.

    Raises:
        ConfigError: it cannot be read, its first line is empty, or everybody on this machine may read it.
    """
    if name is None:
        return None
    secret = read_secret(name, key=key)
    if find_credential(name).stat().st_mode & stat.S_IROTH:
        raise ConfigError(key, f"{name}: everybody may read it; chmod o-r")
    return Token(secret, cookie=cookie)


def check_page(page: PageConfig) -> None:
    """Refuse what can be reached from elsewhere without a token, and pictures without one.

    Raises:
        ConfigError: naming the key.
    """
    host, port = page.address
    if not 0 < port < 65536:
        raise ConfigError("page.listen", f"{page.listen}: a port is 1 to 65535")
    if page.token_file is None and not is_loopback(host):
        raise ConfigError("page.token_file", f"unset, but page.listen is {page.listen}: it is reached from elsewhere")
    if page.picture and page.token_file is None:
        raise ConfigError("page.token_file", "unset, but page.picture is true: pictures need a token")
