"""Evidence on tf.function: numbers equal to eager execution, number of traces, and exports with Python code."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from support.command import ROOT
from support.proofs import EvidenceCache
from support.small_step import CONTEXT, small_step

from tour.evidence.network import traced_functions

pytestmark = pytest.mark.system


@pytest.mark.slow
def test_eager_and_graph_steps_give_the_same_weights(proofs: EvidenceCache) -> None:
    table, difference = proofs.prove("A3")
    assert 0 <= difference.value < 1e-4 and table.rows[0][0] == traced_functions.SMALL
    for rows, loss, eager, graph, ratio, first_call, steps_to_pay in table.rows:
        assert rows > 0 and loss > 0
        assert ratio == eager / graph and steps_to_pay == (first_call - graph) / (eager - graph)


def test_new_shape_retraces_without_a_signature() -> None:
    rows = traced_functions.count_traces(small_step())
    assert [row[1:3] for row in rows] == [(1, 1), (1, 1), (2, 1), (3, 1), (3, 1)]
    assert rows[0][3] == rows[1][3] != rows[2][3] == rows[4][3]


def test_python_numbers_trace_each_time_and_tensors_once() -> None:
    step = small_step()
    logits = step.model(step.inputs, training=False)
    eager, numbers, tensors = traced_functions.sweep_operating_points(CONTEXT, step, logits)
    assert (eager[1], numbers[1], tensors[1]) == (0, traced_functions.SWEEP, 1)
    assert eager[4] > 0 and numbers[4] == pytest.approx(eager[4], rel=1e-4) == tensors[4]
    assert [numbers[3], tensors[3]] == [numbers[2] / eager[2], tensors[2] / eager[2]]
    assert all(milliseconds > 0 for _, milliseconds in traced_functions.time_single_calls(step))


def test_sweep_with_different_answers_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = small_step(), []

    def answers(logits, point, settings):
        calls.append(point)
        return {"probabilities": logits + len(calls)}

    monkeypatch.setattr(step, "network", type("Network", (), {"answers": staticmethod(answers)}))
    with pytest.raises(ArithmeticError):
        traced_functions.sweep_operating_points(CONTEXT, step, step.model(step.inputs, training=False))


def test_an_export_with_python_in_it_fails_in_another_process(tmp_path: Path) -> None:
    for name, root in (("operation", tf.sqrt), ("python", traced_functions.sqrt_by_numpy)):
        traced_functions.save_function(root, str(tmp_path / name))
    code = (
        "import sys\nimport tensorflow as tf\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(tf.saved_model.load(path).f(tf.constant([1.0, 4.0])).numpy())\n"
        "    except tf.errors.OpError as error:\n"
        "        print(error.message.replace(chr(10), ' '))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "operation"), str(tmp_path / "python")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=ROOT)
    operation, python = done.stdout.splitlines()
    assert operation == "[1. 2.]"
    assert "Could not find callback" in python


def test_function_registry_is_emptied_and_restored(tmp_path: Path) -> None:
    traced_functions.save_function(traced_functions.sqrt_by_numpy, str(tmp_path))
    operations, error = traced_functions.export_and_load(traced_functions.sqrt_by_numpy)
    assert "EagerPyFunc pyfunc_" in operations and "Could not find callback" in error
    assert traced_functions.export_and_load(tf.sqrt) == ("Sqrt", "[1. 2.]")
    assert traced_functions.call_loaded(tf.saved_model.load(str(tmp_path))) == "[1. 2.]"


def test_answers_graph_has_its_operations_and_edges() -> None:
    graph = traced_functions._answers_graph(CONTEXT, small_step())
    assert {"Softmax", "RealDiv"} <= {node.detail for node in graph.nodes}
    assert ("truediv", "Softmax") in graph.edges
