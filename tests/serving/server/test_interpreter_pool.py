"""The pool of LiteRT interpreters: answers of concurrent threads and many batch sizes, and the number of interpreters."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.edge_models import Mixed, convert_to_lite, draw_mixed_rows, export_module

from serving.server.loading import interpreter_pool
from serving.server.loading.interpreter_pool import MAX_INTERPRETERS, InterpreterPool

INPUTS, OUTPUTS = ("ids", "past"), ("score", "total")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return convert_to_lite(export_module(Mixed(), tmp_path_factory.mktemp("mixed")))


def make_pool(content: bytes) -> InterpreterPool:
    return InterpreterPool(content, "dense", INPUTS, ("decision", *OUTPUTS))


def check_answers(pool: InterpreterPool, rows: int, seed: int) -> None:
    inputs, expected = draw_mixed_rows(rows, seed)
    _, score, total = pool.run([inputs[name] for name in INPUTS])
    assert np.allclose(score, expected["score"], atol=1e-5) and np.allclose(total, expected["total"], atol=1e-5)


def test_concurrent_threads_get_their_own_answers_at_every_batch_size(content: bytes) -> None:
    pool, draw = make_pool(content), random.Random(3)
    sizes = [draw.choice((1, 2, 4, 8, 64, *range(1, 40))) for _ in range(600)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda job: check_answers(pool, *job), zip(sizes, range(600), strict=True)))


def test_interpreters_are_reused_and_bounded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []
    bound = interpreter_pool.BoundInterpreter
    monkeypatch.setattr(interpreter_pool, "BoundInterpreter", lambda *words: created.append(words) or bound(*words))
    pool = make_pool(content)
    for seed in range(5):
        for rows in (1, 4, 8):
            check_answers(pool, rows, seed)
    assert len(created) == 3  # one for each batch size
    for rows in range(1, 3 * MAX_INTERPRETERS):
        check_answers(pool, rows, rows)
    assert len(created) == MAX_INTERPRETERS


def test_inputs_that_do_not_fit_leave_a_pool_that_answers(content: bytes) -> None:
    pool = make_pool(content)
    check_answers(pool, 4, 0)
    inputs, _ = draw_mixed_rows(4)
    for past in (inputs["past"][:3], inputs["past"].astype(np.float64), inputs["past"][..., :3]):
        with pytest.raises((ValueError, RuntimeError)):
            pool.run([inputs["ids"], past])
        check_answers(pool, 4, 1)


def test_a_signature_with_other_tensors_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="dense has other inputs or outputs"):
        InterpreterPool(content, "dense", ("ids",), OUTPUTS)
    with pytest.raises(ValueError):
        InterpreterPool(content, "raw", INPUTS, OUTPUTS)
    with pytest.raises(ValueError):
        InterpreterPool(b"TFL3", "dense", INPUTS, OUTPUTS)
