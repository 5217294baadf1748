"""The serving engine: loads versions of models and runs inference on them. One engine per process.

Question: B19
Answer: Measure first, then remove overhead around the model: here, a prepared call replaces Session.run, functions are
    inlined at load, and garbage collection is frozen. Next, batch rows that arrive together, without a timer, padded to
    few sizes. Then take a cheaper runtime: raw rows go to LiteRT where a gate found the SavedModel's answers. Then a
    cheaper model: quantise it, or compile it with XLA or TensorRT. Don't guess: a profiler trace names the slowest
    operation.
Evidence: tour.evidence.serving.engine_speed.serving_latency
Proof: tests/tour/evidence/test_engine_speed.py::test_every_way_gives_the_signatures_answers_and_one_row_is_dearest_alone
"""

import asyncio
import gc
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.server.batcher import WorkerPool
from serving.server.config import BatchingParameters, ModelConfig
from serving.server.conversion.request_rows import Rows
from serving.server.loading.manager import ModelManager
from serving.server.loading.servable import Servable
from serving.server.loading.versions import VersionState
from serving.server.metrics import ServerMetrics
from serving.server.signature import Signature
from serving.status_errors import ServingError


class Engine:
    """Loads new versions before it unloads old ones, drains the old ones, and runs inference.

    Call every method from one event loop. Loading and model execution run in other threads.
    """

    def __init__(
        self,
        *,
        batching: BatchingParameters | None = None,
        poll_seconds: float = 1.0,
        prefer_lite: bool = False,
        lite_raw: bool = True,
        threads: int = 1,
        retries: int = 5,
        retry_seconds: float = 60.0,
        allow_unavailable_labels: bool = False,
        warmup: bool = True,
        metrics: ServerMetrics | None = None,
    ) -> None:
        """Create an engine that serves nothing until :meth:`start`.

        Args:
            batching: Batching parameters.
            poll_seconds: Seconds between scans of the model folders; 0 scans once at the start, negative never.
            prefer_lite: Whether ``model.tflite`` runs the signatures that it contains.
            lite_raw: Whether ``model_raw.tflite`` runs the signature ``raw`` if the version's gate has passed it.
            threads: Threads inside an operation; 0 for one per core. Batches run in parallel, and idle threads spin.
            retries: How many times loading a failed version is retried.
            retry_seconds: Seconds between retries.
            allow_unavailable_labels: Whether a label may name a version that is not loaded.
            warmup: Whether warm-up requests are run.
            metrics: Counts loads and batches.
        """
        self.batching = batching or BatchingParameters()
        self.metrics = metrics or ServerMetrics()
        self.manager = ModelManager(
            load_servable=self._load_servable,
            metrics=self.metrics,
            poll_seconds=poll_seconds,
            retries=retries,
            retry_seconds=retry_seconds,
            allow_unavailable_labels=allow_unavailable_labels,
        )
        self._prefer_lite, self._lite_raw = prefer_lite, lite_raw
        self._threads, self._warmup = threads, warmup
        self._workers: WorkerPool | None = None
        self._freezing = threading.Lock()

    async def start(self, models: Sequence[ModelConfig]) -> None:
        """Load the available versions and start polling for new ones. A version that fails to load keeps its error as state."""
        self._workers = WorkerPool(self.batching.threads or max(1, len(os.sched_getaffinity(0)) - 1))
        await self.manager.start(models)

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        """Replace the served models and wait until the new ones are loaded.

        Raises:
            ServingError: if a label names a version that is not loaded; then nothing has changed.
        """
        await self.manager.reload(models)

    async def close(self) -> None:
        """Wait for running requests, then free all models and threads."""
        await self.manager.close()
        if self._workers:
            await asyncio.to_thread(self._workers.stop)

    def servable(self, model: str, version: int | None = None, label: str | None = None) -> Servable:
        """Return the loaded version for a request; the newest without ``version`` and ``label``.

        Raises:
            ServingError: NOT_FOUND if no such version is loaded; INVALID_ARGUMENT for an unknown label.
        """
        return self.manager.servable(model, version, label)

    def states(self, model: str, version: int | None = None, label: str | None = None) -> list[VersionState]:
        """States of all present and past versions, the newest first, or of the requested version only.

        Raises:
            ServingError: NOT_FOUND if there is none.
        """
        return self.manager.states(model, version, label)

    def has_model(self, model: str) -> bool:
        """Whether the configuration contains a model of that name."""
        return self.manager.has_model(model)

    @property
    def ready(self) -> bool:
        """Whether at least one model is loaded and every model that has versions has a loaded one."""
        return self.manager.ready

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = "serving_default",
        *,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> tuple[int, dict[str, np.ndarray]]:
        """Run a signature on one request; return the version that ran and its outputs by name.

        Args:
            model: Name of the model.
            inputs: One array ``[rows, ...]`` per input; strings as ``object`` or ``S``.
            signature_name: Name of the signature.
            version: Version number; the newest by default.
            label: Version label, in place of a number.
            outputs: Names of the outputs to return; all by default.
            timeout: Deadline in seconds.

        Raises:
            ServingError: with the gRPC status and the reason.
        """
        servable = self.servable(model, version, label)
        signature = self.find_signature(servable, signature_name)
        selected = signature.select_outputs(outputs)
        arrays = signature.arrays(inputs)
        results = await self.run(servable, signature, Rows(len(arrays[0]) if signature.batched else 1, arrays), timeout)
        by_name = dict(zip(signature.outputs, results, strict=True))
        return servable.version, {name: by_name[name] for name in selected} if outputs else by_name

    def find_signature(self, servable: Servable, name: str) -> Signature:
        """Return a signature of a version, ``serving_default`` if the name is empty.

        Raises:
            ServingError: FAILED_PRECONDITION if the version has no signature of that name.
        """
        definition = servable.signatures.get(name or "serving_default")
        if definition is None:
            raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return definition

    async def run(
        self, servable: Servable, signature: Signature, rows: Rows, timeout: float | None
    ) -> list[np.ndarray]:
        """Batch one request's rows with others and return its outputs in the signature's order."""
        assert self._workers is not None, "call start() first"
        servable.enter()
        try:
            return await servable.batcher(signature, self.batching, self._workers, self.metrics).submit(rows, timeout)
        finally:
            servable.leave()

    def _load_servable(self, model: str, version: int, path: Path) -> Servable:
        """Load a version. Runs in a worker thread."""
        with self._freezing:
            if not gc.get_freeze_count():
                import tensorflow  # noqa: F401 (its objects are never freed)

                gc.collect()
                # A full collection over TensorFlow's objects takes longer than a hundred requests; a model has few objects.
                gc.freeze()
        return Servable(
            name=model,
            version=version,
            path=path,
            threads=self._threads,
            prefer_lite=self._prefer_lite,
            lite_raw=self._lite_raw,
            warmup=self.batching if self._warmup else None,
        )
