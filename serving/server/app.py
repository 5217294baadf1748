"""The model server: engine, REST, gRPC, metrics and health in one process, from start to drained."""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.http import asyncio_server
from serving.server import config
from serving.server.api.rest import Rest
from serving.server.config import Batching, Model
from serving.server.engine import Engine
from serving.server.metrics import Metrics

log = logging.getLogger(__name__)
# For a process that only serves, and before TensorFlow is imported: on a few rows oneDNN's set-up costs more than it saves.
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


@dataclass(frozen=True)
class Options:
    """What a server is started with.

    Attributes:
        models: What to serve; read anew from ``config_file`` if there is one.
        host: Address to listen on.
        grpc_port: 0 for any free one, None for no gRPC.
        rest_port: 0 for any free one, None for no REST.
        config_file: Model config file.
        config_poll: Seconds between looks at it; 0 for never.
        batching: How requests are run together.
        poll: Seconds between looks at the models' folders.
        prefer_lite: Whether LiteRT answers the signatures it has.
        threads: Threads inside an operation; 0 for one a core.
        retries: How often a version that did not load is tried again.
        retry_seconds: How long between.
        free_labels: Whether labels may name what is not loaded.
        warmup: Whether warm-up requests are run.
        metrics_path: Where metrics are read; None for nowhere.
        health: Whether gRPC health is answered.
        packed: Whether tensors are answered as ``tensor_content``.
        rest_timeout: Seconds for a REST request.
        max_body: Bytes of a request.
        grpc_options: Channel arguments.
        drain_seconds: How long what is under way may take at the end.
    """

    models: Sequence[Model] = ()
    host: str = "127.0.0.1"
    grpc_port: int | None = 8500
    rest_port: int | None = 8501
    config_file: Path | None = None
    config_poll: float = 0.0
    batching: Batching = field(default_factory=Batching)
    poll: float = 1.0
    prefer_lite: bool = False
    threads: int = 1
    retries: int = 5
    retry_seconds: float = 60.0
    free_labels: bool = False
    warmup: bool = True
    metrics_path: str | None = config.METRICS_PATH
    health: bool = True
    packed: bool = False
    rest_timeout: float = 30.0
    max_body: int = asyncio_server.MAX_BODY
    grpc_options: tuple[tuple[str, Any], ...] = ()
    drain_seconds: float = 20.0


class App:
    """A running server.

    Attributes:
        engine: The models.
        rest_port: The port of REST, once started.
        grpc_port: The port of gRPC, once started.
    """

    def __init__(self, options: Options) -> None:
        self.options, self.metrics = options, Metrics()
        self.engine = Engine(
            batching=options.batching,
            poll_seconds=options.poll,
            prefer_lite=options.prefer_lite,
            threads=options.threads,
            retries=options.retries,
            retry_seconds=options.retry_seconds,
            free_labels=options.free_labels,
            warmup=options.warmup,
            metrics=self.metrics,
        )
        self.rest_port = self.grpc_port = 0
        self._http: asyncio_server.Server | None = None
        self._grpc: Any = None
        self._health: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Loads the models, then listens: who reaches the server gets answers.

        Raises:
            OSError: if a port cannot be had.
            ValueError: if the model config file is not one.
        """
        options = self.options
        # Read before the models are loaded, so that a change made while they load is followed.
        first = options.config_file.read_bytes() if options.config_file else b""
        await self.engine.start(config.models(options.config_file) if options.config_file else options.models)
        if options.rest_port is not None:
            rest = Rest(self.engine, self.metrics, options.metrics_path, options.rest_timeout, options.max_body)
            self._http = await asyncio_server.serve(rest, options.host, options.rest_port, max_body=options.max_body)
            self.rest_port = self._http.port
        if options.grpc_port is not None:
            await self._start_grpc()
        if options.config_file and options.config_poll > 0:
            self._tasks.append(asyncio.create_task(self._watch(options.config_file, first)))
        if self._health:
            self._tasks.append(asyncio.create_task(self._tell_health()))

    async def close(self) -> None:
        """Answers what is under way, then lets go of everything."""
        for task in self._tasks:
            task.cancel()
        drain = self.options.drain_seconds
        if self._health:
            await self._health.enter_graceful_shutdown()
        closing = [self._http.close(drain)] if self._http else []
        closing += [self._grpc.stop(drain)] if self._grpc else []
        await asyncio.gather(*closing)
        await self.engine.close()

    async def _start_grpc(self) -> None:
        from serving.server.api import grpc_api

        if self.options.health:
            from grpc_health.v1.health import aio as health

            self._health = health.HealthServicer()
        size = [("grpc.max_receive_message_length", self.options.max_body), ("grpc.max_send_message_length", -1)]
        address = self.options.host if ":" not in self.options.host else f"[{self.options.host}]"
        self._grpc, self.grpc_port = grpc_api.server(
            self.engine,
            self.metrics,
            self.engine.reload,
            f"{address}:{self.options.grpc_port}",
            [*size, *self.options.grpc_options],
            self._health,
            self.options.packed,
        )
        await self._grpc.start()

    async def _tell_health(self) -> None:
        from grpc_health.v1 import health_pb2

        status = health_pb2.HealthCheckResponse
        while True:
            now = status.SERVING if self.engine.ready else status.NOT_SERVING
            for name in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
                await self._health.set(name, now)
            await asyncio.sleep(0.5)

    async def _watch(self, path: Path, current: bytes) -> None:
        """Reads the model config file again and again; one that is wrong changes nothing.

        Args:
            path: The file.
            current: Its contents as the server started with them.
        """
        while True:
            await asyncio.sleep(self.options.config_poll)
            try:
                new = await asyncio.to_thread(path.read_bytes)
                if new != current:
                    await self.engine.reload(config.models(path))
                    log.info("the model config file has changed and is followed")
                current = new
            except (ValueError, OSError, ServingError) as error:
                log.error("the model config file is not followed: %s", error)


async def run(options: Options, started: Callable[[App], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains; ``started`` is told once it answers."""
    app, ended = App(options), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        await app.start()
        started(app)
        await ended.wait()
        log.info("draining")
    finally:
        await app.close()
