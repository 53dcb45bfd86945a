"""A served page, and a real browser to look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from page_samples import Page
from tools import require_tool


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="python -m pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = require_tool("chromium", "apt-get install chromium")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1280,900"):
        options.add_argument(f"--{argument}")
    service = webdriver.ChromeService(require_tool("chromedriver", "apt-get install chromium-driver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
