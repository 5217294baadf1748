"""Eager code and traced functions: what each costs, when Python is run again, and what does not survive an export."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tour.evidence import savedmodel
from tour.evidence import step as steps
from tour.evidence.autodiff import interleaved
from tour.evidence.context import Context
from tour.evidence.kinds import Graph, Number, Result, Table
from tour.evidence.step import Step

SAME = 3  # steps after which the weights are compared
SMALL = 32
SWEEP = 12
LOAD = "import sys, tensorflow as tf; print(tf.saved_model.load(sys.argv[1]).f(tf.constant([1.0, 4.0])).numpy())"


def eager_and_graph(context: Context) -> list[Result]:
    """A3: the Trainer's step run by Python and as a graph: same weights, and what each costs."""
    rows = tuple(raced(context, size) for size in (SMALL, context.training["batch_size"]))
    columns = ("batch", "eager, ms", "graph, ms", "eager / graph", "first call, ms", "steps that pay for tracing")
    return [
        Table("The Trainer's step", columns, rows),
        Number(f"Largest difference of a weight after {SAME} steps", apart(context)),
    ]


def traced(context: Context) -> list[Result]:
    """B4: how often the network is traced by what it is called with, one graph, and what py_function does to an export."""
    step = steps.of(context, SMALL)
    outside, error = exported()
    return [
        Table("Traces after each call", ("called with", "no signature", "input_signature [None, …]"), traces(step)),
        _drawn(context, step),
        Table("An export loaded by another process", ("square root by", "what it answers"), (outside, error)),
    ]


def misused(context: Context) -> list[Result]:
    """B23: a sweep over thresholds with Python numbers and with tensors, and a function that is called once."""
    step = steps.of(context)
    logits = tf.constant(step.model(step.inputs, training=False))
    return [
        Table(
            f"The answers for {SWEEP} values of '{next(iter(context.point))}', {len(logits)} rows",
            ("how", "traces", "seconds", "times eager"),
            swept(context, step, logits),
        ),
        Table("The network on one batch, once", ("how", "ms"), once(step)),
    ]


def raced(context: Context, rows: int) -> tuple[int, float, float, float, float, float]:
    """Batch, milliseconds of the step eagerly and as a graph, their ratio, of the first call, and when that is earned."""
    step = steps.of(context, rows)
    compiled, stream = step.compiled(), step.stream()
    started = time.perf_counter()
    compiled(stream)
    first = 1000 * (time.perf_counter() - started)
    eager, graph = interleaved([lambda: compiled.python_function(stream), lambda: compiled(stream)])
    return rows, eager, graph, eager / graph, first, (first - graph) / (eager - graph)


def apart(context: Context) -> float:
    """The largest difference of a weight between eager and compiled steps from the same start, dropout included."""
    weights = []
    for eager in (True, False):
        step = steps.of(context)
        compiled, stream = step.compiled(), step.stream()
        for _ in range(SAME):
            (compiled.python_function if eager else compiled)(stream)
        weights.append([one.numpy() for one in step.model.trainable_variables])
    return max(float(np.abs(a - b).max()) for a, b in zip(*weights, strict=True))


def traces(step: Step) -> tuple[tuple[str, int, int], ...]:
    """How often Python ran so far, call by call, without and with an input signature."""
    spec = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in step.inputs.items()}
    free = tf.function(lambda inputs: step.model(inputs, training=False))
    signed = tf.function(lambda inputs: step.model(inputs, training=False), input_signature=[spec])
    rows = []
    for count in (8, 8, 16, 24, 16):
        inputs = {name: value[:count] for name, value in step.inputs.items()}
        free(inputs)
        signed(inputs)
        rows.append((f"{count} rows", *(f.experimental_get_tracing_count() for f in (free, signed))))
    return tuple(rows)


def exported() -> tuple[tuple[str, str], tuple[str, str]]:
    """A square root by an operation and by ``tf.py_function``, saved here and loaded in another process."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for how, root in (("tf.sqrt", tf.sqrt), ("tf.py_function", _by_python)):
            module, path = tf.Module(), str(Path(folder) / how)
            module.f = tf.function(root, input_signature=[tf.TensorSpec([None])])
            tf.saved_model.save(module, path)
            found.append((how, subprocess.Popen([sys.executable, "-c", LOAD, path], text=True, stdout=subprocess.PIPE,
                                                stderr=subprocess.PIPE)))  # fmt: skip
        return tuple((how, _told(*process.communicate())) for how, process in found)


def swept(context: Context, step: Step, logits: tf.Tensor) -> tuple[tuple[str, int, float, float], ...]:
    """Answers for several operating points: eagerly, as a function of Python numbers, as a function of tensors."""
    name, settings = next(iter(context.point)), context.settings["training"]
    values = [float(value) for value in context.point[name] * np.linspace(0.5, 1.5, SWEEP)]

    def answer(value: Any) -> Any:
        return step.network.answers(logits, {**context.point, name: value}, settings)

    rows, sums = [], []
    for how, function, make in (
        ("eager", answer, float),
        ("tf.function, Python numbers", tf.function(answer), float),
        ("tf.function, tensors", tf.function(answer), tf.constant),
    ):
        started = time.perf_counter()
        sums.append([float(tf.reduce_sum(tf.cast(next(iter(function(make(one)).values())), tf.float64)))
                     for one in values])  # fmt: skip
        seconds = time.perf_counter() - started
        count = 0 if function is answer else function.experimental_get_tracing_count()
        rows.append((how, count, seconds, seconds / (rows[0][2] if rows else seconds)))
    if not np.allclose(sums[0], sums[1:], rtol=1e-4):
        raise ArithmeticError("Eager and traced answers differ.")
    return tuple(rows)


def once(step: Step) -> tuple[tuple[str, float], ...]:
    """Milliseconds of one call eagerly and of the first and a second call of a function."""
    step.model(step.inputs, training=False)
    function = tf.function(lambda: step.model(step.inputs, training=False))
    return tuple((how, _timed(call)) for how, call in (
        ("eager", lambda: step.model(step.inputs, training=False)),
        ("tf.function, first call: tracing", function),
        ("tf.function, second call", function),
    ))  # fmt: skip


def _drawn(context: Context, step: Step) -> Graph:
    """The graph of the function that turns logits into answers, as traced."""
    outputs = step.model.output_shape[-1]
    function = tf.function(lambda logits: step.network.answers(logits, context.point, context.settings["training"]))
    concrete = function.get_concrete_function(tf.TensorSpec([None, outputs]))
    return savedmodel.drawn(concrete.graph.as_graph_def(), "The traced function from logits to answers")


def _by_python(x: tf.Tensor) -> tf.Tensor:
    """Runs NumPy in this process: the graph holds a number that only this process can look up."""
    return tf.ensure_shape(tf.py_function(lambda one: np.sqrt(one.numpy()), [x], tf.float32), [None])


def _told(out: str, errors: str) -> str:
    """What a process answered, or the error that ended it."""
    if out.strip():
        return out.strip()
    lines: Sequence[str] = [line.strip() for line in errors.splitlines() if "Error" in line or "callback" in line]
    return next((line for line in lines if "callback" in line), lines[-1] if lines else "nothing")


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)
