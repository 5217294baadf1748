"""ML Metadata as a server, so that pods share one store without sharing a SQLite file.

``python -m pipeline.metadata.store_server`` starts it.

It answers the gRPC interface of ``ml_metadata_store_server``, which has no build in the package registries, with the same C++
code out of the wheel; and gRPC health. One call runs at a time: SQLite bears no more.
"""

import argparse
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as extension
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as protos

from pipeline.metadata.store_address import FILE, MetadataAddress

SERVICE = protos.DESCRIPTOR.services_by_name["MetadataStoreService"]
MOST_BYTES = 64 << 20
GRACE = 10.0  # seconds for calls under way at the end
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Service(grpc.GenericRpcHandler):
    """Hands each call's bytes to the C++ store, and its answer back."""

    def __init__(self, address: MetadataAddress) -> None:
        self._lock = threading.Lock()
        told = mlmd.MigrationOptions().SerializeToString()
        try:
            self._store = extension.CreateMetadataStore(address.connection().SerializeToString(), told)
        except RuntimeError as error:
            raise address.unavailable(error) from error

    def service(self, handler_call_details: Any) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """The method of that path; None for a path of another service."""
        service, _, name = handler_call_details.method.strip("/").partition("/")
        if service != SERVICE.full_name or name not in SERVICE.methods_by_name:
            return None
        method = getattr(extension, name, None)
        return method and grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(method, request, context)
        )

    def _answer(self, method: Any, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            answer, message, code = method(self._store, request)
        if code:
            context.abort(CODES[code], message.decode())
        return answer


def serve(address: MetadataAddress, port: int, host: str = "0.0.0.0") -> tuple[grpc.Server, int]:
    """Starts a server; returns it and its port.

    Args:
        port: 0 for any free one.

    Raises:
        OSError: if the port cannot be had.
        MetadataUnavailableError: if the database cannot be opened.
    """
    options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers((Service(address),))
    living = health.HealthServicer()
    living.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(living, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise OSError(f"Port {port} of {host} cannot be had: is another server on it?") from None
    server.start()
    return server, bound


def parser() -> argparse.ArgumentParser:
    """The program's words."""
    words = argparse.ArgumentParser(
        prog="python -m pipeline.metadata.store_server", description=__doc__.partition("\n")[0]
    )
    words.add_argument("--home", type=Path, default=Path("runs"), help=f"folder with {FILE}")
    words.add_argument("--database", default="", help="mysql://USER@HOST:PORT/DATABASE in place of SQLite")
    words.add_argument("--host", default="0.0.0.0", help="address to listen on")
    words.add_argument("--port", type=int, default=8080, help="port to listen on; 0 for any free one")
    return words


def main(words: list[str]) -> int:
    """The program; runs until SIGTERM."""
    told = parser().parse_args(words)
    if told.database.startswith("grpc://"):
        parser().error("--database names a MySQL server: another metadata server needs none before it")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    address = MetadataAddress(told.database or told.home / FILE)
    try:
        server, port = serve(address, told.port, told.host)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"metadata at grpc://{told.host}:{port}", flush=True)
    stopped.wait()
    server.stop(GRACE).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
