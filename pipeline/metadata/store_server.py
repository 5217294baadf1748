"""Serve ML Metadata over gRPC, so that pods share one store without sharing a SQLite file.

``python -m pipeline.metadata.store_server`` starts it.

It implements the gRPC interface of ``ml_metadata_store_server``, of which the package registries have no build, with the
same C++ code from the wheel, and gRPC health checks. Calls run one at a time, because SQLite allows no more.
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

from pipeline.metadata.store_address import SQLITE_FILE, MetadataAddress

SERVICE = protos.DESCRIPTOR.services_by_name["MetadataStoreService"]
MOST_BYTES = 64 << 20
GRACE = 10.0  # seconds for calls in progress at shutdown
CODES = {code.value[0]: code for code in grpc.StatusCode}


class MetadataService(grpc.GenericRpcHandler):
    """gRPC handler that passes each call's bytes to the C++ store and returns its response."""

    def __init__(self, address: MetadataAddress) -> None:
        self._lock = threading.Lock()
        migration_options = mlmd.MigrationOptions().SerializeToString()
        try:
            self._store = extension.CreateMetadataStore(address.connection().SerializeToString(), migration_options)
        except RuntimeError as error:
            raise address.unavailable(error) from error

    def service(self, handler_call_details: Any) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Return the handler of a method; None for a path of another service."""
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
    """Start a server; return it and its port.

    Args:
        port: 0 for any free port.

    Raises:
        OSError: if the port is in use.
        MetadataUnavailableError: if the database cannot be opened.
    """
    options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers((MetadataService(address),))
    health_service = health.HealthServicer()
    health_service.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise OSError(
            f"Cannot listen on {host}:{port}: another process may use the port; choose another --port."
        ) from None
    server.start()
    return server, bound


def build_parser() -> argparse.ArgumentParser:
    argument_parser = argparse.ArgumentParser(
        prog="python -m pipeline.metadata.store_server", description=__doc__.partition("\n")[0]
    )
    argument_parser.add_argument("--home", type=Path, default=Path("runs"), help=f"folder with {SQLITE_FILE}")
    argument_parser.add_argument(
        "--database", default="", help="mysql://USER@HOST:PORT/DATABASE to use in place of SQLite"
    )
    argument_parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    argument_parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0 for any free port")
    return argument_parser


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    options = build_parser().parse_args(arguments)
    if options.database.startswith("grpc://"):
        build_parser().error("--database takes a MySQL address; a grpc:// address is already a metadata server")
    stopped = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stopped.set())
    address = MetadataAddress(options.database or options.home / SQLITE_FILE)
    try:
        server, port = serve(address, options.port, options.host)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"metadata at grpc://{options.host}:{port}", flush=True)
    stopped.wait()
    server.stop(GRACE).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
