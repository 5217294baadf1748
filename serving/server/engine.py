"""The engine: which versions of which models are loaded, and a call to any of them. One a process.

Question: B19
Answer: Measure first. Then remove overhead around the model: a prepared call in place of Session.run, functions inlined at
    load, one thread an operation, garbage collection frozen. Then share work: rows that arrive together run as one batch,
    without a timer, padded to few sizes. Then make the model cheaper: quantise it, gated by its metric; compile it with
    XLA where that gains, or TensorRT, which TensorFlow's wheels no longer hold. A profiler trace names the slowest operation.
Evidence: tour.evidence.serving.engine_speed.optimised
Proof: tests/tour/evidence/test_engine_speed.py::test_every_way_gives_the_signatures_answers_and_one_row_is_dearest_alone
"""

import asyncio
import gc
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.errors import ServingError
from serving.server.batcher import Workers
from serving.server.config import Batching, Model
from serving.server.conversion.request_rows import Rows
from serving.server.loading.manager import Manager
from serving.server.loading.servable import Servable
from serving.server.loading.versions import State
from serving.server.metrics import Metrics
from serving.server.signature import Signature


class Engine:
    """Loads versions with double buffering, drains the old, and answers.

    Every method is called in one event loop; only loading and the models' own work are elsewhere.
    """

    def __init__(
        self,
        *,
        batching: Batching | None = None,
        poll_seconds: float = 1.0,
        prefer_lite: bool = False,
        threads: int = 1,
        retries: int = 5,
        retry_seconds: float = 60.0,
        free_labels: bool = False,
        warmup: bool = True,
        metrics: Metrics | None = None,
    ) -> None:
        """Serves nothing until started.

        Args:
            batching: How requests are run together.
            poll_seconds: How often folders are looked at; 0 for at the start only, negative for never.
            prefer_lite: Whether ``model.tflite`` answers the signatures it has.
            threads: Threads inside an operation; 0 for one a core. Batches run side by side, and idle threads spin.
            retries: How often a version that did not load is tried again.
            retry_seconds: How long between.
            free_labels: Whether a label may name a version that is not loaded.
            warmup: Whether warm-up requests are run.
            metrics: Where loads and batches are counted.
        """
        self.batching = batching or Batching()
        self.metrics = metrics or Metrics()
        self.manager = Manager(self._make, self.metrics, poll_seconds, retries, retry_seconds, free_labels)
        self._prefer_lite, self._threads, self._warmup = prefer_lite, threads, warmup
        self._workers: Workers | None = None
        self._freezing = threading.Lock()

    async def start(self, models: Sequence[Model]) -> None:
        """Loads what there is, and goes on looking for more. Models that do not load have a state that says why."""
        self._workers = Workers(self.batching.threads or max(1, len(os.sched_getaffinity(0)) - 1))
        await self.manager.start(models)

    async def reload(self, models: Sequence[Model]) -> None:
        """Serves these models from now on, and waits until they are loaded.

        Raises:
            ServingError: if a label names a version that is not there; then nothing has changed.
        """
        await self.manager.reload(models)

    async def close(self) -> None:
        """Waits for what is under way, then frees everything."""
        await self.manager.close()
        if self._workers:
            await asyncio.to_thread(self._workers.stop)

    def servable(self, model: str, version: int | None = None, label: str | None = None) -> Servable:
        """The version that answers such a request.

        Raises:
            ServingError: NOT_FOUND if there is none; INVALID_ARGUMENT for a label that is not known.
        """
        return self.manager.servable(model, version, label)

    def states(self, model: str, version: int | None = None, label: str | None = None) -> list[State]:
        """State of every version that is or was there, the newest first, or of one.

        Raises:
            ServingError: NOT_FOUND, if there is none.
        """
        return self.manager.states(model, version, label)

    def knows(self, model: str) -> bool:
        """Whether a model of that name is to be served."""
        return self.manager.knows(model)

    @property
    def ready(self) -> bool:
        """Whether there is something that answers, and nothing that should and does not."""
        return self.manager.ready

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        signature: str = "serving_default",
        *,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> tuple[int, dict[str, np.ndarray]]:
        """The version that answered, and its outputs by name.

        Args:
            model: Name of the model.
            inputs: An array an input, ``[rows, ...]``; strings as ``object`` or ``S``.
            signature: Which of its signatures.
            version: A version's number; the newest by default.
            label: In place of a number.
            outputs: Which outputs; all by default.
            timeout: Seconds after which the answer is not wanted any more.

        Raises:
            ServingError: saying why there is no answer.
        """
        servable = self.servable(model, version, label)
        door = self.door(servable, signature)
        wanted = door.chosen(outputs)
        arrays = door.arrays(inputs)
        found = await self.run(servable, door, Rows(len(arrays[0]) if door.batched else 1, arrays), timeout)
        by_name = dict(zip(door.outputs, found, strict=True))
        return servable.version, {name: by_name[name] for name in wanted} if outputs else by_name

    def door(self, servable: Servable, signature: str) -> Signature:
        """A signature of a version, ``serving_default`` if the name is empty.

        Raises:
            ServingError: FAILED_PRECONDITION, if it has none of that name.
        """
        found = servable.signatures.get(signature or "serving_default")
        if found is None:
            raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.')
        return found

    async def run(self, servable: Servable, door: Signature, rows: Rows, timeout: float | None) -> list[np.ndarray]:
        """Outputs in the signature's order."""
        assert self._workers is not None, "start() makes them"
        servable.enter()
        try:
            return await servable.batcher(door, self.batching, self._workers, self.metrics).submit(rows, timeout)
        finally:
            servable.leave()

    def _make(self, name: str, version: int, path: Path) -> Servable:
        """Loads a version, in a thread."""
        with self._freezing:
            if not gc.get_freeze_count():
                import tensorflow  # noqa: F401 (what it brings stays for good)

                gc.collect()
                # A full collection over TensorFlow's objects takes longer than a hundred answers; a model has few.
                gc.freeze()
        return Servable(name, version, path, self._threads, self._prefer_lite, self.batching if self._warmup else None)
