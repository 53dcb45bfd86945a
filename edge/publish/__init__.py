"""Sinks: where events and states go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge.config.loader import shown
from edge.config.schema import Config
from edge.errors import ConfigError
from edge.publish.base import Message, Reply, RequestHandler, RequestSource, Sink, make_message
from edge.publish.encode import Moment, Origin, Vitals
from edge.publish.fanout import Fanout
from edge.publish.publisher import Publisher
from edge.publish.topics import schema_of
from edge.registry import load_entry

__all__ = [
    "SINKS",
    "Fanout",
    "Message",
    "Moment",
    "Origin",
    "Publisher",
    "Reply",
    "Sink",
    "Vitals",
    "check_sinks",
    "make_message",
    "open_sinks",
    "schema_of",
]

SINKS: Final = {"mqtt": "edge.publish.mqtt.sink:make_sink", "jsonl": "edge.publish.jsonl:make_sink"}
"""Name to a function that makes the sink out of the whole configuration, and its ``file``."""


def check_sinks(config: Config) -> tuple[str, ...]:
    """Names of the configured sinks, each once.

    Raises:
        ConfigError: an unknown sink; the message lists the valid ones.
    """
    names = tuple(dict.fromkeys(config.publish.sinks))
    if config.homeassistant.enabled and "mqtt" not in names:
        raise ConfigError("homeassistant.enabled", "true, but mqtt is not among publish.sinks")
    for name in names:
        if name not in SINKS:
            raise ConfigError("publish.sinks", f"{shown(name)} is unknown; there are {', '.join(SINKS)}")
    return names


def open_sinks(
    config: Config,
    *,
    file: str = "configuration",
    on_request: RequestHandler | None = None,
    others: Mapping[str, Sink] | None = None,
) -> Fanout:
    """Starts every sink that the configuration names.

    Args:
        config: the whole configuration.
        file: where it comes from.
        others: sinks that no name of ``publish.sinks`` stands for, such as the page.
        on_request: takes the requests that come over the sinks; None: nobody asks for them.

    Raises:
        ConfigError: an unknown sink, or one that can never work as configured.
        PublishError: a sink that cannot be opened.
    """
    names = check_sinks(config)
    parts: dict[str, Sink] = {name: load_entry(SINKS, name, what="sink")(config, file=file) for name in names}
    parts |= others or {}
    for part in parts.values():
        if on_request is not None and isinstance(part, RequestSource):
            part.listen(on_request)
    sinks = Fanout(parts)
    sinks.start()
    return sinks
