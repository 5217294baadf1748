"""TensorFlow Serving's gRPC interface over the engine, on the engine's own event loop."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.server.api import grpc_metadata
from serving.server.api.grpc_models import ModelService
from serving.server.conversion import examples, tensor_protos
from serving.server.conversion.request_rows import Rows
from serving.server.engine import Engine
from serving.server.metrics import ServerMetrics
from serving.server.signature import CLASSIFY, REGRESS
from serving.status_errors import ServingError

log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]
METHODS = {CLASSIFY: "classification_result", REGRESS: "regression_result"}


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """gRPC PredictionService: Predict, Classify, Regress, MultiInference and GetModelMetadata."""

    def __init__(self, engine: Engine, metrics: ServerMetrics, packed: bool) -> None:
        self.engine, self.metrics, self.packed = engine, metrics, packed

    async def Predict(self, request: predict_pb2.PredictRequest, context: Context) -> predict_pb2.PredictResponse:
        """Run a signature on named tensors."""
        return await self._handle(self._predict, "Predict", request, context)

    async def Classify(self, request: Message, context: Context) -> classification_pb2.ClassificationResponse:
        """Run a classify signature on ``tf.Example`` messages; return labels and scores."""
        return await self._handle(self._classify, "Classify", request, context)

    async def Regress(self, request: Message, context: Context) -> regression_pb2.RegressionResponse:
        """Run a regress signature on ``tf.Example`` messages; return values."""
        return await self._handle(self._regress, "Regress", request, context)

    async def MultiInference(self, request: Message, context: Context) -> inference_pb2.MultiInferenceResponse:
        """Run several signatures of one model on the same examples."""
        return await self._handle(self._multi_inference, "MultiInference", request, context)

    async def GetModelMetadata(self, request: Message, context: Context) -> Message:
        """Return the signatures of a version."""
        return await self._handle(self._metadata, "GetModelMetadata", request, context)

    async def _handle(
        self, method: Callable[..., Awaitable[Message]], api: str, request: Message, context: Context
    ) -> Message:
        started, status = time.perf_counter(), "INTERNAL"
        try:
            response = await method(request, context.time_remaining())
            status = "OK"
            return response
        except ServingError as error:
            status = error.status
            await context.abort(grpc.StatusCode[status], error.message)
        except (ValueError, TypeError) as error:
            log.exception("%s failed", api)
            await context.abort(grpc.StatusCode.INTERNAL, f"The response could not be built: {error}")
        finally:
            name = _model_name(request)
            if self.engine.has_model(name):
                self.metrics.request(name, api, "GRPC", status, time.perf_counter() - started)

    async def _predict(self, request: predict_pb2.PredictRequest, timeout: float | None) -> predict_pb2.PredictResponse:
        spec = request.model_spec
        inputs = {name: tensor_protos.from_proto(name, tensor) for name, tensor in request.inputs.items()}
        version, label = get_version_choice(spec)
        served_version, outputs = await self.engine.predict(
            spec.name,
            inputs,
            spec.signature_name,
            version=version,
            label=label,
            outputs=request.output_filter,
            timeout=timeout,
        )
        response = predict_pb2.PredictResponse()
        _fill(response.model_spec, spec, served_version)
        for name, value in outputs.items():
            tensor_protos.to_proto(response.outputs[name], value, self.packed)
        return response

    async def _classify(self, request: Any, timeout: float | None) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        await self._fill_response(
            request.model_spec, CLASSIFY, examples.serialize_examples(request.input), response, timeout
        )
        return response

    async def _regress(self, request: Any, timeout: float | None) -> regression_pb2.RegressionResponse:
        response = regression_pb2.RegressionResponse()
        await self._fill_response(
            request.model_spec, REGRESS, examples.serialize_examples(request.input), response, timeout
        )
        return response

    async def _multi_inference(self, request: Any, timeout: float | None) -> inference_pb2.MultiInferenceResponse:
        _check_tasks(request.tasks)
        serialized = examples.serialize_examples(request.input)
        response = inference_pb2.MultiInferenceResponse()
        for task in request.tasks:
            result = response.results.add()
            field = getattr(result, METHODS[task.method_name])
            field.SetInParent()
            await self._infer(task.model_spec, task.method_name, serialized, field, result.model_spec, timeout)
        return response

    async def _fill_response(
        self, spec: Any, method: str, serialized: Any, response: Any, timeout: float | None
    ) -> None:
        response.result.SetInParent()
        await self._infer(spec, method, serialized, response.result, response.model_spec, timeout)

    async def _infer(
        self, spec: Any, method: str, serialized: Any, result: Any, model_spec: Any, timeout: float | None
    ) -> None:
        """Run a signature; fill its classification or regression result and the ModelSpec of the response."""
        version, label = get_version_choice(spec)
        servable = self.engine.servable(spec.name, version, label)
        signature = self.engine.find_signature(servable, spec.signature_name)
        examples.check_signature(signature, method)
        arrays = await self.engine.run(servable, signature, Rows(len(serialized), [serialized]), timeout)
        outputs = dict(zip(signature.outputs, arrays, strict=True))
        if method == CLASSIFY:
            for row in examples.get_classes(outputs, len(serialized)):
                classes = result.classifications.add().classes
                for class_label, score in row:
                    classes.add(label=class_label, score=score)
        else:
            for value in examples.get_values(outputs, len(serialized)):
                result.regressions.add(value=value)
        _fill(model_spec, spec, servable.version)

    async def _metadata(self, request: Any, timeout: float | None) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            raise ServingError("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != grpc_metadata.FIELD:
                raise ServingError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        version, label = get_version_choice(request.model_spec)
        return grpc_metadata.build_response(self.engine.servable(request.model_spec.name, version, label))


def get_version_choice(spec: Any) -> tuple[int | None, str | None]:
    """Return version and label of a ModelSpec; at most one of them is not None."""
    kind = spec.WhichOneof("version_choice")
    return (spec.version.value, None) if kind == "version" else (None, spec.version_label if kind else None)


def create_server(
    engine: Engine,
    metrics: ServerMetrics,
    reload: Callable[..., Awaitable[None]],
    address: str,
    options: Sequence[tuple[str, Any]],
    health: Any = None,
    packed: bool = False,
) -> tuple[grpc.aio.Server, int]:
    """Create a gRPC server with both services and return it, not yet started, with its port.

    Args:
        engine: Runs the models.
        metrics: Counts requests.
        reload: Replaces the served models.
        address: Host and port to listen on; port 0 for any free one.
        options: gRPC channel arguments.
        health: Health servicer, if any.
        packed: Whether responses hold tensors as ``tensor_content``.

    Raises:
        OSError: if the address is taken.
    """
    grpc_server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *options])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(engine, metrics, packed), grpc_server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(engine, reload), grpc_server)
    if health is not None:
        from grpc_health.v1 import health_pb2_grpc

        health_pb2_grpc.add_HealthServicer_to_server(health, grpc_server)
    try:
        return grpc_server, grpc_server.add_insecure_port(address)
    except RuntimeError:
        raise OSError(f"The gRPC server cannot listen on {address}; is another server there?") from None


def _check_tasks(tasks: Sequence[Any]) -> None:
    if not tasks:
        raise ServingError("INVALID_ARGUMENT", "Inference request with no tasks")
    if len({task.model_spec.name for task in tasks}) > 1:
        raise ServingError(
            "INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same model name."
        )
    names = [task.model_spec.signature_name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise ServingError("INVALID_ARGUMENT", f"Duplicate evaluation of signature: {name}")
    for task in tasks:
        if task.method_name not in METHODS:
            raise ServingError("UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}")


def _fill(model_spec: Any, spec: Any, version: int) -> None:
    model_spec.name, model_spec.signature_name = spec.name, spec.signature_name or "serving_default"
    model_spec.version.value = version


def _model_name(request: Any) -> str:
    if hasattr(request, "tasks"):
        return request.tasks[0].model_spec.name if request.tasks else ""
    return request.model_spec.name
