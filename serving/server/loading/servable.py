"""A loaded version of a model: its signatures, a batcher for each, and the number of running requests."""

import asyncio
from pathlib import Path
from typing import Any

from serving.server.batcher import Batcher, WorkerPool
from serving.server.config import BatchingParameters
from serving.server.loading import litert_signatures
from serving.server.loading import warmup as warming
from serving.server.loading.saved_model_session import SavedModelSession
from serving.server.metrics import ServerMetrics
from serving.server.signature import Signature


class Servable:
    """A loaded version of a model.

    Attributes:
        name: Name of the model.
        version: Version number.
        signatures: Signatures by name.
        meta: The MetaGraphDef, without its graph.
        active_requests: Number of running requests.
        warmup_requests: Number of warm-up requests that ran.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: Path,
        threads: int,
        prefer_lite: bool,
        lite_raw: bool,
        warmup: BatchingParameters | None,
    ) -> None:
        """Load the version and run its warm-up requests at all batch sizes. Takes seconds; call it in a worker thread.

        Args:
            name: Name of the model.
            version: Version number.
            path: Folder of the version.
            threads: Threads inside an operation.
            prefer_lite: Whether ``model.tflite`` runs the signatures that it contains.
            lite_raw: Whether ``model_raw.tflite`` runs the signature ``raw`` if the version's gate has passed it.
            warmup: Batching parameters for the warm-up; None skips the warm-up.

        Raises:
            ServingError: if the version cannot be loaded or a warm-up request fails.
        """
        self.name, self.version, self.path = name, version, path
        self._model = SavedModelSession(path, threads)
        self.meta: Any = self._model.meta
        self.active_requests, self._idle = 0, asyncio.Event()
        self._batchers: dict[str, Batcher] = {}
        try:
            self.signatures: dict[str, Signature] = litert_signatures.use_litert(
                path, self._model.signatures, prefer_lite, lite_raw
            )
            self.warmup_requests = warming.run_warmup(path, self.signatures, warmup) if warmup else 0
        except BaseException:
            self._model.close()
            raise

    def batcher(
        self, signature: Signature, batching: BatchingParameters, workers: WorkerPool, metrics: ServerMetrics
    ) -> Batcher:
        """Return the batcher of a signature, created on first use."""
        batcher = self._batchers.get(signature.name)
        if batcher is None:
            batcher = self._batchers[signature.name] = Batcher(
                signature, batching, workers, lambda rows: metrics.batch(self.name, rows)
            )
        return batcher

    def enter(self) -> None:
        """Count a request that starts."""
        self.active_requests += 1

    def leave(self) -> None:
        """Count a request that has ended."""
        self.active_requests -= 1
        if not self.active_requests:
            self._idle.set()

    async def wait_until_idle(self) -> None:
        """Wait until no request is running. The caller must route no new requests to this version."""
        while self.active_requests:
            self._idle.clear()
            await self._idle.wait()

    def close(self) -> None:
        """Free the session. Call it in a worker thread."""
        self.signatures, self._batchers = {}, {}
        self._model.close()
