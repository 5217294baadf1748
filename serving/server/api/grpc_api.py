"""TensorFlow Serving's PredictionService over the engine, on the engine's own event loop."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.http.byte_budget import SMALL_BODY, BudgetExceededError, Reservation
from serving.server.api import grpc_metadata
from serving.server.api.message_receiver import Context, Method
from serving.server.conversion import examples, tensor_protos, wire_values
from serving.server.conversion.request_rows import Rows
from serving.server.engine import Engine
from serving.server.large_requests import LargeRequests
from serving.server.loading.servable import Servable
from serving.server.metrics import ServerMetrics
from serving.server.signature import CLASSIFY, REGRESS, Signature
from serving.status_errors import ServingError

log = logging.getLogger(__name__)
NAME = "tensorflow.serving.PredictionService"
METHODS = {CLASSIFY: "classification_result", REGRESS: "regression_result"}
Outputs = dict[str, np.ndarray]


class Call:
    """One call: the size of its message and the bytes that it reserves.

    Attributes:
        message: The serialized request; empty once it is parsed.
        size: Bytes of the message.
        timeout: Seconds until the deadline; None for no deadline.
        reservation: Bytes of the call.
        model: Name of the model, once the request is parsed.
    """

    reservation: Reservation

    def __init__(self, message: bytes, timeout: float | None) -> None:
        self.message, self.size, self.timeout, self.model = message, len(message), timeout, ""

    def parse(self, kind: type[Any], large: LargeRequests) -> Any:
        """Return the request, after a check of its number of values if it is large.

        Raises:
            ServingError: INTERNAL if the message is malformed, INVALID_ARGUMENT if it has too many values.
        """
        message, self.message = self.message, b""
        if self.size > SMALL_BODY:
            large.check_values(wire_values.count_values(message, kind.DESCRIPTOR, large.max_values))
        try:
            return kind.FromString(message)
        except DecodeError as error:
            raise ServingError("INTERNAL", f"The request is not a {kind.DESCRIPTOR.name}: {error}") from None


class PredictionService:
    """Predict, Classify, Regress, MultiInference and GetModelMetadata, from serialized requests to serialized responses."""

    def __init__(self, engine: Engine, metrics: ServerMetrics, packed: bool, large: LargeRequests) -> None:
        self.engine, self.metrics, self.packed, self.large = engine, metrics, packed, large

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by name."""
        methods: dict[str, Callable[[Call], Awaitable[bytes]]] = {
            "Predict": self._predict,
            "Classify": partial(self._infer_one, classification_pb2.ClassificationRequest, CLASSIFY),
            "Regress": partial(self._infer_one, regression_pb2.RegressionRequest, REGRESS),
            "MultiInference": self._multi_inference,
            "GetModelMetadata": self._metadata,
        }
        return {name: self._create_method(name, method) for name, method in methods.items()}

    def _create_method(self, api: str, method: Callable[[Call], Awaitable[bytes]]) -> Method:
        async def handle(message: bytes, context: Context) -> bytes:
            started, status = time.perf_counter(), "INTERNAL"
            call = Call(message, context.time_remaining())
            del message
            try:
                with self.large.budget.reserve() as call.reservation:
                    call.reservation.grow(call.size)
                    response = await method(call)
                status = "OK"
                return response
            except BudgetExceededError as error:
                self.large.free_memory()
                status = "UNAVAILABLE"
                raise ServingError(status, str(error)) from None
            except ServingError as error:
                status = error.status
                raise
            except (ValueError, TypeError) as error:
                log.exception("%s failed", api)
                raise ServingError("INTERNAL", f"The response could not be built: {error}") from None
            finally:
                if self.engine.has_model(call.model):
                    self.metrics.request(call.model, api, "GRPC", status, time.perf_counter() - started)

        return handle

    async def _predict(self, call: Call) -> bytes:
        def convert() -> tuple[Any, Outputs, list[str]]:
            request = call.parse(predict_pb2.PredictRequest, self.large)
            call.model = request.model_spec.name
            inputs = tensor_protos.from_protos(request.inputs, call.size)
            return _copy_spec(request.model_spec), inputs, list(request.output_filter)

        spec, inputs, selected = await self.large.run(call.size, convert)
        call.reservation.grow(sum(array.nbytes for array in inputs.values()))
        version, label = get_version_choice(spec)
        served_version, outputs = await self.engine.predict(
            spec.name, inputs, spec.signature_name, version=version, label=label, outputs=selected, timeout=call.timeout
        )

        def build() -> bytes:
            response = predict_pb2.PredictResponse()
            _fill(response.model_spec, spec, served_version)
            for name, value in outputs.items():
                tensor_protos.to_proto(response.outputs[name], value, self.packed)
            return response.SerializeToString()

        return await self.large.run(_find_size(call, outputs), build)

    async def _infer_one(self, kind: type[Any], method: str, call: Call) -> bytes:
        def convert() -> tuple[Any, np.ndarray]:
            request = call.parse(kind, self.large)
            call.model = request.model_spec.name
            return _copy_spec(request.model_spec), examples.serialize_examples(request.input)

        spec, serialized = await self.large.run(call.size, convert)
        servable, outputs = await self._infer(call, spec, method, serialized)

        def build() -> bytes:
            is_classify = method == CLASSIFY
            response = (
                classification_pb2.ClassificationResponse() if is_classify else regression_pb2.RegressionResponse()
            )
            _fill_result(response.result, response.model_spec, spec, servable, method, outputs, len(serialized))
            return response.SerializeToString()

        return await self.large.run(_find_size(call, outputs), build)

    async def _multi_inference(self, call: Call) -> bytes:
        def convert() -> tuple[list[Any], np.ndarray]:
            request = call.parse(inference_pb2.MultiInferenceRequest, self.large)
            call.model = request.tasks[0].model_spec.name if request.tasks else ""
            _check_tasks(request.tasks)
            copies = inference_pb2.MultiInferenceRequest(tasks=request.tasks)
            return list(copies.tasks), examples.serialize_examples(request.input)

        tasks, serialized = await self.large.run(call.size, convert)
        results = [await self._infer(call, task.model_spec, task.method_name, serialized) for task in tasks]

        def build() -> bytes:
            response = inference_pb2.MultiInferenceResponse()
            for task, (servable, outputs) in zip(tasks, results, strict=True):
                result = response.results.add()
                field = getattr(result, METHODS[task.method_name])
                _fill_result(
                    field, result.model_spec, task.model_spec, servable, task.method_name, outputs, len(serialized)
                )
            return response.SerializeToString()

        return await self.large.run(max(_find_size(call, outputs) for _, outputs in results), build)

    async def _infer(self, call: Call, spec: Any, method: str, serialized: np.ndarray) -> tuple[Servable, Outputs]:
        """Run a classify or regress signature on serialized examples."""
        version, label = get_version_choice(spec)
        servable = self.engine.servable(spec.name, version, label)
        signature: Signature = self.engine.find_signature(servable, spec.signature_name)
        examples.check_signature(signature, method)
        arrays = await self.engine.run(servable, signature, Rows(len(serialized), [serialized]), call.timeout)
        return servable, dict(zip(signature.outputs, arrays, strict=True))

    async def _metadata(self, call: Call) -> bytes:
        request = await self.large.run(
            call.size, lambda: call.parse(get_model_metadata_pb2.GetModelMetadataRequest, self.large)
        )
        call.model = request.model_spec.name
        if not request.HasField("model_spec"):
            raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            raise ServingError("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != grpc_metadata.FIELD:
                raise ServingError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        version, label = get_version_choice(request.model_spec)
        servable = self.engine.servable(request.model_spec.name, version, label)
        return grpc_metadata.build_response(servable).SerializeToString()


def get_version_choice(spec: Any) -> tuple[int | None, str | None]:
    """Return version and label of a ModelSpec; at most one of them is not None."""
    kind = spec.WhichOneof("version_choice")
    return (spec.version.value, None) if kind == "version" else (None, spec.version_label if kind else None)


def _find_size(call: Call, outputs: Outputs) -> int:
    """Return the size in bytes of the work for a response: that of the request or of the outputs."""
    return max(call.size, sum(array.nbytes for array in outputs.values()))


def _copy_spec(spec: Message) -> Any:
    """Copy a ModelSpec, because a part of a message keeps all of it in memory."""
    copy = model_pb2.ModelSpec()
    copy.CopyFrom(spec)
    return copy


def _fill_result(
    result: Any, model_spec: Any, spec: Any, servable: Servable, method: str, outputs: Outputs, rows: int
) -> None:
    """Fill a classification or regression result and the ModelSpec of the response."""
    result.SetInParent()
    if method == CLASSIFY:
        for row in examples.get_classes(outputs, rows):
            classes = result.classifications.add().classes
            for class_label, score in row:
                classes.add(label=class_label, score=score)
    else:
        for value in examples.get_values(outputs, rows):
            result.regressions.add(value=value)
    _fill(model_spec, spec, servable.version)


def _check_tasks(tasks: Sequence[Any]) -> None:
    if not tasks:
        raise ServingError("INVALID_ARGUMENT", "Inference request with no tasks")
    if len({task.model_spec.name for task in tasks}) > 1:
        raise ServingError(
            "INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same model name."
        )
    evaluated: set[str] = set()
    for task in tasks:
        name = task.model_spec.signature_name
        if name in evaluated:
            raise ServingError("INVALID_ARGUMENT", f"Duplicate evaluation of signature: {name}")
        evaluated.add(name)
    for task in tasks:
        if task.method_name not in METHODS:
            raise ServingError("UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}")


def _fill(model_spec: Any, spec: Any, version: int) -> None:
    model_spec.name, model_spec.signature_name = spec.name, spec.signature_name or "serving_default"
    model_spec.version.value = version
