"""The batcher against the plain call, row by row."""

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.server.batcher import SHORT, Batcher, Workers
from serving.server.config import Batching
from serving.server.conversion.request_rows import Rows
from serving.server.signature import PREDICT, Signature, Spec

FLOAT = Spec("x:0", np.dtype(np.float32), 1, (None, 2))


def signature(call) -> Signature:
    return Signature("s", PREDICT, {"x": FLOAT}, {"y": Spec("y:0", np.dtype(np.float32), 1, (None,))}, call)


def run(call, batching: Batching, work, observe=lambda rows: None):
    """``work`` with a batcher, in a loop of its own."""

    async def main():
        workers = Workers(batching.threads or 1)
        try:
            return await work(Batcher(signature(call), batching, workers, observe))
        finally:
            workers.stop()

    return asyncio.run(main())


def summed(arrays):
    return [arrays[0].sum(1)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30), st.integers(1, 16))
def test_every_request_gets_its_own_rows_and_sizes_are_few(sizes, most):
    seen = []

    def call(arrays):
        seen.append(len(arrays[0]))
        return summed(arrays)

    values = [np.random.default_rng(n).normal(size=(rows, 2)).astype(np.float32) for n, (rows, _) in enumerate(sizes)]

    async def work(batcher):
        asked = [
            Rows(len(value), columns=[value.tolist()]) if as_list else Rows(len(value), [value])
            for value, (_, as_list) in zip(values, sizes, strict=True)
        ]
        return await asyncio.gather(*(batcher.submit(one, None) for one in asked))

    found = run(call, Batching(most=most, enqueued=1000), work)
    for value, (answer,) in zip(values, found, strict=True):
        np.testing.assert_allclose(answer, value.sum(1), rtol=1e-5)
    assert all(size == most or size > most or size & (size - 1) == 0 for size in seen)
    assert all(size <= max(most, 9) for size in seen)


def test_what_arrives_while_a_batch_runs_is_the_next_batch():
    batches, go = [], threading.Event()

    def call(arrays):
        go.wait(10)
        return summed(arrays)

    async def work(batcher):
        first = batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None)
        await asyncio.sleep(0)
        others = [batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None) for _ in range(5)]
        go.set()
        await asyncio.gather(first, *others)

    run(call, Batching(), work, batches.append)
    assert batches == [1, 5]


@pytest.mark.parametrize(
    ("seconds", "batching", "inside"),
    [(0.0, Batching(), True), (2 * SHORT, Batching(), False), (0.0, Batching(threads=1), False)],
    ids=["short", "long", "threads are asked for"],
)
def test_what_is_short_runs_in_the_event_loop_and_what_is_long_does_not_hold_it_up(seconds, batching, inside):
    where = []

    def call(arrays):
        where.append(threading.current_thread())
        time.sleep(seconds)
        return summed(arrays)

    async def work(batcher):
        for _ in range(12):
            (answer,) = await batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None)
            assert answer.tolist() == [2.0]

    run(call, batching, work)
    assert where[0] is not threading.main_thread()  # nobody has timed it yet
    assert (where[-1] is threading.main_thread()) == inside


def test_a_size_that_nobody_has_timed_runs_in_a_thread():
    where = {}

    def call(arrays):
        where[len(arrays[0])] = threading.current_thread()
        return summed(arrays)

    async def work(batcher):
        for rows in (1, 1, 64, 1):
            await batcher.submit(Rows(rows, [np.ones((rows, 2), np.float32)]), None)

    run(call, Batching(), work)
    assert where[1] is threading.main_thread() and where[64] is not threading.main_thread()


def test_a_bad_request_fails_alone():
    def call(arrays):
        if (arrays[0] < 0).any():
            raise ServingError("INVALID_ARGUMENT", "negative")
        return summed(arrays)

    async def work(batcher):
        rows = [Rows(1, [np.full((1, 2), n, np.float32)]) for n in (1, -1, 2)]
        rows += [Rows(1, columns=[[["a", "b"]]]), Rows(1, columns=[[[1, 2, 3]]]), Rows(1, columns=[[[4, 5]]])]
        return await asyncio.gather(*(batcher.submit(one, None) for one in rows), return_exceptions=True)

    found = run(call, Batching(), work)
    assert [float(found[n][0][0]) for n in (0, 2, 5)] == [2.0, 4.0, 9.0]
    assert all(isinstance(found[n], ServingError) and found[n].status == "INVALID_ARGUMENT" for n in (1, 3, 4))


def test_time_that_is_over_frees_the_place_and_a_full_queue_refuses():
    go = threading.Event()
    calls = []

    def call(arrays):
        calls.append(len(arrays[0]))
        go.wait(10)
        return summed(arrays)

    async def work(batcher):
        one = np.ones((1, 2), np.float32)
        first = batcher.submit(Rows(1, [one]), None)
        await asyncio.sleep(0.01)
        late = batcher.submit(Rows(1, [one]), 0.01)
        with pytest.raises(ServingError) as caught:
            await late
        assert caught.value.status == "DEADLINE_EXCEEDED"
        last = batcher.submit(Rows(1, [one]), 10)
        with pytest.raises(ServingError) as caught:
            batcher.submit(Rows(1, [one]), None)
        assert caught.value.status == "UNAVAILABLE"
        go.set()
        await asyncio.gather(first, last)

    run(call, Batching(most=1, enqueued=2), work)
    assert calls == [1, 1]  # the late one was never run


def test_a_request_that_nobody_waits_for_harms_nobody():
    async def work(batcher):
        rows = [batcher.submit(Rows(1, [np.ones((1, 2), np.float32)]), None) for _ in range(3)]
        rows[1].cancel()
        return await asyncio.gather(rows[0], rows[2])

    assert [float(one[0][0]) for one in run(summed, Batching(), work)] == [2.0, 2.0]


def test_outputs_that_are_not_by_row_are_an_error_and_a_crash_reaches_all():
    async def work(batcher):
        rows = [Rows(1, [np.ones((1, 2), np.float32)]) for _ in range(2)]
        return await asyncio.gather(*(batcher.submit(one, None) for one in rows), return_exceptions=True)

    found = run(lambda arrays: [np.zeros(7, np.float32)], Batching(), work)
    assert [one.status for one in found] == ["INTERNAL", "INTERNAL"]
    found = run(lambda arrays: 1 / 0, Batching(), work)
    assert [type(one) for one in found] == [ZeroDivisionError, ZeroDivisionError]
