"""gRPC ModelService: status of the versions, and reload of the model configuration."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from serving.server import config
from serving.server.engine import Engine
from serving.server.loading.versions import STATES
from serving.status_errors import ServingError

Context = grpc.aio.ServicerContext[Any, Any]


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """gRPC ModelService: GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, engine: Engine, reload: Callable[..., Awaitable[None]]) -> None:
        self.engine, self.reload = engine, reload

    async def GetModelStatus(self, request: Any, context: Context) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of every version of a model, or of one version."""
        spec = request.model_spec
        kind = spec.WhichOneof("version_choice")
        response = get_model_status_pb2.GetModelStatusResponse()
        try:
            if not spec.name:
                raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
            version = spec.version.value if kind == "version" else None
            label = spec.version_label if kind == "version_label" else None
            for state in self.engine.states(spec.name, version, label):
                added = response.model_version_status.add(version=state.version, state=STATES[state.state])
                added.status.error_code = grpc.StatusCode[state.code].value[0]
                added.status.error_message = state.message
        except ServingError as error:
            await context.abort(grpc.StatusCode[error.status], error.message)
        return response

    async def HandleReloadConfigRequest(
        self, request: Any, context: Context
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replace the served models; the response's status holds the error, if any."""
        response = model_management_pb2.ReloadConfigResponse()
        try:
            if request.config.WhichOneof("config") is None:
                raise ServingError("INVALID_ARGUMENT", "ModelServerConfig was not set")
            await self.reload(config.models_from_proto(request.config))
        except ServingError as error:
            response.status.error_code = grpc.StatusCode[error.status].value[0]
            response.status.error_message = error.message
        except ValueError as error:
            response.status.error_code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
            response.status.error_message = str(error)
        return response
