"""Eager code and traced functions: what each costs, when Python is run again, and what does not survive an export."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import script_ops

from tour.evidence.context import Context
from tour.evidence.network.autodiff import interleaved
from tour.evidence.result_types import Graph, Number, Result, Table
from tour.evidence.serving import saved_model_parts
from tour.evidence.training import one_step as steps
from tour.evidence.training.one_step import Step

SAME = 3  # steps after which the weights are compared
SMALL = 32
SWEEP = 12
PLUMBING = ("Placeholder", "Identity", "NoOp", "StatefulPartitionedCall", "PartitionedCall")


def eager_and_graph(context: Context) -> list[Result]:
    """A3: the Trainer's step run by Python and as a graph: same weights, and what each costs."""
    small, apart = raced(context, SMALL)
    large, apart_too = raced(context, context.training["batch_size"])
    columns = (
        "batch",
        "loss",
        "eager, ms",
        "graph, ms",
        "eager / graph",
        "first call, ms",
        "steps that pay for tracing",
    )
    return [
        Table("The Trainer's step", columns, (small, large)),
        Number(f"Largest difference of a weight after {SAME} steps", max(apart, apart_too)),
    ]


def traced(context: Context) -> list[Result]:
    """B4: how often the network is traced by what it is called with, one graph, and what py_function does to an export."""
    step = steps.of(context, SMALL)
    answers = (("tf.sqrt", exported(tf.sqrt)), ("tf.py_function", exported(by_python)))
    return [
        Table(
            "Traces after each call",
            ("called with", "no signature", "input_signature [None, …]", "mean of the answers"),
            traces(step),
        ),
        _drawn(context, step),
        Table(
            "An export loaded where the registry of Python functions is empty, as it is in another process",
            ("square root by", "operations", "what it answers to 1 and 4"),
            tuple((name, *cells) for name, cells in answers),
        ),
    ]


def misused(context: Context) -> list[Result]:
    """B23: a sweep over thresholds with Python numbers and with tensors, and a function that is called once."""
    step = steps.of(context)
    logits = tf.constant(step.model(step.inputs, training=False))
    return [
        Table(
            f"The answers for {SWEEP} values of '{next(iter(context.point))}', {len(logits)} rows",
            ("how", "traces", "seconds", "times eager", "sum of the answers"),
            swept(context, step, logits),
        ),
        Table("The network on one batch, once", ("how", "ms"), once(step)),
    ]


def raced(context: Context, rows: int) -> tuple[tuple[int, float, float, float, float, float, float], float]:
    """The step by Python and as a graph, each from the served weights on the same batch, dropout included.

    Returns:
        Rows, the loss after ``SAME`` steps, milliseconds of the step eagerly and as a graph, their ratio, milliseconds of
        the graph's first call, and after how many steps that is earned; and by how much a weight differs after them.
    """
    mine, graph = steps.of(context, rows), steps.of(context, rows)
    eager, compiled = (
        partial(call, one.stream())
        for call, one in ((mine.compiled().python_function, mine), (graph.compiled(), graph))
    )
    first = timed(compiled)
    for _ in range(SAME - 1):
        compiled()
    for _ in range(SAME):
        eager()
    pairs = zip(mine.model.trainable_variables, graph.model.trainable_variables, strict=True)
    apart = max(float(np.abs(a.numpy() - b.numpy()).max()) for a, b in pairs)
    loss = float(graph.mean_loss())
    slow, quick = interleaved([eager, compiled])
    return (rows, loss, slow, quick, slow / quick, first, (first - quick) / (slow - quick)), apart


def traces(step: Step) -> tuple[tuple[str, int, int, float], ...]:
    """How often Python ran so far, call by call, without and with an input signature, and what the network answered."""
    spec = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in step.inputs.items()}
    free = tf.function(lambda inputs: step.model(inputs, training=False))
    signed = tf.function(lambda inputs: step.model(inputs, training=False), input_signature=[spec])
    rows = []
    for count in (8, 8, 16, 24, 16):
        inputs = {name: value[:count] for name, value in step.inputs.items()}
        free(inputs)
        mean = float(tf.reduce_mean(signed(inputs)))
        rows.append((f"{count} rows", *(f.experimental_get_tracing_count() for f in (free, signed)), mean))
    return tuple(rows)


def exported(root: Callable[[tf.Tensor], tf.Tensor]) -> tuple[str, str]:
    """The operations of a saved function, and what it answers once loaded without this process's Python functions."""
    with tempfile.TemporaryDirectory() as folder:
        save(root, folder)
        with forgotten():
            loaded = tf.saved_model.load(folder)
            return operations(loaded.f), answer(loaded)


def save(root: Callable[[tf.Tensor], tf.Tensor], folder: str) -> None:
    """A SavedModel whose ``f`` is that function of a vector."""
    module = tf.Module()
    module.f = tf.function(root, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(module, folder)


def answer(loaded: Any) -> str:
    """What a loaded ``f`` answers to 1 and 4, or the error."""
    try:
        return str(loaded.f(tf.constant([1.0, 4.0])).numpy())
    except tf.errors.OpError as error:
        return next(line for line in error.message.splitlines() if "Error: " in line)


def operations(function: Any) -> str:
    """The kinds of operation in a loaded function, with the key by which Python is called."""
    graph = function.concrete_functions[0].graph.as_graph_def()
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    return ", ".join(f"{one.op} {one.attr['token'].s.decode()}".strip() for one in nodes if one.op not in PLUMBING)


@contextmanager
def forgotten() -> Iterator[None]:
    """An empty registry of Python functions, such as a process has that did not make them; put back afterwards."""
    held = script_ops._py_funcs._funcs
    script_ops._py_funcs._funcs = type(held)()
    try:
        yield
    finally:
        script_ops._py_funcs._funcs = held


def by_python(x: tf.Tensor) -> tf.Tensor:
    """A square root by NumPy: what the graph holds is a key by which this process finds the Python function."""
    return tf.ensure_shape(tf.py_function(lambda one: np.sqrt(one.numpy()), [x], tf.float32), [None])


def swept(context: Context, step: Step, logits: tf.Tensor) -> tuple[tuple[str, int, float, float, float], ...]:
    """Answers for several operating points: eagerly, as a function of Python numbers, as a function of tensors."""
    name, settings = next(iter(context.point)), context.settings["training"]
    values = [float(value) for value in context.point[name] * np.linspace(0.5, 1.5, SWEEP)]

    def answers(value: Any) -> Any:
        return step.network.answers(logits, {**context.point, name: value}, settings)

    rows: list[tuple[str, int, float, float, float]] = []
    sums: list[list[float]] = []
    ways: tuple[tuple[str, Any, Callable[[float], Any]], ...] = (
        ("eager", answers, float),
        ("tf.function, Python numbers", tf.function(answers), float),
        ("tf.function, tensors", tf.function(answers), tf.constant),
    )
    for how, function, make in ways:
        started = time.perf_counter()
        sums.append(
            [float(tf.reduce_sum(tf.cast(next(iter(function(make(one)).values())), tf.float64))) for one in values]
        )
        seconds = time.perf_counter() - started
        count = 0 if function is answers else function.experimental_get_tracing_count()
        rows.append((how, count, seconds, seconds / (rows[0][2] if rows else seconds), sum(sums[-1])))
    if not np.allclose(sums[0], sums[1:], rtol=1e-4):
        raise ArithmeticError("Eager and traced answers differ.")
    return tuple(rows)


def once(step: Step) -> tuple[tuple[str, float], ...]:
    """Milliseconds of one call eagerly and of the first and a second call of a function."""
    step.model(step.inputs, training=False)
    function = tf.function(lambda: step.model(step.inputs, training=False))
    return tuple(
        (how, timed(call))
        for how, call in (
            ("eager", lambda: step.model(step.inputs, training=False)),
            ("tf.function, first call: tracing", function),
            ("tf.function, second call", function),
        )
    )


def _drawn(context: Context, step: Step) -> Graph:
    """The graph of the function that turns logits into answers, as traced."""
    outputs = step.model.output_shape[-1]
    function = tf.function(lambda logits: step.network.answers(logits, context.point, context.settings["training"]))
    concrete = function.get_concrete_function(tf.TensorSpec([None, outputs]))
    return saved_model_parts.drawn(concrete.graph.as_graph_def(), "The traced function from logits to answers")


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)
