"""Scoring backends: the engine in this process, or any TensorFlow Serving over gRPC."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from serving.status_errors import ServingError

SIGNATURE, INPUT = "serving_default", "examples"


@dataclass(frozen=True, slots=True)
class PredictResult:
    """Model outputs for a batch of rows.

    Attributes:
        version: Model version that computed the outputs.
        outputs: Arrays by output name; the first axis is the rows.
    """

    version: int
    outputs: Mapping[str, np.ndarray]

    def find_invalid_output(self) -> str:
        """Return the name of an output with a value that is not a finite number; empty if there is none."""
        for name, values in self.outputs.items():
            if values.dtype.kind == "f" and not all(map(math.isfinite, values.ravel().tolist())):
                return name
        return ""


class Backend(Protocol):
    """Scores serialized ``tf.Example`` records with the signature that every export has."""

    async def predict(
        self, model: str, examples: Sequence[bytes], version: int | None, timeout: float
    ) -> PredictResult:
        """Score the examples with the given version, or with the backend's newest version if ``version`` is None.

        Raises:
            ServingError: if the backend fails or does not answer within ``timeout`` seconds.
        """

    async def close(self) -> None:
        """Release the backend's resources."""


class EngineBackend:
    """The engine of this process: no bytes are copied, and rows of several requests share a batch."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def predict(
        self, model: str, examples: Sequence[bytes], version: int | None, timeout: float
    ) -> PredictResult:
        """See :class:`Backend`."""
        inputs = {INPUT: np.array(examples, object)}
        return PredictResult(*await self._engine.predict(model, inputs, SIGNATURE, version=version, timeout=timeout))

    async def close(self) -> None:
        """Do nothing: the owner of the engine closes it."""


# A server that is replaced closes its connections: look its name up again at once (gRPC's default is after 30 s), connect
# again soon (by default up to 120 s later), and repeat a call that reached no server; scoring twice does no harm.
RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
CHANNEL_OPTIONS = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": RETRIES}]})),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


class GrpcBackend:
    """A TensorFlow Serving, or a compatible server, at ``host:port``.

    If the name resolves to several servers, requests are balanced round-robin.
    """

    def __init__(self, target: str) -> None:
        import grpc.aio
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        self._grpc, self._request = grpc, predict_pb2.PredictRequest
        self._channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    async def predict(
        self, model: str, examples: Sequence[bytes], version: int | None, timeout: float
    ) -> PredictResult:
        """See :class:`Backend`."""
        request = self._request()
        request.model_spec.name, request.model_spec.signature_name = model, SIGNATURE
        if version is not None:
            request.model_spec.version.value = version
        tensor = request.inputs[INPUT]
        tensor.dtype, tensor.string_val[:] = STRING, examples
        tensor.tensor_shape.dim.add(size=len(examples))
        try:
            reply = await self._stub.Predict(request, timeout=timeout)
        except self._grpc.aio.AioRpcError as error:
            raise ServingError(error.code().name, error.details() or "The backend gave no reason.") from None
        outputs = {name: _to_array(tensor) for name, tensor in reply.outputs.items()}
        return PredictResult(reply.model_spec.version.value, outputs)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


STRING = 7  # DT_STRING
VALUES = {
    1: ("float_val", np.float32),
    2: ("double_val", np.float64),
    3: ("int_val", np.int32),
    9: ("int64_val", np.int64),
}


def _to_array(tensor: Any) -> np.ndarray:
    """Convert a numeric TensorProto to an array; its values may be packed bytes or a list of numbers."""
    if tensor.dtype not in VALUES:
        raise ServingError(
            "UNIMPLEMENTED", f"The backend returned a tensor of type {tensor.dtype}; only numeric types are supported."
        )
    field, dtype = VALUES[tensor.dtype]
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = np.array(getattr(tensor, field), dtype)
    return np.full(shape, values[0]) if len(values) == 1 else values.reshape(shape)
