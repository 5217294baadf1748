"""gRPC ModelService: status of the versions, and reload of the model configuration."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from serving.server import config
from serving.server.api.message_receiver import Context, Method
from serving.server.engine import Engine
from serving.server.loading.versions import STATES
from serving.status_errors import ServingError

NAME = "tensorflow.serving.ModelService"
MAX_REQUEST = 1 << 20  # bytes of a request, which is parsed in the event loop


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest, from serialized requests to serialized responses."""

    def __init__(self, engine: Engine, reload: Callable[..., Awaitable[None]]) -> None:
        self.engine, self.reload = engine, reload

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by name."""
        return {
            "GetModelStatus": _create_method(get_model_status_pb2.GetModelStatusRequest, self._get_status),
            "HandleReloadConfigRequest": _create_method(model_management_pb2.ReloadConfigRequest, self._reload_config),
        }

    async def _get_status(self, request: Any) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of every version of a model, or of one version."""
        spec = request.model_spec
        kind = spec.WhichOneof("version_choice")
        response = get_model_status_pb2.GetModelStatusResponse()
        if not spec.name:
            raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
        version = spec.version.value if kind == "version" else None
        label = spec.version_label if kind == "version_label" else None
        for state in self.engine.states(spec.name, version, label):
            added = response.model_version_status.add(version=state.version, state=STATES[state.state])
            added.status.error_code = grpc.StatusCode[state.code].value[0]
            added.status.error_message = state.message
        return response

    async def _reload_config(self, request: Any) -> model_management_pb2.ReloadConfigResponse:
        """Replace the served models.

        Raises:
            ServingError: if the config is not valid or cannot be served.
        """
        if request.config.WhichOneof("config") != "model_config_list":
            raise ServingError(
                "INVALID_ARGUMENT",
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported",
            )
        try:
            models = config.models_from_proto(request.config)
        except ValueError as error:
            raise ServingError("INVALID_ARGUMENT", str(error)) from None
        await self.reload(models)
        return model_management_pb2.ReloadConfigResponse(status={})


def _create_method(kind: type[Any], method: Callable[[Any], Awaitable[Any]]) -> Method:
    async def handle(message: bytes, context: Context) -> bytes:
        try:
            if len(message) > MAX_REQUEST:
                raise ServingError("RESOURCE_EXHAUSTED", f"The request is larger than {MAX_REQUEST} bytes")
            return (await method(kind.FromString(message))).SerializeToString()
        except DecodeError as error:
            raise ServingError("INTERNAL", f"The request is not a {kind.DESCRIPTOR.name}: {error}") from None

    return handle
