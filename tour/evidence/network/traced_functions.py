"""Evidence on tf.function: cost of eager and graph execution, retracing, and Python code in an export."""

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
from tour.evidence.network.autodiff import time_interleaved
from tour.evidence.result_types import Graph, Number, Result, Table
from tour.evidence.serving import grappler
from tour.evidence.training import one_step as steps
from tour.evidence.training.one_step import TrainingStep
from tour.measure.timing import measure_seconds

SAME = 3  # number of steps before the weights are compared
SMALL = 32
SWEEP = 12
PLUMBING = ("Placeholder", "Identity", "NoOp", "StatefulPartitionedCall", "PartitionedCall")


def eager_and_graph(context: Context) -> list[Result]:
    """A3: the Trainer's step run eagerly and as a graph: the weights are the same, the times differ."""
    small, small_difference = time_eager_and_graph(context, SMALL)
    large, large_difference = time_eager_and_graph(context, context.training["batch_size"])
    columns = (
        "batch",
        "loss",
        "eager, ms",
        "graph, ms",
        "eager / graph",
        "first call of the graph, ms",
        "steps needed to pay for tracing",
    )
    return [
        Table("The Trainer's step, eagerly and as a graph", columns, (small, large)),
        Number(f"Largest difference between weights after {SAME} steps", max(small_difference, large_difference)),
    ]


def retracing(context: Context) -> list[Result]:
    """B4: the number of traces by input shape, a traced graph, and the effect of py_function on an export."""
    step = steps.load_step(context, SMALL)
    answers = (("tf.sqrt", export_and_load(tf.sqrt)), ("tf.py_function", export_and_load(sqrt_by_numpy)))
    return [
        Table(
            "Number of traces after each call",
            ("called with", "without signature", "input_signature [None, …]", "mean of the outputs"),
            count_traces(step),
        ),
        _answers_graph(context, step),
        Table(
            "An export loaded without the Python functions of this process, as in another process",
            ("square root by", "operations", "output for 1 and 4"),
            tuple((name, *row) for name, row in answers),
        ),
    ]


def tracing_mistakes(context: Context) -> list[Result]:
    """B23: a sweep over operating points with Python numbers and with tensors, and a function that is called once."""
    step = steps.load_step(context)
    logits = tf.constant(step.model(step.inputs, training=False))
    return [
        Table(
            f"Answers for {SWEEP} values of '{next(iter(context.point))}' on {len(logits)} rows",
            ("execution", "traces", "seconds", "times eager", "sum of the answers"),
            sweep_operating_points(context, step, logits),
        ),
        Table("One call of the network on a batch", ("execution", "ms"), time_single_calls(step)),
    ]


def time_eager_and_graph(
    context: Context, rows: int
) -> tuple[tuple[int, float, float, float, float, float, float], float]:
    """Run the step eagerly and as a graph, each from the served weights on the same batch, with dropout.

    Returns:
        A row and the largest difference between the weights after ``SAME`` steps. The row holds the batch size, the loss
        after these steps, milliseconds of the step eagerly and as a graph, their ratio, milliseconds of the graph's first
        call, and the number of steps after which tracing has paid off.
    """
    python, graph = steps.load_step(context, rows), steps.load_step(context, rows)
    eager, compiled = (
        partial(call, step.stream())
        for call, step in ((python.compiled().python_function, python), (graph.compiled(), graph))
    )
    first_call = 1000 * measure_seconds(compiled)
    for _ in range(SAME - 1):
        compiled()
    for _ in range(SAME):
        eager()
    pairs = zip(python.model.trainable_variables, graph.model.trainable_variables, strict=True)
    difference = max(float(np.abs(a.numpy() - b.numpy()).max()) for a, b in pairs)
    loss = float(graph.mean_loss())
    eager_time, graph_time = time_interleaved([eager, compiled])
    return (
        rows,
        loss,
        eager_time,
        graph_time,
        eager_time / graph_time,
        first_call,
        (first_call - graph_time) / (eager_time - graph_time),
    ), difference


def count_traces(step: TrainingStep) -> tuple[tuple[str, int, int, float], ...]:
    """Traces so far after each call, without and with an input signature, and the mean of the network's outputs."""
    spec = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in step.inputs.items()}
    unsigned = tf.function(lambda inputs: step.model(inputs, training=False))
    signed = tf.function(lambda inputs: step.model(inputs, training=False), input_signature=[spec])
    rows = []
    for count in (8, 8, 16, 24, 16):
        inputs = {name: value[:count] for name, value in step.inputs.items()}
        unsigned(inputs)
        mean = float(tf.reduce_mean(signed(inputs)))
        rows.append(
            (f"{count} rows", *(function.experimental_get_tracing_count() for function in (unsigned, signed)), mean)
        )
    return tuple(rows)


def export_and_load(root: Callable[[tf.Tensor], tf.Tensor]) -> tuple[str, str]:
    """Save a function and load it without this process's Python functions; return its operations and its answer."""
    with tempfile.TemporaryDirectory() as folder:
        save_function(root, folder)
        with without_python_functions():
            loaded = tf.saved_model.load(folder)
            return operation_types(loaded.f), call_loaded(loaded)


def save_function(root: Callable[[tf.Tensor], tf.Tensor], folder: str) -> None:
    """Write a SavedModel whose attribute ``f`` is the given function of a vector."""
    module = tf.Module()
    module.f = tf.function(root, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(module, folder)


def call_loaded(loaded: Any) -> str:
    """Output of a loaded ``f`` for 1 and 4, or its error."""
    try:
        return str(loaded.f(tf.constant([1.0, 4.0])).numpy())
    except tf.errors.OpError as error:
        return next(line for line in error.message.splitlines() if "Error: " in line)


def operation_types(function: Any) -> str:
    """Types of the operations in a loaded function, with the key of the Python function that an operation calls."""
    graph = function.concrete_functions[0].graph.as_graph_def()
    nodes = [*graph.node, *(node for library in graph.library.function for node in library.node_def)]
    return ", ".join(f"{node.op} {node.attr['token'].s.decode()}".strip() for node in nodes if node.op not in PLUMBING)


@contextmanager
def without_python_functions() -> Iterator[None]:
    """Replace the registry of Python functions by an empty one, as in another process; restore it on exit."""
    functions = script_ops._py_funcs._funcs
    script_ops._py_funcs._funcs = type(functions)()
    try:
        yield
    finally:
        script_ops._py_funcs._funcs = functions


def sqrt_by_numpy(x: tf.Tensor) -> tf.Tensor:
    """Square root by NumPy: the graph holds only a key, by which this process finds the Python function."""
    return tf.ensure_shape(tf.py_function(lambda tensor: np.sqrt(tensor.numpy()), [x], tf.float32), [None])


def sweep_operating_points(
    context: Context, step: TrainingStep, logits: tf.Tensor
) -> tuple[tuple[str, int, float, float, float], ...]:
    """Compute answers for several operating points: eagerly, as a function of Python numbers and as a function of tensors."""
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
    for execution, function, convert in ways:
        started = time.perf_counter()
        sums.append(
            [
                float(tf.reduce_sum(tf.cast(next(iter(function(convert(value)).values())), tf.float64)))
                for value in values
            ]
        )
        seconds = time.perf_counter() - started
        count = 0 if function is answers else function.experimental_get_tracing_count()
        rows.append((execution, count, seconds, seconds / (rows[0][2] if rows else seconds), sum(sums[-1])))
    if not np.allclose(sums[0], sums[1:], rtol=1e-4):
        raise ArithmeticError("Eager and traced answers differ by more than a relative tolerance of 1e-4.")
    return tuple(rows)


def time_single_calls(step: TrainingStep) -> tuple[tuple[str, float], ...]:
    """Milliseconds of an eager call, and of the first and the second call of a tf.function."""
    step.model(step.inputs, training=False)
    function = tf.function(lambda: step.model(step.inputs, training=False))
    return tuple(
        (execution, 1000 * measure_seconds(call))
        for execution, call in (
            ("eager", lambda: step.model(step.inputs, training=False)),
            ("tf.function, first call: tracing", function),
            ("tf.function, second call", function),
        )
    )


def _answers_graph(context: Context, step: TrainingStep) -> Graph:
    """Traced graph of the function that turns logits into answers."""
    outputs = step.model.output_shape[-1]
    function = tf.function(lambda logits: step.network.answers(logits, context.point, context.settings["training"]))
    concrete = function.get_concrete_function(tf.TensorSpec([None, outputs]))
    return grappler.draw_graph(concrete.graph.as_graph_def(), "Traced function from logits to answers")
