"""Run the Python worker pool for Beam stages on Flink, as a sidecar of each task manager.

``python -m pipeline.local.flink.worker_pool`` starts it.

A task manager requests one worker per job. TFX is imported before the first worker starts, because it installs a
compatibility module that TFDV needs. Workers are threads of this process, so that the import happens once and not per job.
"""

import argparse
import signal
import sys
import threading
from concurrent import futures

HOST = "127.0.0.1"
PORT = 50000
CALLS = 16  # concurrent requests to start or stop a worker; each worker runs in a separate thread


def build_parser() -> argparse.ArgumentParser:
    argument_parser = argparse.ArgumentParser(
        prog="python -m pipeline.local.flink.worker_pool", description=__doc__.partition("\n")[0]
    )
    argument_parser.add_argument(
        "--host", default=HOST, help="address to listen on; clients can run code on this machine"
    )
    argument_parser.add_argument("--port", type=int, default=PORT, help="port to listen on")
    return argument_parser


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    options = build_parser().parse_args(arguments)
    import grpc

    # Exclusive use of the port: by default gRPC would share it with the pool of another run.
    server = grpc.server(futures.ThreadPoolExecutor(CALLS), options=[("grpc.so_reuseport", 0)])
    try:
        server.add_insecure_port(f"{options.host}:{options.port}")
    except RuntimeError:
        print(f"error: cannot listen on {options.host}:{options.port}; choose another --port.", file=sys.stderr)
        return 2
    import tfx  # noqa: F401
    from apache_beam.portability.api import beam_fn_api_pb2_grpc
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

    stopped = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stopped.set())
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(BeamFnExternalWorkerPoolServicer(), server)
    server.start()
    print(f"workers start at {options.host}:{options.port}", flush=True)
    stopped.wait()
    server.stop(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
