"""Alert sinks: the log and a webhook. Delivery to a sink that fails is retried at the next window, without blocking."""

import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from serving.drift.profiles.windows import format_window

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 5.0


class Sink(Protocol):
    """Callable that delivers one alert; raises OSError if it could not be delivered."""

    def __call__(self, news: Mapping[str, Any]) -> None: ...


def log_alert(news: Mapping[str, Any]) -> None:
    """Write an alert to the log as a warning."""
    log.warning("%s", format_alert(news))


class Webhook:
    """Posts alerts as JSON to a URL; the field ``text`` holds the sentence that chat programs show.

    Raises:
        ValueError: if the URL does not start with http:// or https://.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                f"The webhook URL '{url[:100]}' does not start with http:// or https://; give one that does."
            )
        self.url = url

    def __call__(self, news: Mapping[str, Any]) -> None:
        """Post an alert; raises OSError if the response is not a success."""
        body = json.dumps({"text": format_alert(news), **news}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310 (the scheme was checked)
            pass


def format_alert(news: Mapping[str, Any]) -> str:
    """One sentence about an alert."""
    incident, window = news["incident"], format_window(news["window"], news.get("daily", False))
    what = "is resolved" if news["what"] == "resolved" else f"in {window}: {', '.join(incident['causes'])}"
    return f"{news['case']} version {news['version']}: {incident['kind']} incident {incident['id']} {what}"


def deliver(pending: Sequence[Mapping[str, Any]], sinks: Sequence[Sink]) -> list[dict[str, Any]]:
    """Send alerts to all sinks; return those that at least one sink has not received.

    Each returned alert carries ``left``, the indices of the sinks that have not received it, so that a sink does not
    receive an alert twice because another sink failed.
    """
    waiting = []
    for news in pending:
        left = [
            index
            for index in news.get("left", range(len(sinks)))
            if index < len(sinks) and not _send(sinks[index], news)
        ]
        if left:
            waiting.append({**news, "left": left})
    return waiting


def _send(sink: Sink, news: Mapping[str, Any]) -> bool:
    try:
        sink({name: value for name, value in news.items() if name != "left"})
    except OSError as error:
        log.error("An alert was not delivered; delivery is retried at the next window: %s", error)
        return False
    return True
