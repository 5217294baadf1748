"""The gRPC server: TensorFlow Serving's services, and the health service."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from serving.server.api import grpc_api, grpc_models
from serving.server.api.message_receiver import MessageReceiver
from serving.server.engine import Engine
from serving.server.large_requests import LargeRequests
from serving.server.metrics import ServerMetrics

# Without the probe, gRPC receives at most 64 KB of a message before the receiver reads it.
CHANNEL = (("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1), ("grpc.http2.bdp_probe", 0))


def create_server(
    engine: Engine,
    metrics: ServerMetrics,
    reload: Callable[..., Awaitable[None]],
    address: str,
    options: Sequence[tuple[str, Any]],
    max_message: int,
    large: LargeRequests,
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
        max_message: Largest message, in bytes.
        large: Converts large requests and responses.
        health: Health servicer, if any.
        packed: Whether responses hold tensors as ``tensor_content``.

    Raises:
        OSError: if the address is taken.
    """
    grpc_server = grpc.aio.server(options=[*CHANNEL, ("grpc.max_receive_message_length", max_message), *options])
    receiver = MessageReceiver(max(1, large.budget.limit // max_message), large.free_memory)
    prediction = grpc_api.PredictionService(engine, metrics, packed, large)
    models = grpc_models.ModelService(engine, reload)
    grpc_server.add_generic_rpc_handlers(
        (
            receiver.create_handlers(grpc_api.NAME, prediction.methods),
            receiver.create_handlers(grpc_models.NAME, models.methods),
        )
    )
    if health is not None:
        from serving.server.api import grpc_health

        checks = MessageReceiver(grpc_health.SLOTS, large.free_memory)
        grpc_server.add_generic_rpc_handlers((grpc_health.create_handlers(health, checks),))
    try:
        return grpc_server, grpc_server.add_insecure_port(address)
    except RuntimeError:
        raise OSError(
            f"The gRPC server cannot listen on {address}; choose another port (0: a free one) or address."
        ) from None
