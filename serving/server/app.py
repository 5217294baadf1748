"""The model server: engine, REST, gRPC, metrics and health in one process, from start to graceful shutdown."""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.http import asyncio_server, byte_budget
from serving.http.byte_budget import ByteBudget
from serving.server import config, large_requests
from serving.server.api import request_body
from serving.server.api.rest import RestHandler
from serving.server.config import BatchingParameters, ModelConfig
from serving.server.engine import Engine
from serving.server.large_requests import LargeRequests
from serving.server.metrics import ServerMetrics
from serving.status_errors import ServingError

log = logging.getLogger(__name__)
# For a process that only serves; set before TensorFlow is imported. On few rows, oneDNN's set-up costs more than it saves.
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


@dataclass(frozen=True)
class ServerOptions:
    """Settings of a model server.

    Attributes:
        models: Models to serve; ``config_file`` replaces them if it is given.
        host: Address to listen on.
        grpc_port: Port of gRPC; 0 for any free port, None for no gRPC.
        rest_port: Port of REST; 0 for any free port, None for no REST.
        config_file: Model config file.
        config_poll: Seconds between reads of ``config_file``; 0 reads it once.
        batching: Batching parameters.
        poll: Seconds between scans of the model folders.
        prefer_lite: Whether LiteRT runs the signatures that ``model.tflite`` contains.
        lite_raw: Whether LiteRT runs the signature ``raw`` of versions whose gate has passed ``model_raw.tflite``.
        threads: Threads inside an operation; 0 for one per core.
        retries: How many times loading a failed version is retried.
        retry_seconds: Seconds between retries.
        allow_unavailable_labels: Whether labels may name versions that are not loaded.
        warmup: Whether warm-up requests are run.
        metrics_path: URL path of the Prometheus metrics; None serves no metrics.
        health: Whether the gRPC health service runs.
        packed: Whether responses hold tensors as ``tensor_content``.
        rest_timeout: Deadline of a REST request, in seconds.
        max_body: Largest request, in bytes, also once it is decompressed.
        max_inflight: Largest sum of the bytes of large requests that are under way; more are refused as UNAVAILABLE.
        max_values: Largest number of values of a request, in JSON or in the lists of a message.
        grpc_options: gRPC channel arguments.
        drain_seconds: Seconds that running requests may take during shutdown.
    """

    models: Sequence[ModelConfig] = ()
    host: str = "127.0.0.1"
    grpc_port: int | None = 8500
    rest_port: int | None = 8501
    config_file: Path | None = None
    config_poll: float = 0.0
    batching: BatchingParameters = field(default_factory=BatchingParameters)
    poll: float = 1.0
    prefer_lite: bool = False
    lite_raw: bool = True
    threads: int = 1
    retries: int = 5
    retry_seconds: float = 60.0
    allow_unavailable_labels: bool = False
    warmup: bool = True
    metrics_path: str | None = config.METRICS_PATH
    health: bool = True
    packed: bool = False
    rest_timeout: float = 30.0
    max_body: int = asyncio_server.MAX_BODY
    max_inflight: int = byte_budget.MAX_INFLIGHT
    max_values: int = large_requests.MAX_VALUES
    grpc_options: tuple[tuple[str, Any], ...] = ()
    drain_seconds: float = 20.0


class ModelServer:
    """A model server in this process.

    Attributes:
        engine: Runs the models.
        rest_port: Port of REST after :meth:`start`.
        grpc_port: Port of gRPC after :meth:`start`.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options, self.metrics = options, ServerMetrics()
        self.engine = Engine(
            batching=options.batching,
            poll_seconds=options.poll,
            prefer_lite=options.prefer_lite,
            lite_raw=options.lite_raw,
            threads=options.threads,
            retries=options.retries,
            retry_seconds=options.retry_seconds,
            allow_unavailable_labels=options.allow_unavailable_labels,
            warmup=options.warmup,
            metrics=self.metrics,
        )
        self.large = LargeRequests(ByteBudget(options.max_inflight), options.max_values)
        self.rest_port = self.grpc_port = 0
        self._http: asyncio_server.Server | None = None
        self._grpc: Any = None
        self._health: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load the models, then listen: a client that can connect finds loaded models.

        Raises:
            OSError: if a port is taken.
            ValueError: if the model config file is invalid.
        """
        options = self.options
        # Read before the models are loaded, so that a change made during loading is noticed.
        content = config.read_content(options.config_file) if options.config_file else b""
        await self.engine.start(
            (config.read_models(options.config_file) or ()) if options.config_file else options.models
        )
        if options.rest_port is not None:
            await self._start_rest(options.rest_port)
        if options.grpc_port is not None:
            await self._start_grpc()
        if options.config_file and options.config_poll > 0:
            self._tasks.append(asyncio.create_task(self._poll_config(options.config_file, content)))
        if self._health:
            self._tasks.append(asyncio.create_task(self._update_health()))

    async def close(self) -> None:
        """Finish running requests, then free all models."""
        for task in self._tasks:
            task.cancel()
        drain = self.options.drain_seconds
        if self._health:
            await self._health.enter_graceful_shutdown()
        closing = [self._http.close(drain)] if self._http else []
        closing += [self._grpc.stop(drain)] if self._grpc else []
        await asyncio.gather(*closing)
        self.large.close()
        await self.engine.close()

    async def _start_rest(self, port: int) -> None:
        options = self.options
        rest = RestHandler(
            engine=self.engine,
            metrics=self.metrics,
            metrics_path=options.metrics_path,
            timeout=options.rest_timeout,
            max_body=options.max_body,
            large=self.large,
        )
        self._http = await asyncio_server.serve(
            rest,
            options.host,
            port,
            max_body=options.max_body,
            budget=self.large.budget,
            encodings=request_body.ENCODINGS,
        )
        self.rest_port = self._http.port

    async def _start_grpc(self) -> None:
        from serving.server.api import grpc_server

        if self.options.health:
            from grpc_health.v1.health import aio as health

            self._health = health.HealthServicer()
        address = self.options.host if ":" not in self.options.host else f"[{self.options.host}]"
        self._grpc, self.grpc_port = grpc_server.create_server(
            engine=self.engine,
            metrics=self.metrics,
            reload=self.engine.reload,
            address=f"{address}:{self.options.grpc_port}",
            options=self.options.grpc_options,
            max_message=self.options.max_body,
            large=self.large,
            health=self._health,
            packed=self.options.packed,
        )
        await self._grpc.start()

    async def _update_health(self) -> None:
        from grpc_health.v1 import health_pb2

        status = health_pb2.HealthCheckResponse
        while True:
            serving = status.SERVING if self.engine.ready else status.NOT_SERVING
            for name in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
                await self._health.set(name, serving)
            await asyncio.sleep(0.5)

    async def _poll_config(self, path: Path, current: bytes) -> None:
        """Apply changes of the model config file; an invalid file changes nothing.

        Args:
            path: The file.
            current: Its contents at the start of the server.
        """
        while True:
            await asyncio.sleep(self.options.config_poll)
            try:
                content = await asyncio.to_thread(config.read_content, path)
                if content != current:
                    await self._apply_config(path)
                current = content
            except (ValueError, OSError, ServingError) as error:
                log.error("model config file %s not applied: %s", path, error)

    async def _apply_config(self, path: Path) -> None:
        models = config.read_models(path)
        if models is None:
            log.info("Taking no action for empty config: %s", path)
        else:
            await self.engine.reload(models)
            log.info("reloaded the model config file %s", path)


async def run(options: ServerOptions, started: Callable[[ModelServer], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; call ``started`` when the server accepts requests."""
    app, stopped = ModelServer(options), asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopped.set)
    try:
        await app.start()
        started(app)
        await stopped.wait()
        log.info("draining")
    finally:
        await app.close()
