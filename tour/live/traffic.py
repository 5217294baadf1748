"""What the gateway counts, asked for over HTTP as Prometheus would, and what follows from two answers."""

import asyncio
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SECONDS = 0.5  # that the gateway has for an answer
PATIENCE = 5.0  # seconds for which one that is late still counts as there
RECENT = 5.0  # seconds over which a rate is taken
WINDOW = 60.0  # seconds over which latencies and errors are taken, and of the small drawing
MOST = 4 << 20
LINE = re.compile(r"(gateway_(?:requests_total|request_seconds_bucket|breaker))\{([^}]*)\} (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
BREAKER = {0: "closed", 1: "half-open", 2: "open"}


@dataclass(frozen=True)
class Counted:
    """What is counted of one case since the gateway began: answers by status, scored ones by bucket of seconds."""

    answers: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)
    breaker: str = "closed"


@dataclass(frozen=True)
class Traffic:
    """What goes through the gateway for one case.

    Attributes:
        rate: Answers a second over the last seconds.
        p50, p99: Milliseconds of scored answers of the last minute, by interpolation in the histogram; None without any.
        errors: Share of the last minute's answers that were the server's fault; None without any.
        refused: How many of the last minute's answers refused the request.
        total: Answers since the gateway began.
        breaker: closed, half-open or open.
        history: Rates over the last minute, the oldest first.
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
    """The answers of the last minute; a gateway that began anew is followed from its beginning."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, dict[str, Counted]]] = deque()

    def add(self, found: dict[str, Counted], at: float) -> None:
        """Takes an answer, the newest so far."""
        if self._kept and _total(found) < _total(self._kept[-1][1]):
            self._kept.clear()
        self._kept.append((at, found))
        while self._kept[-1][0] - self._kept[0][0] > WINDOW:
            self._kept.popleft()

    @property
    def at(self) -> float:
        """When the newest came; 0 without any."""
        return self._kept[-1][0] if self._kept else 0.0

    def clear(self) -> None:
        """Forgets all: the gateway is gone."""
        self._kept.clear()

    def of(self, case: str) -> Traffic:
        """What goes through for a case."""
        kept = [(at, found.get(case, Counted())) for at, found in self._kept]
        if not kept:
            return Traffic()
        (_, first), (now, last) = kept[0], kept[-1]
        since = next(one for one in kept if now - one[0] <= RECENT or one is kept[-1])
        answers = {status: count - first.answers.get(status, 0) for status, count in last.answers.items()}
        buckets = {edge: count - first.buckets.get(edge, 0) for edge, count in last.buckets.items()}
        asked = sum(answers.values())
        return Traffic(
            rate=_rate(since, kept[-1]),
            p50=quantile(buckets, 0.5),
            p99=quantile(buckets, 0.99),
            errors=sum(count for status, count in answers.items() if status >= "500") / asked if asked else None,
            refused=round(sum(count for status, count in answers.items() if "400" <= status < "500")),
            total=round(sum(last.answers.values())),
            breaker=last.breaker,
            history=tuple(_rate(a, b) for a, b in zip(kept, kept[1:], strict=False)),
        )


def parsed(text: str) -> dict[str, Counted]:
    """What an exposition says of each case."""
    found: dict[str, tuple[dict[str, float], dict[float, float], list[str]]] = {}
    for name, words, value in LINE.findall(text):
        labels = dict(LABEL.findall(words))
        answers, buckets, breaker = found.setdefault(labels["case"], ({}, {}, []))
        if name == "gateway_requests_total":
            answers[labels["status"]] = float(value)
        elif name == "gateway_breaker":
            breaker.append(BREAKER.get(int(float(value)), "closed"))
        else:
            buckets[float(labels["le"])] = float(value)
    return {case: Counted(one, two, (three or ["closed"])[0]) for case, (one, two, three) in found.items() if case}


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Milliseconds below which that share lies, straight lines within buckets; the last edge for what lies beyond it."""
    total, below, least = buckets.get(math.inf, 0), 0.0, 0.0
    if not total:
        return None
    for edge, count in sorted(buckets.items()):
        if count >= share * total:
            part = (share * total - below) / (count - below) if count > below else 0.0
            return 1000 * (least if math.isinf(edge) else least + part * (edge - least))
        below, least = count, edge
    return None


async def fetch(address: str) -> dict[str, Counted]:
    """What the gateway at HOST:PORT counts.

    Raises:
        TimeoutError: if it takes too long, as on a machine that has much to do.
        OSError: if none is there, or what is there is no gateway.
    """
    try:
        return parsed(await asyncio.wait_for(_get(address), SECONDS))
    except ValueError as error:
        raise OSError(f"{address} is no gateway's address: {error}") from None


async def _get(address: str) -> str:
    """The exposition by plain HTTP/1.0 in the event loop: a client library would cost more than the answer."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=MOST)
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read(-1)).partition(b"\r\n\r\n")[2].decode()
    finally:
        writer.close()


def _rate(first: tuple[float, Counted], last: tuple[float, Counted]) -> float:
    seconds = last[0] - first[0]
    return (_answers([last[1]]) - _answers([first[1]])) / seconds if seconds > 0 else 0.0


def _answers(found: Iterable[Counted]) -> float:
    return sum(sum(one.answers.values()) for one in found)


def _total(found: Mapping[str, Counted]) -> float:
    return _answers(found.values())


def line(values: Sequence[float], width: int, height: int) -> str:
    """Points of a line through the values, for an SVG."""
    top = max([*values, 1e-9])
    step = width / max(1, len(values) - 1)
    return " ".join(f"{at * step:.1f},{height - 1 - value / top * (height - 2):.1f}" for at, value in enumerate(values))
