"""Where alerts go: the log, and a webhook. A sink that fails is asked again at the next window; nobody waits for it."""

import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

log = logging.getLogger(__name__)
SECONDS = 5.0


class Sink(Protocol):
    """Takes one piece of news; raises OSError if it could not be delivered."""

    def __call__(self, news: Mapping[str, Any]) -> None: ...


def to_log(news: Mapping[str, Any]) -> None:
    """A warning in the log."""
    log.warning("%s", sentence(news))


class Webhook:
    """Posts news as JSON to an address; ``text`` is the sentence, which chat programs show.

    Raises:
        ValueError: if the address is none of HTTP's.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"A webhook's address begins with http:// or https://, not '{url[:100]}'.")
        self.url = url

    def __call__(self, news: Mapping[str, Any]) -> None:
        """Posts; raises OSError where the answer is no success."""
        body = json.dumps({"text": sentence(news), **news}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310 (the address was checked)
            pass


def sentence(news: Mapping[str, Any]) -> str:
    """A piece of news for people."""
    incident = news["incident"]
    what = "is over" if news["what"] == "resolved" else f"in window {news['window']}: {', '.join(incident['causes'])}"
    return f"{news['case']} version {news['version']}: {incident['kind']} incident {incident['id']} {what}"


def delivered(pending: Sequence[Mapping[str, Any]], sinks: Sequence[Sink]) -> list[dict[str, Any]]:
    """Hands news to all sinks; returns what is left for those that failed, by their places in ``left``.

    Each piece carries ``left``, the places of the sinks that have not had it: so none hears it twice because another failed.
    """
    waiting = []
    for news in pending:
        left = [
            place
            for place in news.get("left", range(len(sinks)))
            if place < len(sinks) and not _told(sinks[place], news)
        ]
        if left:
            waiting.append({**news, "left": left})
    return waiting


def _told(sink: Sink, news: Mapping[str, Any]) -> bool:
    try:
        sink({name: value for name, value in news.items() if name != "left"})
    except OSError as error:
        log.error("an alert was not delivered and is tried again: %s", error)
        return False
    return True
