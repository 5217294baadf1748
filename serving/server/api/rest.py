"""TensorFlow Serving's REST interface over the engine."""

import json
import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from serving.http.byte_budget import SMALL_BODY, BudgetExceededError, Reservation
from serving.http.messages import RETRY_AFTER, Request, Response, error_response
from serving.server.api import request_body
from serving.server.conversion import examples, json_tensors
from serving.server.conversion.request_rows import Rows
from serving.server.engine import Engine
from serving.server.large_requests import LargeRequests
from serving.server.loading.servable import Servable
from serving.server.metrics import CONTENT_TYPE, ServerMetrics
from serving.server.signature import CLASSIFY, REGRESS, Signature
from serving.status_errors import ServingError

PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?::(?P<verb>predict|classify|regress)|/(?P<view>metadata))?"
)
BUSY = (429, 503)
Converted = TypeVar("Converted")
Outputs = dict[str, np.ndarray]
APIS = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}


class RequestPath(NamedTuple):
    """Parsed URL path: model, version or label, and verb (or ``metadata``, or empty for the status)."""

    model: str
    version: int | None
    label: str | None
    verb: str


class RestHandler:
    """Handler of all REST requests.

    Attributes:
        engine: Runs the models.
        metrics: Counts requests.
        metrics_path: URL path of the Prometheus metrics; None serves no metrics.
        timeout: Deadline of a request, in seconds.
        max_body: Largest body in bytes, before and after decompression.
        large: Converts large requests and responses.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: ServerMetrics,
        metrics_path: str | None,
        timeout: float,
        max_body: int,
        large: LargeRequests,
    ) -> None:
        self.engine, self.metrics, self.metrics_path = engine, metrics, metrics_path
        self.timeout, self.max_body, self.large = timeout, max_body, large
        self._verbs: dict[str, Callable[[Request, RequestPath, Reservation], Awaitable[bytes]]] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
        }

    async def __call__(self, request: Request) -> Response:
        """Handle one request."""
        try:
            if request.path == self.metrics_path and request.method in ("GET", "HEAD"):
                return Response(200, self.metrics.text(), CONTENT_TYPE)
            if not request.path.startswith("/v1/"):
                return error_response(404, "Not found; models are served under /v1/models/")
            target = _parse_path(request.path)
            if target is None or request.method not in (("POST",) if target.verb in APIS else ("GET", "HEAD")):
                raise ServingError("INVALID_ARGUMENT", f"Malformed request: {request.method} {request.path}")
            if target.verb not in APIS:
                return Response(200, self._view(target))
            return await self._run_counted(request, target)
        except ServingError as error:
            return error_response(error.http, error.message, *((RETRY_AFTER,) if error.http in BUSY else ()))

    async def _run_counted(self, request: Request, target: RequestPath) -> Response:
        started = time.perf_counter()
        status = "INTERNAL"
        try:
            with self.large.budget.reserve() as reservation:
                body = await self._verbs[target.verb](request, target, reservation)
            status = "OK"
            return Response(200, body)
        except BudgetExceededError as error:
            status = "UNAVAILABLE"
            raise ServingError(status, str(error)) from None
        except ServingError as error:
            status = error.status
            raise
        finally:
            if self.engine.has_model(target.model):  # names from clients would grow the metrics without bound
                self.metrics.request(target.model, APIS[target.verb], "REST", status, time.perf_counter() - started)

    async def _predict(self, request: Request, target: RequestPath, reservation: Reservation) -> bytes:
        servable = self.engine.servable(target.model, target.version, target.label)

        def convert(document: dict[str, Any], large: bool) -> tuple[Signature, Rows, bool]:
            signature = self.engine.find_signature(servable, _signature_name(document))
            return signature, *json_tensors.parse_rows(document, signature, at_once=large)

        size, (signature, rows, by_row) = await self._convert(request, reservation, convert)
        outputs = await self._run(servable, signature, rows)
        return await self._encode(size, outputs, partial(json_tensors.encode_response, outputs, by_row))

    async def _classify(self, request: Request, target: RequestPath, reservation: Reservation) -> bytes:
        return await self._run_on_examples(request, target, reservation, CLASSIFY, examples.get_classes)

    async def _regress(self, request: Request, target: RequestPath, reservation: Reservation) -> bytes:
        return await self._run_on_examples(request, target, reservation, REGRESS, examples.get_values)

    async def _run_on_examples(
        self,
        request: Request,
        target: RequestPath,
        reservation: Reservation,
        method: str,
        get_results: Callable[[Outputs, int], Any],
    ) -> bytes:
        servable = self.engine.servable(target.model, target.version, target.label)

        def convert(document: dict[str, Any], large: bool) -> tuple[Signature, Rows]:
            signature = self.engine.find_signature(servable, _signature_name(document))
            examples.check_signature(signature, method)
            serialized = examples.list_from_json(document)
            return signature, Rows(len(serialized), [examples.to_string_array(serialized)])

        size, (signature, rows) = await self._convert(request, reservation, convert)
        outputs = await self._run(servable, signature, rows)
        return await self._encode(
            size, outputs, lambda: json_tensors.dumps({"results": get_results(outputs, rows.count)}, False)
        )

    async def _convert(
        self, request: Request, reservation: Reservation, convert: Callable[[dict[str, Any], bool], Converted]
    ) -> tuple[int, Converted]:
        """Unpack, parse and convert a body; return its size in bytes and the result."""
        size = request_body.read_size(request, self.max_body)
        if request_body.is_gzip(request):
            reservation.grow(size)

        def work() -> Converted:
            body = request_body.unpack(request, size)
            request.body = b""  # the request lives as long as its answer, and the body is needed no more
            self.large.check_values(json_tensors.count_values(body, self.large.max_values))
            return convert(json_tensors.parse(body), size > SMALL_BODY)

        return size, await self.large.run(size, work)

    async def _run(self, servable: Servable, signature: Signature, rows: Rows) -> Outputs:
        arrays = await self.engine.run(servable, signature, rows, self.timeout)
        return dict(zip(signature.outputs, arrays, strict=True))

    async def _encode(self, size: int, outputs: Outputs, encode: Callable[[], bytes]) -> bytes:
        """Encode the response to a request of ``size`` bytes."""
        return await self.large.run(max(size, *(array.nbytes for array in outputs.values())), encode)

    def _view(self, target: RequestPath) -> bytes:
        if target.verb == "metadata":
            return encode_metadata(self.engine.servable(target.model, target.version, target.label))
        states = self.engine.states(target.model, target.version, target.label)
        return json.dumps(
            {
                "model_version_status": [
                    {
                        "version": str(state.version),
                        "state": state.state,
                        "status": {"error_code": state.code, "error_message": state.message},
                    }
                    for state in states
                ]
            }
        ).encode()


@lru_cache(64)
def encode_metadata(servable: Servable) -> bytes:
    """Return the response to a metadata request as JSON: the version and its signatures."""
    from google.protobuf import json_format
    from tensorflow_serving.apis import get_model_metadata_pb2

    from serving.server.api import grpc_metadata

    message = grpc_metadata.build_response(servable)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    message.metadata[grpc_metadata.FIELD].Unpack(signatures)
    signature_map = json_format.MessageToDict(
        signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
    return json.dumps({"model_spec": spec, "metadata": {grpc_metadata.FIELD: signature_map}}).encode()


@lru_cache(4096)
def _parse_path(path: str) -> RequestPath | None:
    match = PATH.fullmatch(path)
    if not match:
        return None
    version = int(match["version"]) if match["version"] else None
    return RequestPath(match["model"], version, match["label"], match["verb"] or match["view"] or "")


def _signature_name(document: dict[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise ServingError("INVALID_ARGUMENT", "'signature_name' key must be a string value")
    return name
