"""Waiting for a page, drawing on it, and what it has requested and reported."""

from collections.abc import Sequence

from playwright.sync_api import Page


def wait_until(page: Page, condition: str) -> None:
    """Wait for a JavaScript condition, also across a navigation."""
    page.wait_for_function(f"() => {condition}", timeout=60_000)


def drag(page: Page, points: Sequence[tuple[float, float]]) -> None:
    """Press the mouse button at the first point of the page, move over the others and release it at the last."""
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def read_errors(page: Page) -> list[str]:
    """Return what the page has thrown and what the browser has logged, such as a violation of the content policy."""
    # Messages of the browser itself have no arguments; LiteRT.js reports its progress with console.error.
    messages = [message for message in page.console_messages(filter="all") if not message.args]
    logged = [message.text for message in messages if message.type == "error"]
    return logged + [str(error) for error in page.page_errors(filter="all")]


def requests_only(page: Page, *prefixes: str) -> bool:
    """Return whether each address that the page has requested begins with a prefix or holds its data itself."""
    return all(request.url.startswith((*prefixes, "data:")) for request in page.requests())
