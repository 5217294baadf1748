"""Command of the model server: ``python -m serving.server.model_server`` with the flags of ``tensorflow_model_server``."""

import logging
import os
import sys

from serving.http import asyncio_server
from serving.server import app, flags


def main() -> None:
    """Run the model server; an error in flags or files prints one sentence to standard error and exits with code 2."""
    arguments = sys.argv[1:]
    if "--help" in arguments or "--version" in arguments or not arguments:
        print(flags.format_usage() if "--version" not in arguments else "showcase model server")
        sys.exit(0 if arguments else 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.update(app.ENVIRONMENT | os.environ)
    try:
        options, warnings = flags.parse(arguments)
        for warning in warnings:
            logging.warning(warning)
        asyncio_server.run(app.run(options, announce))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def announce(running: app.ModelServer) -> None:
    """Log where the server listens, with TensorFlow Serving's messages."""
    if running.options.grpc_port is not None:
        logging.info("Running gRPC ModelServer at %s:%d ...", running.options.host, running.grpc_port)
    if running.options.rest_port is not None:
        logging.info("Exporting HTTP/REST API at:%s:%d ...", running.options.host, running.rest_port)


if __name__ == "__main__":
    main()
