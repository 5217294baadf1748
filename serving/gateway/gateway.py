"""HTTP interface for applications: raw rows in, scores and decisions out, each logged on disk before the response.

FastAPI with the same models (0.165, uvicorn, httptools, uvloop) answers 0.81 times as many requests a second at 8 connections
over a stub backend, with 1.9 times the CPU time a request, and its server lacks the limits of ``serving.http``.
"""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs

import orjson

from serving.gateway import late_labels
from serving.gateway.body_parser import BodyParser
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.openapi import build_document
from serving.gateway.scoring import Scorer
from serving.http.asyncio_server import Request, Response
from serving.http.request_errors import RequestError

MAX_LABEL_BYTES, MAX_LABELS_BYTES = 16 << 10, 1 << 20  # size of a request body
POLL_SECONDS = 1.0
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
log = logging.getLogger(__name__)
Route = Callable[[Request], Awaitable[Response]]


class Gateway:
    """Routes requests to the use cases; an instance is a handler for ``serving.http.asyncio_server``.

    Args:
        scorers: Scorers by case name. The gateway opens and closes them.
        metrics: The metrics object that the scorers also use.
    """

    def __init__(self, scorers: Mapping[str, Scorer], metrics: GatewayMetrics) -> None:
        self.scorers, self.metrics = dict(scorers), metrics
        self._routes: dict[str, dict[str, tuple[str, Route]]] = {
            "/labels": {"POST": ("", self._post_label)},
            "/labels/batch": {"POST": ("", self._post_labels)},
            "/healthz": {"GET": ("", self._get_health)},
            "/readyz": {"GET": ("", self._get_readiness)},
            "/metrics": {"GET": ("", self._get_metrics)},
            "/openapi.json": {"GET": ("", self._get_openapi)},
        }
        for name, scorer in scorers.items():
            self._routes[f"/v1/{name}/score"] = {"POST": (name, _make_score_route(scorer))}
        self.document = self._build_document()
        self._counters: dict[tuple[str, int], Callable[[], None]] = {}
        self._poll: asyncio.Task[None] | None = None
        self.bodies = BodyParser()
        self.draining = False

    def open(self) -> "Gateway":
        """Restore every case's memory and start polling the rollouts; call it from the event loop."""
        for scorer in self.scorers.values():
            scorer.open()
            scorer.memory.begin()
        self._poll = asyncio.get_running_loop().create_task(self._poll_rollouts())
        return self

    async def add(self, scorer: Scorer) -> None:
        """Start serving one more case; its memory is restored in a thread, so that other cases keep answering.

        Raises:
            OSError: if its folder cannot be opened or locked.
            ValueError: if a file in it is damaged.
        """
        await asyncio.to_thread(scorer.open)
        scorer.memory.begin()
        self.scorers[scorer.name] = scorer
        self._routes[f"/v1/{scorer.name}/score"] = {"POST": (scorer.name, _make_score_route(scorer))}
        self.document = self._build_document()

    def _build_document(self) -> bytes:
        return orjson.dumps(build_document({name: scorer.online for name, scorer in self.scorers.items()}))

    async def close(self) -> None:
        """Write pending records and a checkpoint of every memory."""
        if self._poll:
            self._poll.cancel()
        self.bodies.close()
        for scorer in self.scorers.values():
            await scorer.close()

    async def _poll_rollouts(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for scorer in self.scorers.values():
                try:
                    scorer.refresh()
                except (OSError, ValueError) as error:  # the previous rollout stays in effect
                    log.error("%s", error)

    async def __call__(self, request: Request) -> Response:
        """Answer one request, including unknown routes and failures."""
        case, route = "", None
        methods = self._routes.get(request.path)
        try:
            if methods is None:
                raise RequestError(404, f"There is no route {request.path[:200]}; GET /openapi.json lists the routes.")
            match = methods.get("GET" if request.method == "HEAD" else request.method)
            if match is None:
                raise _MethodNotAllowedError(", ".join(methods), request.method)
            case, route = match
            response = await route(request)
        except _MethodNotAllowedError as error:
            response = Response(405, _encode_error(str(error)), headers=(("allow", error.allowed),))
        except RequestError as error:
            retry_after = (
                (("retry-after", str(max(1, math.ceil(error.retry_after)))),) if error.retry_after is not None else ()
            )
            response = Response(error.status, _encode_error(error.message), headers=retry_after)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = Response(500, _encode_error("The gateway failed to answer; see its log for the reason."))
        self._count(case, response.status)
        return response

    def _count(self, case: str, status: int) -> None:
        increment = self._counters.get((case, status))
        if increment is None:
            increment = self._counters[case, status] = self.metrics.requests.labels(case, str(status)).inc
        increment()

    async def _post_label(self, request: Request) -> Response:
        label = await self.bodies.parse(late_labels.Label, request.body, MAX_LABEL_BYTES, lambda label: label)
        (stored,) = await late_labels.store_labels(self.scorers, [label])
        return Response(200, stored.model_dump_json().encode())

    async def _post_labels(self, request: Request) -> Response:
        labels = await self.bodies.parse(late_labels.Labels, request.body, MAX_LABELS_BYTES, lambda body: body.labels)
        stored = await late_labels.store_labels(self.scorers, labels)
        return Response(200, late_labels.AllLabelled(labels=stored).model_dump_json().encode())

    async def _get_health(self, request: Request) -> Response:
        return Response(200, b'{"status":"alive"}')

    async def _get_readiness(self, request: Request) -> Response:
        """Ready if a case is served, its logs can be written, no circuit breaker is open and the gateway is not draining."""
        states = {name: await scorer.check_ready() for name, scorer in self.scorers.items()}
        ready = bool(states) and not self.draining and all(state == "ready" for state in states.values())
        return Response(200 if ready else 503, orjson.dumps({"ready": ready, "cases": states}))

    async def _get_metrics(self, request: Request) -> Response:
        return Response(200, self.metrics.text(), METRICS_TYPE)

    async def _get_openapi(self, request: Request) -> Response:
        return Response(200, self.document)


class _MethodNotAllowedError(Exception):
    def __init__(self, allowed: str, method: str) -> None:
        super().__init__(f"{method} is not allowed for this route; use {allowed}.")
        self.allowed = allowed


def _make_score_route(scorer: Scorer) -> Route:
    async def route(request: Request) -> Response:
        return await scorer.score(request, bool(request.query) and _wants_reasons(request.query))

    return route


def _wants_reasons(query: str) -> bool:
    """Return whether the query asks for feature attributions (``reasons=true``).

    Raises:
        RequestError: for an unknown parameter or an invalid value.
    """
    parameters = parse_qs(query, keep_blank_values=True)
    values = parameters.pop("reasons", ["false"])
    if parameters:
        raise RequestError(
            422, f"Unknown query parameter '{next(iter(parameters))[:64]}'; only 'reasons' is supported."
        )
    if len(values) != 1 or values[0] not in ("true", "false"):
        raise RequestError(422, "reasons: the value must be true or false, given once.")
    return values[0] == "true"


def _encode_error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()
