"""Headless Chromium of this machine, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# No host name resolves, so that a page that requests anything from outside fails.
FLAGS = ("--disable-gpu", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


@contextmanager
def start() -> Iterator["Browser"]:
    """Start a browser that reaches this machine only, and end it.

    Raises:
        FileNotFoundError: if Playwright or a browser is missing; the message says what to install.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise FileNotFoundError("Playwright, which drives the browser, is missing: `pip install playwright`.") from None
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not path:
        raise FileNotFoundError(f"None of {', '.join(PROGRAMS)} is on PATH: `apt-get install chromium`.")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=FLAGS) as browser:
        yield browser
