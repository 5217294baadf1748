"""Who computes the scores: the engine in this process, or any TensorFlow Serving by gRPC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from serving.errors import ServingError

SIGNATURE, INPUT = "serving_default", "examples"


@dataclass(frozen=True, slots=True)
class Answered:
    """Outputs of some rows.

    Attributes:
        version: Who answered.
        outputs: By name, the first axis the rows.
    """

    version: int
    outputs: Mapping[str, np.ndarray]


class Backend(Protocol):
    """Answers serialized ``tf.Example``, the signature that every export has."""

    async def predict(self, model: str, examples: Sequence[bytes], version: int | None, timeout: float) -> Answered:
        """Outputs of the examples by that version, or by the one that the backend takes for the newest.

        Raises:
            ServingError: if there is no answer within ``timeout`` seconds, or at all.
        """

    async def close(self) -> None:
        """Gives back what it holds."""


class InProcess:
    """The engine of this process: no bytes are copied, and rows of several requests share a batch."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def predict(self, model: str, examples: Sequence[bytes], version: int | None, timeout: float) -> Answered:
        """See :class:`Backend`."""
        inputs = {INPUT: np.array(examples, object)}
        return Answered(*await self._engine.predict(model, inputs, SIGNATURE, version=version, timeout=timeout))

    async def close(self) -> None:
        """Nothing: whoever made the engine closes it."""


class Remote:
    """A TensorFlow Serving, or what speaks like one, at ``host:port``; a name of several is asked in turns."""

    def __init__(self, target: str) -> None:
        import grpc.aio
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        self._grpc, self._request = grpc, predict_pb2.PredictRequest
        self._channel = grpc.aio.insecure_channel(target, options=[("grpc.lb_policy_name", "round_robin")])
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    async def predict(self, model: str, examples: Sequence[bytes], version: int | None, timeout: float) -> Answered:
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
        outputs = {name: _array(tensor) for name, tensor in reply.outputs.items()}
        return Answered(reply.model_spec.version.value, outputs)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


STRING = 7  # DT_STRING
VALUES = {
    1: ("float_val", np.float32),
    2: ("double_val", np.float64),
    3: ("int_val", np.int32),
    9: ("int64_val", np.int64),
}


def _array(tensor: Any) -> np.ndarray:
    """A TensorProto's numbers; a server may send them as bytes or one by one."""
    if tensor.dtype not in VALUES:
        raise ServingError(
            "UNIMPLEMENTED", f"The backend answered in type {tensor.dtype}, and only numbers are known here."
        )
    field, kind = VALUES[tensor.dtype]
    shape = [one.size for one in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, kind).reshape(shape)
    values = np.array(getattr(tensor, field), kind)
    return np.full(shape, values[0]) if len(values) == 1 else values.reshape(shape)
