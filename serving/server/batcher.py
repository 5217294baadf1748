"""Runs rows of several requests as one call, without waiting for any.

What has arrived while the event loop turned, or while earlier batches ran, is the next batch: under load batches grow by
themselves, and a single request is never held back by a timer.

A batch that is known to be short runs in the event loop itself: handing it to a thread and back, and two threads taking
turns at Python's lock, cost more than it does. What takes longer, or nobody has timed yet, runs in a thread.
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

from serving.errors import ServingError
from serving.server.config import Batching
from serving.server.conversion.json_tensors import array
from serving.server.conversion.request_rows import Rows
from serving.server.signature import Signature, misshapen

SHORT = 0.002  # seconds that all other requests may be held up by a batch in the event loop
SLOWER = 1.1  # what a batch may take longer than thought; so one that was interrupted is not thought long


class Workers:
    """Threads that run what is put to them; one queue for all signatures."""

    def __init__(self, threads: int) -> None:
        self.free = threads
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.threads = [threading.Thread(target=self._run, daemon=True, name=f"batch-{n}") for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Has it run by the next free thread."""
        self.jobs.put(job)

    def stop(self) -> None:
        """Ends the threads after what has been put."""
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            thread.join()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()


class Batcher:
    """All requests of one signature of one version."""

    def __init__(
        self, signature: Signature, batching: Batching, workers: Workers, observe: Callable[[int], None]
    ) -> None:
        self.signature, self.batching, self.workers, self.observe = signature, batching, workers, observe
        self.batched = signature.batched and batching.enabled
        self.waiting: deque[Rows] = deque()
        self.running = self.rows = 0
        self.scheduled = False
        self.seconds: dict[int, float] = {}  # that a batch takes, by its size
        self.loop = asyncio.get_running_loop()

    def submit(self, rows: Rows, timeout: float | None) -> "asyncio.Future[list[np.ndarray]]":
        """The outputs in the signature's order, when they are there.

        Raises:
            ServingError: UNAVAILABLE, if too much is waiting.
        """
        if self.rows >= self.batching.most * self.batching.enqueued:
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
                if self.seconds.get(self.batching.padded(count), SHORT) < SHORT and not self.batching.threads:
                    self._finish(self._done(batch), again=False)
                else:
                    self.workers.put(partial(self._run, batch))

    def _take(self) -> list[Rows]:
        batch: list[Rows] = []
        count = 0
        while self.waiting and (not batch or (self.batched and count + self.waiting[0].count <= self.batching.most)):
            rows = self.waiting.popleft()
            self.rows -= rows.count
            if not rows.future.done():  # else its time is over, or nobody waits any more
                batch.append(rows)
                count += rows.count
        return batch

    # In a thread of the workers, or in the event loop.

    def _run(self, batch: list[Rows]) -> None:
        self.loop.call_soon_threadsafe(self._finish, self._done(batch))

    def _done(self, batch: list[Rows]) -> list[tuple[Rows, Any]]:
        began = time.perf_counter()
        try:
            return self._answers(batch)
        except Exception as error:  # whatever it is, those who wait have to hear of it
            return [(rows, error) for rows in batch]
        finally:
            took, size = time.perf_counter() - began, self.batching.padded(sum(rows.count for rows in batch))
            self.seconds[size] = min(took, SLOWER * self.seconds.get(size, took))

    def _answers(self, batch: list[Rows]) -> list[tuple[Rows, Any]]:
        if len(batch) == 1:
            return [(batch[0], self._outputs(batch[0]))]
        try:
            merged = self._merged(batch)
            outputs = self._call(merged, sum(rows.count for rows in batch))
        except Exception:
            return self._apart(batch)  # one bad request must not fail the others
        parts: list[tuple[Rows, Any]] = []
        at = 0
        for rows in batch:
            parts.append((rows, [output[at : at + rows.count] for output in outputs]))
            at += rows.count
        return parts

    def _apart(self, batch: list[Rows]) -> list[tuple[Rows, Any]]:
        done: list[tuple[Rows, Any]] = []
        for rows in batch:
            try:
                done.append((rows, self._outputs(rows)))
            except Exception as error:
                done.append((rows, error))
        return done

    def _outputs(self, rows: Rows) -> list[np.ndarray]:
        arrays = rows.arrays if rows.columns is None else self._converted(rows.columns)
        return self._call(arrays, rows.count) if self.batched else self.signature.call(arrays)

    def _merged(self, batch: Sequence[Rows]) -> list[np.ndarray]:
        lists = [rows.columns for rows in batch if rows.columns is not None]
        if len(lists) == len(batch):
            return self._converted([[v for part in parts for v in part] for parts in zip(*lists, strict=True)])
        arrays = [rows.arrays if rows.columns is None else self._converted(rows.columns) for rows in batch]
        return [np.concatenate(parts) for parts in zip(*arrays, strict=True)]

    @np.errstate(over="ignore")
    def _converted(self, columns: list[list[Any]]) -> list[np.ndarray]:
        found = []
        for (name, spec), column in zip(self.signature.inputs.items(), columns, strict=True):
            value = array(name, column, spec)
            if not (value.shape and value.shape[1:] == spec.row) and not spec.fits(value.shape):
                raise misshapen(name, spec, value.shape)
            found.append(value)
        return found

    def _call(self, arrays: list[np.ndarray], count: int) -> list[np.ndarray]:
        """Filled up with copies of the last row, so that few shapes are ever seen."""
        more = self.batching.padded(count) - count if count else 0
        if more:
            arrays = [np.concatenate([one, np.repeat(one[-1:], more, axis=0)]) for one in arrays]
        outputs = self.signature.call(arrays)
        for output in outputs:
            if output.shape[:1] != (count + more,):
                raise ServingError(
                    "INTERNAL",
                    "Batched output tensor's 0th dimension does not equal the sum of the "
                    "0th dimension sizes of the input tensors",
                )
        return [output[:count] for output in outputs] if more else outputs

    # In the event loop again.

    def _finish(self, done: list[tuple[Rows, Any]], again: bool = True) -> None:
        self.running -= 1
        for rows, result in done:
            if rows.timer:
                rows.timer.cancel()
            if rows.future.done():
                continue
            if isinstance(result, Exception):
                rows.future.set_exception(result)
            else:
                rows.future.set_result(result)
        if again:
            self._flush()


def _expire(future: asyncio.Future[list[np.ndarray]]) -> None:
    if not future.done():
        future.set_exception(ServingError("DEADLINE_EXCEEDED", "Deadline Exceeded"))
