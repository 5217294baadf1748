"""Incident *flood*: more requests than the gateway's rate limit; it refuses the excess at once and answers the rest."""

import asyncio
from collections.abc import Iterator
from functools import partial

from serving.http import asyncio_server
from serving.request_sender import TrafficReport
from tour.incidents import scratch
from tour.incidents.incident import IncidentEvent, IncidentFailedError, LiveSystem
from tour.incidents.requests import ScoringClient, generate_bodies

RATE, CONNECTIONS, SECONDS = 50, 32, 4.0
STEADY = 10.0  # requests per second of a client that keeps to the limit


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Flood a gateway that serves a copy of the model; a client within the limit measures it before and after."""
    case = scratch.choose_cheapest_case(live.home)
    rows = generate_bodies(case, scratch.find_last_pushed_run(live.home, case))
    with (
        scratch.copy_served_version(live, case) as home,
        scratch.serve_gateway(home, case, "--rate", RATE, "--timeout", 30) as gateway,
    ):
        steady = partial(ScoringClient(gateway, case).send, rows, STEADY, 2, SECONDS)
        yield IncidentEvent(
            f"A separate gateway on {gateway} has a rate limit of {RATE} requests per second.",
            "info",
            {"gateway": gateway},
        )
        yield from _describe_steady_client("Before", before := steady())
        yield IncidentEvent(f"{CONNECTIONS} connections send as fast as they can for {SECONDS:.0f} s.", "bad")
        flood = ScoringClient(gateway, case).send(rows, 0, CONNECTIONS, SECONDS)
        refused, answered = flood.statuses[429], flood.statuses[200]
        numbers = {"sent": flood.sent, "answered": answered, "refused": refused}
        yield IncidentEvent(
            f"{flood.sent} requests: {answered} answered, {refused} refused with 429: {flood.refusals.get(429, '')[:200]}",
            "good",
            numbers,
        )
        if refused + answered != flood.sent or not refused:
            raise IncidentFailedError(
                f"The flood should get status 200 or 429 only; answers by status: {dict(flood.statuses)}."
            )
        asyncio_server.run(asyncio.sleep(2.0))  # the token bucket of the rate limit refills
        yield from _describe_steady_client("After", after := steady())
        if before.failed or after.failed:
            raise IncidentFailedError(f"{before.failed} requests failed before the flood and {after.failed} after it.")
        yield IncidentEvent("The gateway process is the same, and no request has failed since.", "good")


def _describe_steady_client(when: str, report: TrafficReport) -> Iterator[IncidentEvent]:
    p99 = report.percentiles().get("p99", 0.0)
    text = f"{when} the flood: {report.sent} requests at {STEADY:.0f}/s, {report.failed} failed, p99 {p99:.1f} ms."
    yield IncidentEvent(text, "info", {"p99": p99, "failed": report.failed})
