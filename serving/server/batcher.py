"""Dynamic batching without a timer: rows of several requests run as one call.

The next batch contains the rows that arrived during one turn of the event loop or while earlier batches ran. Under load,
batches therefore grow by themselves, and a timer never delays a single request.

A batch whose measured duration is short runs in the event loop itself. Handing it to a thread and back, and two threads
that compete for Python's lock, would cost more than the batch. Longer batches, and sizes without a measurement, run in a
worker thread.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from serving.server.config import BatchingParameters
from serving.server.conversion.json_tensors import to_array
from serving.server.conversion.request_rows import Rows
from serving.server.signature import Signature, shape_error
from serving.status_errors import ServingError

INLINE_SECONDS = 0.002  # seconds that a batch in the event loop may delay all other requests
MAX_GROWTH = 1.1  # tolerance on a batch's expected duration, so that a preempted batch does not distort the estimate


class WorkerPool:
    """Thread pool with one job queue for all signatures."""

    def __init__(self, threads: int) -> None:
        self.free = threads
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.threads = [threading.Thread(target=self._run, daemon=True, name=f"batch-{n}") for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Queue a job for the next free thread."""
        self.jobs.put(job)

    def stop(self) -> None:
        """Finish the queued jobs, then end the threads."""
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            thread.join()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()


class Batcher:
    """Batches the requests for one signature of one version."""

    def __init__(
        self, signature: Signature, batching: BatchingParameters, workers: WorkerPool, observe: Callable[[int], None]
    ) -> None:
        self.signature, self.batching, self.workers, self.observe = signature, batching, workers, observe
        self.batched = signature.batched and batching.enabled
        self.waiting: deque[Rows] = deque()
        self.running = self.rows = 0
        self.scheduled = False
        self.seconds: dict[int, float] = {}  # duration of a batch by its padded size
        self.loop = asyncio.get_running_loop()

    def submit(self, rows: Rows, timeout: float | None) -> "asyncio.Future[list[np.ndarray]]":
        """Queue a request; the future resolves to its outputs in the signature's order.

        Raises:
            ServingError: UNAVAILABLE if the queue is full.
        """
        if self.rows >= self.batching.max_batch_size * self.batching.max_enqueued_batches:
            raise ServingError("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full")
        rows.future = self.loop.create_future()
        if timeout is not None:
            rows.timer = self.loop.call_later(timeout, _expire, rows.future)
        self.waiting.append(rows)
        self.rows += rows.count
        if not self.scheduled and self.running < len(self.workers.threads):
            self.scheduled = True
            self.loop.call_soon(self._flush)
        return rows.future

    def _flush(self) -> None:
        self.scheduled = False
        while self.waiting and self.running < len(self.workers.threads):
            batch = self._take()
            if batch:
                self.running += 1
                count = sum(rows.count for rows in batch)
                self.observe(count)
                if (
                    self.seconds.get(self.batching.padded_size(count), INLINE_SECONDS) < INLINE_SECONDS
                    and not self.batching.threads
                ):
                    self._finish(self._run_timed(batch), flush=False)
                else:
                    self.workers.put(partial(self._run, batch))

    def _take(self) -> list[Rows]:
        batch: list[Rows] = []
        count = 0
        while self.waiting and (
            not batch or (self.batched and count + self.waiting[0].count <= self.batching.max_batch_size)
        ):
            rows = self.waiting.popleft()
            self.rows -= rows.count
            if not rows.future.done():  # a done future has expired or was cancelled
                batch.append(rows)
                count += rows.count
        return batch

    # The following methods run in a worker thread or in the event loop.

    def _run(self, batch: list[Rows]) -> None:
        self.loop.call_soon_threadsafe(self._finish, self._run_timed(batch))

    def _run_timed(self, batch: list[Rows]) -> list[tuple[Rows, Any]]:
        began = time.perf_counter()
        try:
            return self._run_batch(batch)
        except Exception as error:  # every waiting request gets the error, whatever it is
            return [(rows, error) for rows in batch]
        finally:
            took, size = time.perf_counter() - began, self.batching.padded_size(sum(rows.count for rows in batch))
            self.seconds[size] = min(took, MAX_GROWTH * self.seconds.get(size, took))

    def _run_batch(self, batch: list[Rows]) -> list[tuple[Rows, Any]]:
        if len(batch) == 1:
            return [(batch[0], self._run_single(batch[0]))]
        try:
            outputs = self._call(batch)
        except Exception:
            return self._run_separately(batch)  # one bad request must not fail the others
        parts: list[tuple[Rows, Any]] = []
        start = 0
        for rows in batch:
            parts.append((rows, [output[start : start + rows.count] for output in outputs]))
            start += rows.count
        return parts

    def _run_separately(self, batch: list[Rows]) -> list[tuple[Rows, Any]]:
        results: list[tuple[Rows, Any]] = []
        for rows in batch:
            try:
                results.append((rows, self._run_single(rows)))
            except Exception as error:
                results.append((rows, error))
        return results

    def _run_single(self, rows: Rows) -> list[np.ndarray]:
        return self._call([rows]) if self.batched else self.signature.call(self._to_arrays(rows))

    def _to_arrays(self, rows: Rows) -> list[np.ndarray]:
        return rows.arrays if rows.columns is None else self._convert(rows.columns)

    def _merge(self, batch: Sequence[Rows], padding: int) -> list[np.ndarray]:
        """Concatenate the requests' rows and ``padding`` copies of the last one; each input is copied once."""
        if len(batch) == 1 and not padding:
            return self._to_arrays(batch[0])
        lists = [rows.columns for rows in batch if rows.columns is not None]
        if len(lists) == len(batch):
            columns = ([value for part in parts for value in part] for parts in zip(*lists, strict=True))
            return self._convert([column + column[-1:] * padding for column in columns])
        last = max((index for index, rows in enumerate(batch) if rows.count), default=0)
        inputs = zip(*map(self._to_arrays, batch), strict=True)
        return [np.concatenate([*parts, *[parts[last][-1:]] * padding]) for parts in inputs]

    @np.errstate(over="ignore")
    def _convert(self, columns: list[list[Any]]) -> list[np.ndarray]:
        arrays = []
        for (name, spec), column in zip(self.signature.inputs.items(), columns, strict=True):
            converted = to_array(name, column, spec)
            if not (converted.shape and converted.shape[1:] == spec.row_shape) and not spec.accepts(converted.shape):
                raise shape_error(name, spec, converted.shape)
            arrays.append(converted)
        return arrays

    def _call(self, batch: Sequence[Rows]) -> list[np.ndarray]:
        """Call the model with the batch padded by copies of its last row, so that it sees few shapes."""
        count = sum(rows.count for rows in batch)
        padding = self.batching.padded_size(count) - count if count else 0
        outputs = self.signature.call(self._merge(batch, padding))
        for output in outputs:
            if output.shape[:1] != (count + padding,):
                raise ServingError(
                    "INTERNAL",
                    "Batched output tensor's 0th dimension does not equal the sum of the "
                    "0th dimension sizes of the input tensors",
                )
        return [output[:count] for output in outputs] if padding else outputs

    # The following methods run in the event loop.

    def _finish(self, results: list[tuple[Rows, Any]], flush: bool = True) -> None:
        self.running -= 1
        for rows, result in results:
            if rows.timer:
                rows.timer.cancel()
            if rows.future.done():
                continue
            if isinstance(result, Exception):
                rows.future.set_exception(result)
            else:
                rows.future.set_result(result)
        if flush:
            self._flush()


def _expire(future: asyncio.Future[list[np.ndarray]]) -> None:
    if not future.done():
        future.set_exception(ServingError("DEADLINE_EXCEEDED", "Deadline Exceeded"))
