"""Waiting in a browser."""

import time
from contextlib import suppress

import pytest

from serving.browser.chromium import Chromium, PageError


def until(page: Chromium, condition: str) -> None:
    """Waits for a condition, also while the page goes elsewhere."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with suppress(PageError):
            if page.evaluate(f"Boolean({condition})"):
                return
        time.sleep(0.02)
    pytest.fail(f"The page never came to {condition}; it is {page.evaluate('document.body.innerText')[:500]}")
