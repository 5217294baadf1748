"""The address that applications use: raw rows in, scores and decisions out, each on disk before it is answered."""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import parse_qs

import orjson
from pydantic import BaseModel, ValidationError

from serving.gateway import late_labels
from serving.gateway.gateway_metrics import Metrics
from serving.gateway.openapi import document
from serving.gateway.request_errors import Refused, invalid
from serving.gateway.scoring import Scorer
from serving.http.asyncio_server import Request, Response

MOST_LABEL, MOST_LABELS = 16 << 10, 1 << 20  # bytes of a request
POLL_SECONDS = 1.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"
log = logging.getLogger(__name__)
Route = Callable[[Request], Awaitable[Response]]
Body = TypeVar("Body", bound=BaseModel)


class Gateway:
    """Routes requests to the cases; an instance is a handler for ``serving.http.asyncio_server``.

    Args:
        scorers: By case. The gateway opens and closes them.
        metrics: The one that the scorers count in.
    """

    def __init__(self, scorers: Mapping[str, Scorer], metrics: Metrics) -> None:
        self.scorers, self.metrics = dict(scorers), metrics
        self._routes: dict[str, dict[str, tuple[str, Route]]] = {
            "/labels": {"POST": ("", self._label)},
            "/labels/batch": {"POST": ("", self._labels)},
            "/healthz": {"GET": ("", self._health)},
            "/readyz": {"GET": ("", self._ready)},
            "/metrics": {"GET": ("", self._metrics)},
            "/openapi.json": {"GET": ("", self._openapi)},
        }
        for name, scorer in scorers.items():
            self._routes[f"/v1/{name}/score"] = {"POST": (name, _score(scorer))}
        self.document = self._described()
        self._counted: dict[tuple[str, int], Callable[[], None]] = {}
        self._poll: asyncio.Task[None] | None = None
        self.draining = False

    def open(self) -> "Gateway":
        """Restores every case's memory and begins to follow the rollouts; call it from the event loop."""
        for scorer in self.scorers.values():
            scorer.open()
            scorer.memory.begin()
        self._poll = asyncio.get_running_loop().create_task(self._follow())
        return self

    async def add(self, scorer: Scorer) -> None:
        """Answers for one more case from now on; the others do not wait while its memory is restored.

        Raises:
            OSError: if its folder cannot be had.
            ValueError: if what lies there is damaged.
        """
        await asyncio.to_thread(scorer.open)
        scorer.memory.begin()
        self.scorers[scorer.name] = scorer
        self._routes[f"/v1/{scorer.name}/score"] = {"POST": (scorer.name, _score(scorer))}
        self.document = self._described()

    def _described(self) -> bytes:
        return orjson.dumps(document({name: one.online for name, one in self.scorers.items()}))

    async def close(self) -> None:
        """Writes what waits, and checkpoints."""
        if self._poll:
            self._poll.cancel()
        for scorer in self.scorers.values():
            await scorer.close()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for scorer in self.scorers.values():
                try:
                    scorer.refresh()
                except (OSError, ValueError) as error:  # what was served goes on being served
                    log.error("%s", error)

    async def __call__(self, request: Request) -> Response:
        """Answers one request, whatever it is."""
        case, route = "", None
        methods = self._routes.get(request.path)
        try:
            if methods is None:
                raise Refused(404, f"There is nothing at {request.path[:200]}; GET /openapi.json says what there is.")
            found = methods.get("GET" if request.method == "HEAD" else request.method)
            if found is None:
                raise _Method(", ".join(methods), request.method)
            case, route = found
            response = await route(request)
        except _Method as error:
            response = Response(405, _error(str(error)), headers=(("allow", error.allowed),))
        except Refused as error:
            after = (("retry-after", str(max(1, math.ceil(error.after)))),) if error.after is not None else ()
            response = Response(error.status, _error(error.message), headers=after)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = Response(500, _error("The gateway failed to answer; its log says why."))
        self._count(case, response.status)
        return response

    def _count(self, case: str, status: int) -> None:
        count = self._counted.get((case, status))
        if count is None:
            count = self._counted[case, status] = self.metrics.requests.labels(case, str(status)).inc
        count()

    async def _label(self, request: Request) -> Response:
        (kept,) = await late_labels.take(self.scorers, [_read(late_labels.Label, request.body, MOST_LABEL)])
        return Response(200, kept.model_dump_json().encode())

    async def _labels(self, request: Request) -> Response:
        kept = await late_labels.take(self.scorers, _read(late_labels.Labels, request.body, MOST_LABELS).labels)
        return Response(200, late_labels.AllLabelled(labels=kept).model_dump_json().encode())

    async def _health(self, request: Request) -> Response:
        return Response(200, b'{"status":"alive"}')

    async def _ready(self, request: Request) -> Response:
        """Ready where no breaker is open and nothing is being shut down."""
        states = {name: scorer.state() for name, scorer in self.scorers.items()}
        ready = not self.draining and all(state == "ready" for state in states.values())
        return Response(200 if ready else 503, orjson.dumps({"ready": ready, "cases": states}))

    async def _metrics(self, request: Request) -> Response:
        return Response(200, self.metrics.text(), TEXT)

    async def _openapi(self, request: Request) -> Response:
        return Response(200, self.document)


class _Method(Exception):
    def __init__(self, allowed: str, method: str) -> None:
        super().__init__(f"{method} is not possible here; {allowed} is.")
        self.allowed = allowed


def _read(model: type[Body], body: bytes, most: int) -> Body:
    if len(body) > most:
        raise Refused(413, f"The body is larger than {most} bytes.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


def _score(scorer: Scorer) -> Route:
    async def route(request: Request) -> Response:
        return await scorer.score(request, bool(request.query) and _explain(request.query))

    return route


def _explain(query: str) -> bool:
    """Whether the query asks for reasons.

    Raises:
        Refused: for a query that means nothing here.
    """
    asked = parse_qs(query, keep_blank_values=True)
    values = asked.pop("reasons", ["false"])
    if asked:
        raise Refused(422, f"The query may hold reasons, not '{next(iter(asked))[:64]}'.")
    if len(values) != 1 or values[0] not in ("true", "false"):
        raise Refused(422, "reasons: this is true or false.")
    return values[0] == "true"


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()
