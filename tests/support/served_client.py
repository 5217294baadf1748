"""Client of the REST and gRPC interfaces of a model server."""

import json

import grpc
import httpx
import pytest
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

MAX_BODY = 1 << 20


class ModelServerClient:
    """Client of one server, for REST and gRPC."""

    def __init__(self, app) -> None:
        self.app = app
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{app.rest_port}", timeout=120)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{app.grpc_port}")
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def post(self, path: str, document: object) -> httpx.Response:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.http.post(f"/v1/models/{path}", content=content)

    def close(self) -> None:
        self.http.close()
        self.channel.close()


def expect_error(call, *arguments, **named) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=named.pop("timeout", 20), **named)
    return caught.value.code().name, caught.value.details()
