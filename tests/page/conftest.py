"""A served page, and a real browser to look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from browsers import browser
from page_samples import Page

__all__ = ["browser"]


@pytest.fixture
def serve() -> Iterator[Callable[..., Page]]:
    """Serves pages on free ports: ``serve(token=…)``."""
    with ExitStack() as stack:

        @contextmanager
        def running(page: Page) -> Iterator[Page]:
            page.thread.start()
            yield page
            page.thread.stop(timeout_s=5)

        yield lambda **changes: stack.enter_context(running(Page(**changes)))
