"""gRPC ModelService: which versions there are, and a new configuration for the running server."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from serving.errors import ServingError
from serving.server import config
from serving.server.engine import Engine
from serving.server.loading.versions import STATES

Context = grpc.aio.ServicerContext[Any, Any]


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Status and configuration."""

    def __init__(self, engine: Engine, reload: Callable[..., Awaitable[None]]) -> None:
        self.engine, self.reload = engine, reload

    async def GetModelStatus(self, request: Any, context: Context) -> get_model_status_pb2.GetModelStatusResponse:
        """State of every version, or of one."""
        spec = request.model_spec
        kind = spec.WhichOneof("version_choice")
        response = get_model_status_pb2.GetModelStatusResponse()
        try:
            if not spec.name:
                raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
            version = spec.version.value if kind == "version" else None
            label = spec.version_label if kind == "version_label" else None
            for one in self.engine.states(spec.name, version, label):
                added = response.model_version_status.add(version=one.version, state=STATES[one.state])
                added.status.error_code = grpc.StatusCode[one.code].value[0]
                added.status.error_message = one.message
        except ServingError as error:
            await context.abort(grpc.StatusCode[error.status], error.message)
        return response

    async def HandleReloadConfigRequest(
        self, request: Any, context: Context
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves other models from now on; says in the answer's status whether that went well."""
        response = model_management_pb2.ReloadConfigResponse()
        try:
            if request.config.WhichOneof("config") is None:
                raise ServingError("INVALID_ARGUMENT", "ModelServerConfig was not set")
            await self.reload(config.from_proto(request.config))
        except ServingError as error:
            response.status.error_code = grpc.StatusCode[error.status].value[0]
            response.status.error_message = error.message
        except ValueError as error:
            response.status.error_code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
            response.status.error_message = str(error)
        return response
