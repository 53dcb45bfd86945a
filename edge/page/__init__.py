"""The live page: what is seen, in a browser, with health and metrics beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge.config.schema import Config
from edge.packages import install_line
from edge.registry import load_entry

if TYPE_CHECKING:
    from edge.page.sink import PageSink

_SINK: Final = {"page": "edge.page.sink:PageSink"}


def open_page(config: Config) -> PageSink | None:
    """Return the page; None where it is not wanted: then nothing of it is imported.

    Raises:
        ConfigError: a token that cannot be read.
        MissingDependencyError: the extra ``page`` is not installed.
    """
    if not config.page.enabled:
        return None
    page: PageSink = load_entry(_SINK, "page", what="the live", install=install_line("page"))(config)
    return page
