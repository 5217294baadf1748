"""Requests that an incident sends to a gateway, and their results."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import orjson

from models.use_case import UseCase
from pipeline.run import Run
from serving.http import asyncio_server
from serving.request_sender import Sender, TrafficReport


def generate_bodies(case: UseCase, last: Run) -> Iterator[bytes]:
    """Yield the rows of the last span that the served model was trained on, again and again, as new requests each time."""
    span, source = last.window[1], last.source
    settings, module = last.settings["data"], case.load("traffic")
    for number in count():
        for body, _ in module.requests(source, source, None, (span, span), [], settings):
            yield orjson.dumps(module.renew(body, number))


class ScoringClient:
    """Client that scores rows of one use case at a gateway.

    Attributes:
        acknowledged: Version that answered, by prediction id, for every valid answer.
        report: Counts and latencies of the requests so far.
    """

    def __init__(self, gateway: str, case: UseCase) -> None:
        host, _, port = gateway.rpartition(":")
        self.acknowledged: dict[str, int] = {}
        self._sender = Sender(host, int(port), f"/v1/{case.name}/score", case.load("traffic").check, self._record)

    @property
    def report(self) -> TrafficReport:
        return self._sender.report

    async def send_async(
        self, rows: Iterable[bytes], rate: float, connections: int, seconds: float = 0.0
    ) -> TrafficReport:
        """Send rows until they or the seconds run out."""
        return await self._sender.run(rows, rate, connections, seconds)

    def send(self, rows: Iterable[bytes], rate: float, connections: int, seconds: float = 0.0) -> TrafficReport:
        """Send rows as :meth:`send_async` does, from outside an event loop."""
        return asyncio_server.run(self.send_async(rows, rate, connections, seconds))

    def _record(self, body: bytes, answer: Mapping[str, Any]) -> None:
        self.acknowledged[answer["prediction_id"]] = answer["version"]
