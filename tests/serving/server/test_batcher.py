"""The batcher: results equal to unbatched calls, event loop or thread, errors, deadlines and a full queue."""

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.batcher import INLINE_SECONDS, Batcher, WorkerPool
from serving.server.config import BatchingParameters
from serving.server.conversion.request_rows import Rows
from serving.server.signature import PREDICT, Signature, TensorSpec
from serving.status_errors import ServingError

FLOAT = TensorSpec("x:0", np.dtype(np.float32), 1, (None, 2))


def create_signature(call) -> Signature:
    return Signature("s", PREDICT, {"x": FLOAT}, {"y": TensorSpec("y:0", np.dtype(np.float32), 1, (None,))}, call)


def run(call, batching: BatchingParameters, work, observe=lambda rows: None):
    """Run ``work`` with a batcher in its own event loop."""

    async def main():
        workers = WorkerPool(batching.threads or 1)
        try:
            return await work(Batcher(create_signature(call), batching, workers, observe))
        finally:
            workers.stop()

    return asyncio.run(main())


def sum_rows(arrays):
    return [arrays[0].sum(1)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30), st.integers(1, 16))
def test_each_request_gets_its_own_rows_and_batches_have_few_sizes(sizes, max_batch_size):
    batch_sizes = []

    def call(arrays):
        batch_sizes.append(len(arrays[0]))
        return sum_rows(arrays)

    values = [np.random.default_rng(n).normal(size=(rows, 2)).astype(np.float32) for n, (rows, _) in enumerate(sizes)]

    async def work(batcher):
        requests = [
            Rows(len(value), columns=[value.tolist()]) if as_list else Rows(len(value), [value])
            for value, (_, as_list) in zip(values, sizes, strict=True)
        ]
        return await asyncio.gather(*(batcher.submit(request, None) for request in requests))

    answers = run(call, BatchingParameters(max_batch_size=max_batch_size, max_enqueued_batches=1000), work)
    for value, (answer,) in zip(values, answers, strict=True):
        np.testing.assert_allclose(answer, value.sum(1), rtol=1e-5)
    assert all(size == max_batch_size or size > max_batch_size or size & (size - 1) == 0 for size in batch_sizes)
    assert all(size <= max(max_batch_size, 9) for size in batch_sizes)


def test_requests_that_arrive_during_a_batch_form_the_next_batch():
    batches, go = [], threading.Event()

    def call(arrays):
        go.wait(10)
        return sum_rows(arrays)

    async def work(batcher):
        first = batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None)
        await asyncio.sleep(0)
        others = [batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None) for _ in range(5)]
        go.set()
        await asyncio.gather(first, *others)

    run(call, BatchingParameters(), work, batches.append)
    assert batches == [1, 5]


@pytest.mark.parametrize(
    ("seconds", "batching", "in_event_loop"),
    [
        (0.0, BatchingParameters(), True),
        (2 * INLINE_SECONDS, BatchingParameters(), False),
        (0.0, BatchingParameters(threads=1), False),
    ],
    ids=["short", "long", "threads requested"],
)
def test_only_short_batches_run_in_the_event_loop(seconds, batching, in_event_loop):
    threads = []

    def call(arrays):
        threads.append(threading.current_thread())
        time.sleep(seconds)
        return sum_rows(arrays)

    async def work(batcher):
        for _ in range(12):
            (answer,) = await batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None)
            assert answer.tolist() == [2.0]

    run(call, batching, work)
    assert threads[0] is not threading.main_thread()  # the first batch has no measured duration
    assert (threads[-1] is threading.main_thread()) == in_event_loop


def test_batch_size_without_a_measured_duration_runs_in_a_thread():
    threads = {}

    def call(arrays):
        threads[len(arrays[0])] = threading.current_thread()
        return sum_rows(arrays)

    async def work(batcher):
        for rows in (1, 1, 64, 1):
            await batcher.submit(Rows(rows, [np.ones((rows, 2), np.float32)]), None)

    run(call, BatchingParameters(), work)
    assert threads[1] is threading.main_thread() and threads[64] is not threading.main_thread()


def test_invalid_request_does_not_fail_the_others_in_its_batch():
    def call(arrays):
        if (arrays[0] < 0).any():
            raise ServingError("INVALID_ARGUMENT", "negative")
        return sum_rows(arrays)

    async def work(batcher):
        rows = [Rows(1, [np.full((1, 2), n, np.float32)]) for n in (1, -1, 2)]
        rows += [Rows(1, columns=[[["a", "b"]]]), Rows(1, columns=[[[1, 2, 3]]]), Rows(1, columns=[[[4, 5]]])]
        return await asyncio.gather(*(batcher.submit(request, None) for request in rows), return_exceptions=True)

    results = run(call, BatchingParameters(), work)
    assert [float(results[n][0][0]) for n in (0, 2, 5)] == [2.0, 4.0, 9.0]
    assert all(isinstance(results[n], ServingError) and results[n].status == "INVALID_ARGUMENT" for n in (1, 3, 4))


def test_expired_request_frees_its_place_and_a_full_queue_refuses_requests():
    go = threading.Event()
    calls = []

    def call(arrays):
        calls.append(len(arrays[0]))
        go.wait(10)
        return sum_rows(arrays)

    async def work(batcher):
        row = np.ones((1, 2), np.float32)
        first = batcher.submit(Rows(1, [row]), None)
        await asyncio.sleep(0.01)
        late = batcher.submit(Rows(1, [row]), 0.01)
        with pytest.raises(ServingError) as caught:
            await late
        assert caught.value.status == "DEADLINE_EXCEEDED"
        last = batcher.submit(Rows(1, [row]), 10)
        with pytest.raises(ServingError) as caught:
            batcher.submit(Rows(1, [row]), None)
        assert caught.value.status == "UNAVAILABLE"
        go.set()
        await asyncio.gather(first, last)

    run(call, BatchingParameters(max_batch_size=1, max_enqueued_batches=2), work)
    assert calls == [1, 1]  # the expired request never ran


def test_cancelled_request_does_not_affect_the_others():
    async def work(batcher):
        futures = [batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None) for _ in range(3)]
        futures[1].cancel()
        return await asyncio.gather(futures[0], futures[2])

    assert [float(answer[0][0]) for answer in run(sum_rows, BatchingParameters(), work)] == [2.0, 2.0]


def test_every_request_gets_the_error_of_its_batch():
    async def work(batcher):
        requests = [Rows(1, [np.ones((1, 2), np.float32)]) for _ in range(2)]
        return await asyncio.gather(*(batcher.submit(request, None) for request in requests), return_exceptions=True)

    errors = run(lambda arrays: [np.zeros(7, np.float32)], BatchingParameters(), work)
    assert [error.status for error in errors] == ["INTERNAL", "INTERNAL"]
    errors = run(lambda arrays: 1 / 0, BatchingParameters(), work)
    assert [type(error) for error in errors] == [ZeroDivisionError, ZeroDivisionError]
