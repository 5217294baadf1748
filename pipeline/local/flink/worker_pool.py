"""Python for Beam's stages on Flink: ``python -m pipeline.local.flink.worker_pool``, beside each of Flink's task managers.

A task manager asks it for a worker a job. TFX is imported before the first, since it puts a stand-in where TFDV's functions
need one; workers are threads of this process, so that this is paid once and not by every job.
"""

import argparse
import signal
import sys
import threading
from concurrent import futures

HOST = "127.0.0.1"
PORT = 50000
CALLS = 16  # that start or stop a worker at the same time; a worker itself is a thread of its own


def parser() -> argparse.ArgumentParser:
    """The program's words."""
    words = argparse.ArgumentParser(
        prog="python -m pipeline.local.flink.worker_pool", description=__doc__.partition("\n")[0]
    )
    words.add_argument("--host", default=HOST, help="address to listen on: who reaches it can run code here")
    words.add_argument("--port", type=int, default=PORT, help="port to listen on")
    return words


def main(words: list[str]) -> int:
    """Answers until it is told to end."""
    told = parser().parse_args(words)
    import grpc

    # Alone on its port: by default gRPC would share it with the pool of another run.
    server = grpc.server(futures.ThreadPoolExecutor(CALLS), options=[("grpc.so_reuseport", 0)])
    try:
        server.add_insecure_port(f"{told.host}:{told.port}")
    except RuntimeError:
        print(f"error: {told.host}:{told.port} cannot be listened on; --port takes another.", file=sys.stderr)
        return 2
    import tfx  # noqa: F401
    from apache_beam.portability.api import beam_fn_api_pb2_grpc
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

    stopped = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: stopped.set())
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(BeamFnExternalWorkerPoolServicer(), server)
    server.start()
    print(f"workers start at {told.host}:{told.port}", flush=True)
    stopped.wait()
    server.stop(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
