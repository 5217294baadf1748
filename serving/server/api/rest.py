"""TensorFlow Serving's REST interface over the engine."""

import json
import re
import time
import zlib
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, NamedTuple

from serving.http.messages import Request, Response
from serving.server.conversion import examples, json_tensors
from serving.server.conversion.request_rows import Rows
from serving.server.engine import Engine
from serving.server.loading.servable import Servable
from serving.server.metrics import CONTENT_TYPE, ServerMetrics
from serving.server.signature import CLASSIFY, REGRESS
from serving.status_errors import ServingError

PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?::(?P<verb>predict|classify|regress)|/(?P<view>metadata))?"
)
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
    """

    def __init__(
        self, engine: Engine, metrics: ServerMetrics, metrics_path: str | None, timeout: float, max_body: int
    ) -> None:
        self.engine, self.metrics, self.metrics_path = engine, metrics, metrics_path
        self.timeout, self.max_body = timeout, max_body
        self._verbs: dict[str, Callable[[Request, RequestPath], Awaitable[bytes]]] = {
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
                return _error_response(404, "Not found; models are served under /v1/models/")
            target = _parse_path(request.path)
            if target is None or request.method not in (("POST",) if target.verb in APIS else ("GET", "HEAD")):
                raise ServingError("INVALID_ARGUMENT", f"Malformed request: {request.method} {request.path}")
            if target.verb not in APIS:
                return Response(200, self._view(target))
            return await self._run_counted(request, target)
        except ServingError as error:
            return _error_response(error.http, error.message)

    async def _run_counted(self, request: Request, target: RequestPath) -> Response:
        started = time.perf_counter()
        status = "INTERNAL"
        try:
            body = await self._verbs[target.verb](request, target)
            status = "OK"
            return Response(200, body)
        except ServingError as error:
            status = error.status
            raise
        finally:
            if self.engine.has_model(target.model):  # names from clients would grow the metrics without bound
                self.metrics.request(target.model, APIS[target.verb], "REST", status, time.perf_counter() - started)

    async def _predict(self, request: Request, target: RequestPath) -> bytes:
        servable = self.engine.servable(target.model, target.version, target.label)
        document = json_tensors.parse(self._read_body(request))
        signature = self.engine.find_signature(servable, _signature_name(document))
        rows, by_row = json_tensors.parse_rows(document, signature)
        arrays = await self.engine.run(servable, signature, rows, self.timeout)
        return json_tensors.encode_response(dict(zip(signature.outputs, arrays, strict=True)), by_row)

    async def _classify(self, request: Request, target: RequestPath) -> bytes:
        outputs, rows = await self._run_on_examples(request, target, CLASSIFY)
        return json_tensors.dumps({"results": examples.get_classes(outputs, rows)}, False)

    async def _regress(self, request: Request, target: RequestPath) -> bytes:
        outputs, rows = await self._run_on_examples(request, target, REGRESS)
        return json_tensors.dumps({"results": examples.get_values(outputs, rows)}, False)

    async def _run_on_examples(self, request: Request, target: RequestPath, method: str) -> tuple[dict[str, Any], int]:
        servable = self.engine.servable(target.model, target.version, target.label)
        document = json_tensors.parse(self._read_body(request))
        signature = self.engine.find_signature(servable, _signature_name(document))
        examples.check_signature(signature, method)
        example_list = document.get("examples")
        if not isinstance(example_list, list) or not example_list:
            raise ServingError("INVALID_ARGUMENT", "Expecting non-empty 'examples' list")
        serialized = [examples.from_json(example, document.get("context")) for example in example_list]
        arrays = await self.engine.run(
            servable, signature, Rows(len(serialized), [examples.to_string_array(serialized)]), self.timeout
        )
        return dict(zip(signature.outputs, arrays, strict=True)), len(serialized)

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

    def _read_body(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding == "identity":
            return request.body
        if encoding != "gzip":
            raise ServingError("INVALID_ARGUMENT", f"Content-Encoding {encoding} is not supported; use gzip")
        decompressor = zlib.decompressobj(wbits=31)
        try:
            body = decompressor.decompress(request.body, self.max_body + 1)
        except zlib.error:
            raise ServingError("INVALID_ARGUMENT", "The body is not gzip, which Content-Encoding declares") from None
        if len(body) > self.max_body or not decompressor.eof:
            raise ServingError(
                "INVALID_ARGUMENT", f"The decompressed body is truncated or larger than {self.max_body} bytes"
            )
        return body


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


def _error_response(status: int, message: str) -> Response:
    return Response(status, json.dumps({"error": message}).encode())
