"""Load generator: sends requests at a given rate over several connections, measures latency and checks the answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import httptools
import orjson

from serving.http.asyncio_server import describe_address_error

REPLAYED = b"idempotent-replayed"
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
Check = Callable[[Mapping[str, Any]], str | None]


@dataclass
class TrafficReport:
    """Results of the requests.

    Attributes:
        sent: Number of requests.
        seconds: Time from the first request to the last answer.
        statuses: Number of answers by HTTP status; 0 for a broken connection.
        replayed: Number of answers that were the first answer to an earlier request.
        wrong: Number of answers with status 200 that failed the check, by reason.
        latencies: Seconds of each answer with status 200, counted from the time at which the request was due.
        versions: Number of answers by model version.
        decisions: Number of answers by decision.
        refusals: The first error text of each status.
    """

    sent: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    replayed: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    versions: Counter[int] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    refusals: dict[int, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Number of requests without a correct answer."""
        return self.sent - self.statuses[200] + sum(self.wrong.values())

    def percentiles(self) -> dict[str, float]:
        """Return latency percentiles in milliseconds; empty without answers."""
        ordered = sorted(self.latencies)
        if not ordered:
            return {}
        return {f"p{p:g}": 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in PERCENTILES}

    def plain(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "replayed": self.replayed,
            "seconds": self.seconds,
            "rate": self.sent / self.seconds if self.seconds else 0.0,
            "milliseconds": self.percentiles(),
            **{
                name: {str(key): value for key, value in getattr(self, name).items()}
                for name in ("statuses", "wrong", "versions", "decisions", "refusals")
            },
        }


class Reply(NamedTuple):
    """Status and body of an answer, and whether it is the first answer to an earlier request."""

    status: int
    body: bytes
    replayed: bool


class ClientConnection(asyncio.Protocol):
    """Client side of one HTTP/1.1 connection; sends one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Reply] | None = None
        self._body: list[bytes] = []
        self._replayed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the pending request."""
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("The connection was closed before the answer."))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Notice whether the answer is that of an earlier request."""
        self._replayed |= name.lower() == REPLAYED

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Complete the pending request."""
        if self._answer and not self._answer.done():
            self._answer.set_result(Reply(self._parser.get_status_code(), b"".join(self._body), self._replayed))
        if not self._parser.should_keep_alive():
            self.transport.close()

    def ask(self, head: bytes, body: bytes) -> "asyncio.Future[Reply]":
        """Send a request; return a future of the reply."""
        self._parser, self._body, self._replayed = httptools.HttpResponseParser(self), [], False
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        return self._answer


class Sender:
    """Sends request bodies to one path.

    Args:
        host: Host of the gateway.
        port: Port of the gateway.
        path: URL path, such as ``/v1/CASE/score``.
        check: Returns the reason why an answer is wrong, or None.
        on_answer: Called with the body of each request and its answer of status 200.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        check: Check,
        on_answer: Callable[[bytes, dict[str, Any]], None] = lambda body, answer: None,
    ) -> None:
        self.host, self.port, self.check, self.on_answer = host, port, check, on_answer
        self.report = TrafficReport()
        self._ids: set[str] = set()
        self._head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n".encode()

    async def run(self, bodies: Iterable[bytes], rate: float, connections: int, seconds: float = 0.0) -> TrafficReport:
        """Send requests until the bodies are exhausted or the time is over.

        Latency is measured from the time at which a request was due, so that waiting behind a slow answer is included.

        Args:
            bodies: The request bodies.
            rate: Requests a second; 0 for as fast as the connections allow.
            connections: Number of connections, hence of requests in flight.
            seconds: Duration; 0 to send all bodies.

        Raises:
            OSError: if no server answers.
        """
        (await self._connect()).transport.close()  # raises before all connections fail at once
        began, stream = time.perf_counter(), iter(bodies)
        self._due = began
        clients = (self._run_client(stream, rate, began, seconds) for _ in range(connections))
        await asyncio.gather(*clients)
        self.report.seconds = time.perf_counter() - began
        return self.report

    async def _run_client(self, stream: Iterable[bytes], rate: float, began: float, seconds: float) -> None:
        connection = await self._connect()
        try:
            for body in stream:
                due = time.perf_counter()
                if rate:
                    due = self._due
                    self._due += 1 / rate
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if seconds and due - began >= seconds:
                    break
                connection = await self._send(connection, body, due)
        finally:
            connection.transport.close()

    async def _send(self, connection: ClientConnection, body: bytes, due: float) -> ClientConnection:
        """Send one body, reconnecting if necessary; return the connection for the next."""
        self.report.sent += 1
        try:
            if connection.transport.is_closing():
                connection = await self._connect()
            reply = await connection.ask(self._head, body)
            self._count_answer(body, reply, time.perf_counter() - due)
        except OSError as error:
            self._count_error(0, str(error))
            await asyncio.sleep(0.05)
        return connection

    async def _connect(self) -> ClientConnection:
        try:
            return (await asyncio.get_running_loop().create_connection(ClientConnection, self.host, self.port))[1]
        except OSError as error:
            reason = describe_address_error(error)
            raise OSError(
                f"No server answers at {self.host}:{self.port}: {reason}; start it, or give another address."
            ) from None

    def _count_answer(self, body: bytes, reply: Reply, latency: float) -> None:
        if reply.status != 200:
            self._count_error(reply.status, reply.body.decode(errors="replace")[:300])
            return
        answer, report = orjson.loads(reply.body), self.report
        report.statuses[200] += 1
        report.replayed += reply.replayed
        report.latencies.append(latency)
        for counter, name in ((report.versions, "version"), (report.decisions, "decision")):
            if name in answer:
                counter[answer[name]] += 1
        if problem := self._find_repeated_id(answer, reply) or self.check(answer):
            report.wrong[problem] += 1
        self.on_answer(body, answer)

    def _find_repeated_id(self, answer: Mapping[str, Any], reply: Reply) -> str | None:
        """Describe a prediction id that an earlier answer had; that of a replayed answer may repeat."""
        identity = answer.get("prediction_id")
        is_repeated = identity in self._ids and not reply.replayed
        if identity is not None:
            self._ids.add(identity)
        return "a repeated prediction id" if is_repeated else None

    def _count_error(self, status: int, text: str) -> None:
        self.report.statuses[status] += 1
        self.report.refusals.setdefault(status, text)
