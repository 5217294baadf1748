"""Waiting for a condition in a browser page."""

import time
from contextlib import suppress

import pytest

from serving.browser.chromium import Chromium, PageError


def wait_until(page: Chromium, condition: str) -> None:
    """Wait for a JavaScript condition, also across a navigation."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with suppress(PageError):
            if page.evaluate(f"Boolean({condition})"):
                return
        time.sleep(0.02)
    pytest.fail(
        f"On the page {condition} did not become true; its text is {page.evaluate('document.body.innerText')[:500]}"
    )
