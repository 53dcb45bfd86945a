"""Sources of a camera as people may see them. What could be a secret is left out; what is left says which camera.

Cameras take passwords in every part of an address, and tokens as its path; pipelines in any property. So nothing is
looked for: what is known to be harmless stays.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

HIDDEN: Final = "…"
PIPELINE: Final = "gstreamer:"
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?::/{1,3}|//)(?=[^/])")
_ADDRESS_INSIDE: Final = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s"']+""")
_SECRET: Final = re.compile(
    r"""\b([\w-]*(?:pass(?:w(?:or)?d|phrase)?|pwd|pw|token|secret|key|auth|cookies?|headers?|sig(?:nature)?))"""
    r"""(\s*=\s*)("[^"]*"|'[^']*'|\S+)""",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(
    r"(?:av|axis-cgi|axis-media|cam|camera|cgi-bin|ch|channel|channels|h26[45]|live|main|media|mjpe?g|mpeg4?|onvif|play"
    r"|profile|snap|snapshot|stream|streaming|sub|test|unicast|video|videostream)[0-9]{0,4}(?:\.(?:amp|cgi|jpg|mjpg|sdp))?",
    re.IGNORECASE,
)
"""Parts of an address' path that many cameras share."""
_PROPERTIES: Final = frozenset(
    {"buffers", "caps", "device", "drop", "framerate", "height", "io-mode", "is-live", "latency", "leaky", "location"}
    | {"max-buffers", "num-buffers", "pattern", "protocols", "sensor-id", "sync", "uri", "width"}
)
"""Properties of a pipeline's elements whose value is shown."""


def redact(text: str) -> str:
    """Return a source, or a message about one, without its secrets.

    Args:
        text: as configured; or free text, in which only addresses and ``name=value`` pairs are looked at.
    """
    bare = text.strip()
    if bare.startswith(PIPELINE):
        return PIPELINE + _redact_pipeline(bare.removeprefix(PIPELINE))
    kind, colon, rest = bare.partition(":")
    if colon and kind.isidentifier() and _ADDRESS.match(rest):
        return f"{kind}:{_redact_address(rest)}"
    if _ADDRESS.match(bare) and not bare.startswith("/") and "\n" not in bare and not re.search(r"\s\w+:\s", bare):
        return _redact_address(bare)
    text = _ADDRESS_INSIDE.sub(lambda found: _redact_address(found[0]), text)
    text = re.sub(r"[^\s/'\"]*:[^\s'\"]*@", f"{HIDDEN}@", text)
    return _SECRET.sub(rf"\1\2{HIDDEN}", text)


def _redact_address(text: str) -> str:
    scheme, slashes, rest = re.match(r"([^/]*?:?)(/{1,3})(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if scheme.lower() == "file:":
        return f"{scheme}{slashes}{rest.partition('?')[0]}"
    if "@" in rest:  # the last one: passwords hold unescaped @ and /
        before, _, after = rest.rpartition("@")
        if "?" in before:  # either a ? in the password or an @ in the query
            return f"{scheme}{slashes}{HIDDEN}"
        return f"{scheme}{slashes}{HIDDEN}@{_redact_path(after)}"
    return f"{scheme}{slashes}{_redact_path(rest)}"


def _redact_path(text: str) -> str:
    """Return host, port and what is harmless of the path."""
    path, question, _ = text.partition("?")
    host, *parts = path.split("/")
    host = host if re.fullmatch(r"[\w.:%\[\]-]*", host) else HIDDEN
    shown = [part if not part or _WORDS.fullmatch(part) else HIDDEN for part in parts]
    return "/".join([host, *shown]) + (f"?{HIDDEN}" if question else "")


def _redact_pipeline(text: str) -> str:
    """Return the elements and the harmless properties."""
    try:
        words = shlex.split(text)
    except ValueError:
        return HIDDEN
    shown, is_first = [], True
    for word in words:
        name, equals, value = word.partition("=")
        if (
            word == "!"
            or (is_first and re.fullmatch(r"[A-Za-z][\w-]*", word))
            or re.fullmatch(r"(?:video|image)/[\w-]+(?:,[\w-]+=(?:\(\w+\))?[\w/]+)*", word)
        ):
            shown.append(word)
        elif equals and name in _PROPERTIES:
            shown.append(f"{name}={_redact_value(value)}")
        elif equals and re.fullmatch(r"[A-Za-z][\w-]*", name):
            shown.append(f"{name}={HIDDEN}")
        elif shown[-1:] != [HIDDEN]:
            shown.append(HIDDEN)
        is_first = word == "!"
    return " ".join(shown)


def _redact_value(value: str) -> str:
    if _ADDRESS.match(value):
        return _redact_address(value)
    return value if re.fullmatch(r"[\w./:+-]{1,64}", value) and "@" not in value else HIDDEN
