"""A flood of requests: more than the gateway lets in, which says so at once and goes on answering the rest."""

import asyncio
from collections.abc import Iterator
from functools import partial

from serving.http import asyncio_server
from serving.traffic import Report
from tour.incidents import scratch
from tour.incidents.incident import Event, FailedError, Live
from tour.incidents.requests import Requests, bodies

RATE, CONNECTIONS, SECONDS = 50, 32, 4.0
STEADY = 10.0  # requests a second of a client that keeps to the rate


def run(live: Live) -> Iterator[Event]:
    """A gateway over a copy of the served model lets in so many requests a second; a client beside the flood measures."""
    case = scratch.cheapest(live.home)
    rows = bodies(case, scratch.last_pushed(live.home, case))
    with scratch.copied(live, case) as home, scratch.served(home, case, "--rate", RATE, "--timeout", 30) as gateway:
        steady = partial(Requests(gateway, case).send, rows, STEADY, 2, SECONDS)
        yield Event(
            f"A gateway of its own on {gateway} lets in {RATE} requests a second.", "info", {"gateway": gateway}
        )
        yield from _told("Before", before := steady())
        yield Event(f"{CONNECTIONS} connections send as fast as they can for {SECONDS:.0f} s.", "bad")
        flood = Requests(gateway, case).send(rows, 0, CONNECTIONS, SECONDS)
        refused, answered = flood.statuses[429], flood.statuses[200]
        numbers = {"sent": flood.sent, "answered": answered, "refused": refused}
        yield Event(
            f"{flood.sent} came, {answered} were answered, {refused} refused with 429: {_text(flood)}", "good", numbers
        )
        if refused + answered != flood.sent or not refused:
            raise FailedError(f"The flood should get answers or 429, and it got {dict(flood.statuses)}.")
        asyncio_server.run(asyncio.sleep(2.0))  # the bucket of the rate fills again
        yield from _told("After", after := steady())
        if before.failed or after.failed:
            raise FailedError(f"{before.failed} requests failed before the flood and {after.failed} after it.")
        yield Event("The process is the same, and nothing has failed since.", "good")


def _told(when: str, report: Report) -> Iterator[Event]:
    p99 = report.percentiles().get("p99", 0.0)
    text = (
        f"{when} the flood: {report.sent} requests at {STEADY:.0f} a second, {report.failed} failed, p99 {p99:.1f} ms."
    )
    yield Event(text, "info", {"p99": p99, "failed": report.failed})


def _text(report: Report) -> str:
    return report.refusals.get(429, "")[:200]
