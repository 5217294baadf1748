"""Sends requests at a rate over a few connections, and says how long answers took and what was wrong with them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import orjson

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
Check = Callable[[Mapping[str, Any]], str | None]


@dataclass
class Report:
    """What came of the requests.

    Attributes:
        sent: How many.
        seconds: From the first request to the last answer.
        statuses: Answers by HTTP status; 0 for a connection that broke.
        wrong: Answers of status 200 that were not right, by what was wrong.
        latencies: Seconds of each answer of status 200, from the moment it should have been sent.
        versions: Answers by version.
        decisions: Answers by decision.
        refusals: The first error text of each status.
    """

    sent: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    versions: Counter[int] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    refusals: dict[int, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Requests without a right answer."""
        return self.sent - self.statuses[200] + sum(self.wrong.values())

    def percentiles(self) -> dict[str, float]:
        """Latencies in milliseconds."""
        ordered = sorted(self.latencies)
        if not ordered:
            return {}
        return {f"p{p:g}": 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in PERCENTILES}

    def plain(self) -> dict[str, Any]:
        """As values for JSON."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "seconds": self.seconds,
            "rate": self.sent / self.seconds if self.seconds else 0.0,
            "milliseconds": self.percentiles(),
            **{
                name: {str(k): v for k, v in getattr(self, name).items()}
                for name in ("statuses", "wrong", "versions", "decisions", "refusals")
            },
        }


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Tells whoever waits."""
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("The connection was closed before the answer."))

    def data_received(self, data: bytes) -> None:
        """Feeds the parser."""
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        """A part of the answer."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._answer and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._body)))
        if not self._parser.should_keep_alive():
            self.transport.close()

    def ask(self, head: bytes, body: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Sends a request; status and body of its answer."""
        self._parser, self._body = httptools.HttpResponseParser(self), []
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        return self._answer


class Sender:
    """Sends bodies to one path.

    Args:
        host: Of the gateway.
        port: Of the gateway.
        path: Such as ``/v1/CASE/score``.
        check: Says what is wrong with an answer, or None.
        seen: Told each request's body and right answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        check: Check,
        seen: Callable[[bytes, dict[str, Any]], None] = lambda body, answer: None,
    ) -> None:
        self.host, self.port, self.check, self.seen = host, port, check, seen
        self.report = Report()
        self._head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n".encode()

    async def run(self, bodies: Iterable[bytes], rate: float, connections: int, seconds: float = 0.0) -> Report:
        """Sends until the bodies or the seconds are over.

        Latency counts from when a request was due, so that waiting behind a slow answer is not left out.

        Args:
            bodies: What to send.
            rate: Requests a second; 0 for as many as the connections carry.
            connections: How many requests may be under way.
            seconds: How long; 0 for to the end of the bodies.
        """
        began, stream = time.perf_counter(), iter(bodies)
        self._due = began
        clients = (self._client(stream, rate, began, seconds) for _ in range(connections))
        await asyncio.gather(*clients)
        self.report.seconds = time.perf_counter() - began
        return self.report

    async def _client(self, stream: Iterable[bytes], rate: float, began: float, seconds: float) -> None:
        connection = await self._connected()
        try:
            for body in stream:
                due = time.perf_counter()
                if rate:
                    due = self._due
                    self._due += 1 / rate
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if seconds and due - began >= seconds:
                    break
                connection = await self._ask(connection, body, due)
        finally:
            connection.transport.close()

    async def _ask(self, connection: Connection, body: bytes, due: float) -> Connection:
        """Sends one body; the connection for the next."""
        self.report.sent += 1
        try:
            if connection.transport.is_closing():
                connection = await self._connected()
            status, answer = await connection.ask(self._head, body)
            self._take(body, status, answer, time.perf_counter() - due)
        except OSError as error:
            self._refused(0, str(error))
            await asyncio.sleep(0.05)
        return connection

    async def _connected(self) -> Connection:
        return (await asyncio.get_running_loop().create_connection(Connection, self.host, self.port))[1]

    def _take(self, body: bytes, status: int, answer: bytes, latency: float) -> None:
        if status != 200:
            self._refused(status, answer.decode(errors="replace")[:300])
            return
        told, report = orjson.loads(answer), self.report
        report.statuses[200] += 1
        report.latencies.append(latency)
        for counter, name in ((report.versions, "version"), (report.decisions, "decision")):
            if name in told:
                counter[told[name]] += 1
        wrong = self.check(told)
        if wrong:
            report.wrong[wrong] += 1
        self.seen(body, told)

    def _refused(self, status: int, text: str) -> None:
        self.report.statuses[status] += 1
        self.report.refusals.setdefault(status, text)
