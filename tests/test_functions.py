"""Traced functions: the same numbers as eagerly, counted traces, and what an export cannot take along."""

from pathlib import Path

import pytest
from small_step import CONTEXT, small_step

from models.catalog import CASES
from tour.evidence import functions
from tour.evidence.context import Context


@pytest.mark.parametrize("case", CASES)
def test_eager_and_graph_steps_give_the_same_weights(demo_home: Path, case: str) -> None:
    (rows, eager, graph, ratio, first, earned), apart = functions.raced(Context.of(demo_home, case), 16)
    assert rows == 16 and apart < 1e-4
    assert ratio == eager / graph > 1 and first > graph and earned > 0


def test_a_new_shape_traces_again_unless_a_signature_says_any() -> None:
    counts = [row[1:] for row in functions.traces(small_step())]
    assert counts == [(1, 1), (1, 1), (2, 1), (3, 1), (3, 1)]


def test_python_numbers_trace_each_time_and_tensors_once() -> None:
    step = small_step()
    logits = step.model(step.inputs, training=False)
    eager, numbers, tensors = functions.swept(CONTEXT, step, logits)
    assert (eager[1], numbers[1], tensors[1]) == (0, functions.SWEEP, 1)
    assert numbers[2] > tensors[2] and numbers[2] > eager[2]
    first, again = (cells[1] for cells in functions.once(step)[1:])
    assert first > again


def test_a_sweep_that_changes_the_answers_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = small_step(), []

    def answers(logits, point, settings):
        calls.append(point)
        return {"probabilities": logits + len(calls)}

    monkeypatch.setattr(step, "network", type("Network", (), {"answers": staticmethod(answers)}))
    with pytest.raises(ArithmeticError):
        functions.swept(CONTEXT, step, step.model(step.inputs, training=False))


def test_an_export_with_python_in_it_fails_in_another_process() -> None:
    with functions.exported() as process:
        operation, python = functions.answered(process)
    assert operation == "[1. 2.]"
    assert "Could not find callback" in python


def test_the_graph_of_the_answers_is_drawn() -> None:
    graph = functions._drawn(CONTEXT, small_step())
    assert {"Softmax", "RealDiv"} <= {node.detail for node in graph.nodes}
    assert ("truediv", "Softmax") in graph.edges
