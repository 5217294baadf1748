"""The gateway's metrics, scraped over HTTP as Prometheus does, and rates and latencies from consecutive scrapes."""

import asyncio
import math
import re
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SCRAPE_TIMEOUT = 0.5  # timeout of a scrape
GONE_AFTER = 5.0  # seconds without a scrape after which a slow gateway counts as stopped
RATE_SECONDS = 5.0  # seconds over which the rate is averaged
HISTORY_SECONDS = 60.0  # seconds covered by latencies, errors and the history of rates
MAX_RESPONSE_BYTES = 4 << 20  # largest size of a response, in bytes
LINE = re.compile(r"(gateway_(?:requests_total|request_seconds_bucket|breaker))\{([^}]*)\} (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
BREAKER = {0: "closed", 1: "half-open", 2: "open"}


@dataclass(frozen=True)
class CaseCounters:
    """Counters of one case since the gateway started.

    Attributes:
        answers: Number of responses by HTTP status.
        buckets: Cumulative latency histogram of scored requests, by upper edge in seconds.
        breaker: State of the circuit breaker.
    """

    answers: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)
    breaker: str = "closed"

    @property
    def total(self) -> float:
        """Number of responses."""
        return sum(self.answers.values())


@dataclass(frozen=True)
class Traffic:
    """Traffic of one case through the gateway.

    Attributes:
        rate: Responses per second over the last ``RECENT`` seconds.
        p50, p99: Latency percentiles of scored requests of the last minute in milliseconds, interpolated in the
            histogram; None without requests.
        errors: Share of the last minute's responses with a status of at least 500; None without responses.
        refused: Number of the last minute's responses with a status from 400 to 499.
        total: Responses since the gateway started.
        breaker: State of the circuit breaker: closed, half-open or open.
        history: Rates over the last minute, oldest first.
    """

    rate: float = 0.0
    p50: float | None = None
    p99: float | None = None
    errors: float | None = None
    refused: int = 0
    total: int = 0
    breaker: str = "closed"
    history: tuple[float, ...] = ()


class Scrapes:
    """Scrapes of the last minute; discarded when the gateway restarts, since its counters start from zero."""

    def __init__(self) -> None:
        self._scrapes: deque[tuple[float, dict[str, CaseCounters]]] = deque()

    def add(self, counters: dict[str, CaseCounters], at: float) -> None:
        before = self._scrapes[-1][1] if self._scrapes else {}
        if sum(case.total for case in counters.values()) < sum(case.total for case in before.values()):
            self._scrapes.clear()
        self._scrapes.append((at, counters))
        while self._scrapes[-1][0] - self._scrapes[0][0] > HISTORY_SECONDS:
            self._scrapes.popleft()

    @property
    def at(self) -> float:
        """Time of the latest scrape; 0 without any."""
        return self._scrapes[-1][0] if self._scrapes else 0.0

    def clear(self) -> None:
        """Discard all scrapes, when the gateway has stopped."""
        self._scrapes.clear()

    def of(self, case: str) -> Traffic:
        scrapes = [(at, counters.get(case, CaseCounters())) for at, counters in self._scrapes]
        if not scrapes:
            return Traffic()
        (_, first), (now, last) = scrapes[0], scrapes[-1]
        since = next(scrape for scrape in scrapes if now - scrape[0] <= RATE_SECONDS or scrape is scrapes[-1])
        answers = {status: count - first.answers.get(status, 0) for status, count in last.answers.items()}
        buckets = {edge: count - first.buckets.get(edge, 0) for edge, count in last.buckets.items()}
        responses = sum(answers.values())
        return Traffic(
            rate=_rate(since, scrapes[-1]),
            p50=quantile(buckets, 0.5),
            p99=quantile(buckets, 0.99),
            errors=sum(count for status, count in answers.items() if status >= "500") / responses
            if responses
            else None,
            refused=round(sum(count for status, count in answers.items() if "400" <= status < "500")),
            total=round(last.total),
            breaker=last.breaker,
            history=tuple(_rate(a, b) for a, b in zip(scrapes, scrapes[1:], strict=False)),
        )


def parse_metrics(text: str) -> dict[str, CaseCounters]:
    """Parse the Prometheus text format into counters by case."""
    by_case: dict[str, tuple[dict[str, float], dict[float, float], list[str]]] = {}
    for name, label_text, value in LINE.findall(text):
        labels = dict(LABEL.findall(label_text))
        answers, buckets, breaker = by_case.setdefault(labels["case"], ({}, {}, []))
        if name == "gateway_requests_total":
            answers[labels["status"]] = float(value)
        elif name == "gateway_breaker":
            breaker.append(BREAKER.get(int(float(value)), "closed"))
        else:
            buckets[float(labels["le"])] = float(value)
    return {
        case: CaseCounters(answers, buckets, (states or ["closed"])[0])
        for case, (answers, buckets, states) in by_case.items()
        if case
    }


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Latency quantile in milliseconds, interpolated linearly within buckets; the last finite edge beyond it.

    Returns None if the histogram is empty.
    """
    total, below, lower_edge = buckets.get(math.inf, 0), 0.0, 0.0
    if not total:
        return None
    for edge, count in sorted(buckets.items()):
        if count >= share * total:
            fraction = (share * total - below) / (count - below) if count > below else 0.0
            return 1000 * (lower_edge if math.isinf(edge) else lower_edge + fraction * (edge - lower_edge))
        below, lower_edge = count, edge
    return None


async def fetch(address: str) -> dict[str, CaseCounters]:
    """Scrape the gateway at HOST:PORT.

    Raises:
        TimeoutError: if the response takes too long, for example on a busy machine.
        OSError: if nothing listens there, or it is not a gateway.
    """
    try:
        return parse_metrics(await asyncio.wait_for(_request_metrics(address), SCRAPE_TIMEOUT))
    except ValueError as error:
        raise OSError(f"{address} is not the address of a gateway: {error}") from None


async def _request_metrics(address: str) -> str:
    """Request the metrics by plain HTTP in the event loop; an HTTP client library would cost more than the response."""
    host, _, port = address.rpartition(":")
    reader, writer = await _connect(host.strip("[]"), int(port))
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read(-1)).partition(b"\r\n\r\n")[2].decode()
    finally:
        writer.close()


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address of a host that accepts.

    The name is resolved beforehand: uvloop abandons a look-up of its own when it is cancelled, and its failure is logged.
    """
    failure = OSError(f"{host} has no address")
    for family, *_, address in await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return await asyncio.open_connection(*address[:2], family=family, limit=MAX_RESPONSE_BYTES)
        except OSError as error:
            failure = error
    raise failure


def _rate(first: tuple[float, CaseCounters], last: tuple[float, CaseCounters]) -> float:
    seconds = last[0] - first[0]
    return (last[1].total - first[1].total) / seconds if seconds > 0 else 0.0


def polyline_points(values: Sequence[float], width: int, height: int) -> str:
    top = max([*values, 1e-9])
    step = width / max(1, len(values) - 1)
    return " ".join(f"{at * step:.1f},{height - 1 - value / top * (height - 2):.1f}" for at, value in enumerate(values))
