"""The gRPC health service, with a limit on the size of its requests: they hold only the name of a service."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from serving.server.api.message_receiver import Context, MessageReceiver, catch_error
from serving.status_errors import ServingError

NAME = "grpc.health.v1.Health"
MAX_REQUEST = 4 << 10
SLOTS = 2  # requests that may take longer than a moment to arrive; those are too large, or their client is slow


def create_handlers(health: Any, receiver: MessageReceiver) -> grpc.GenericRpcHandler:
    """Return the handlers of the health service.

    Args:
        health: The health servicer.
        receiver: Receives its requests. It is not that of the models, so that a health check never waits behind their requests.
    """

    async def check(requests: Any, context: Context) -> Any:
        return await health.Check(await _read_request(receiver, context), context)

    async def watch(requests: Any, context: Context) -> None:
        await health.Watch(await _read_request(receiver, context), context)

    serialize = health_pb2.HealthCheckResponse.SerializeToString
    return grpc.method_handlers_generic_handler(
        NAME,
        {
            "Check": grpc.stream_unary_rpc_method_handler(check, response_serializer=serialize),
            "Watch": grpc.stream_stream_rpc_method_handler(watch, response_serializer=serialize),
        },
    )


async def _read_request(receiver: MessageReceiver, context: Context) -> Any:
    request, error = await catch_error(_receive_request(receiver, context))
    if error:
        await context.abort(grpc.StatusCode[error[0]], error[1])
    return request


async def _receive_request(receiver: MessageReceiver, context: Context) -> health_pb2.HealthCheckRequest:
    message = await receiver.receive(context)
    if len(message) > MAX_REQUEST:
        reason = f"A health request has {len(message)} bytes; at most {MAX_REQUEST} are read"
        raise ServingError("RESOURCE_EXHAUSTED", reason)
    try:
        return health_pb2.HealthCheckRequest.FromString(message)
    except DecodeError:
        raise ServingError("INVALID_ARGUMENT", "The request is no HealthCheckRequest message") from None
