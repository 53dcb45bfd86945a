"""A real browser to look at pages with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tools import require_tool


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
