"""Evidence on Grappler: the operations of a served signature before and after its graph optimisations."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training import saver

from tour.evidence.context import Context
from tour.evidence.result_types import Graph, Node, Result, Table
from tour.evidence.serving.saved_model_parts import MOST, ROWS

OPS = 20


def grappler_optimization(context: Context) -> list[Result]:
    """A24: operations and outputs of the served ``dense`` signature before and after Grappler, and the optimized graph."""
    # Keep a reference to the model: a function does not keep its variables alive (see A23).
    loaded = tf.saved_model.load(str(context.served))
    function = loaded.signatures["dense"]
    before, after = inline_functions(function), optimize_with_grappler(function)
    rows = context.rows("eval", context.network.INPUTS, ROWS)
    return [
        count_operations(before, after),
        Table(
            f"Outputs of the signature for {ROWS} rows of eval",
            ("output", "first row", "largest difference after Grappler"),
            tuple(compare_outputs(function, after, rows)),
        ),
        draw_graph(after, "Graph of the dense signature after Grappler"),
    ]


def inline_functions(function: tf.types.experimental.ConcreteFunction) -> tf.compat.v1.GraphDef:
    """Graph of the function with the functions that it calls inlined, without optimization."""
    return _grappler(function, ["function"])


def optimize_with_grappler(function: tf.types.experimental.ConcreteFunction) -> tf.compat.v1.GraphDef:
    """Graph of the function after Grappler's passes; variables are frozen, so that constant folding becomes visible."""
    from tensorflow.python.framework import convert_to_constants

    frozen = convert_to_constants.convert_variables_to_constants_v2(function, lower_control_flow=False)
    return _grappler(frozen, ["function", "pruning", "constfold", "arithmetic", "dependency", "remap", "constfold"])


def compare_outputs(
    function: tf.types.experimental.ConcreteFunction, graph: tf.compat.v1.GraphDef, rows: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, float]]:
    """For each output: its value for the first row, and the largest difference between function and optimized graph."""
    inputs_by_name = {node.name: tf.constant(rows[node.name]) for node in graph.node if node.op == "Placeholder"}
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    # Grappler keeps the names of fetched tensors.
    run = imported.prune([f"{name}:0" for name in inputs_by_name], [tensor.name for tensor in function.outputs])
    expected = function(**{name: tf.constant(value) for name, value in rows.items()})
    for name, output in zip(sorted(function.structured_outputs), run(*inputs_by_name.values()), strict=True):
        first = ", ".join(f"{value:.4g}" for value in np.ravel(expected[name][0].numpy()))
        yield name, first, float(np.abs(expected[name].numpy().astype(np.float64) - output.numpy()).max())


def count_operations(before: tf.compat.v1.GraphDef, after: tf.compat.v1.GraphDef) -> Table:
    """Number of operations by type, most frequent first; the first row is the total."""
    first, second = Counter(node.op for node in before.node), Counter(node.op for node in after.node)
    kinds = sorted(first | second, key=lambda kind: (-first[kind], kind))
    rows = [("all", first.total(), second.total()), *((kind, first[kind], second[kind]) for kind in kinds[:OPS])]
    return Table("Operations before and after Grappler", ("operation", "before", "after"), tuple(rows))


def draw_graph(graph: tf.compat.v1.GraphDef, title: str) -> Graph:
    """Convert to a graph without constants; only the ``MOST`` nodes nearest to the outputs."""
    nodes = [node for node in graph.node if node.op not in ("Const", "NoOp")][-MOST:]
    graph_nodes = tuple(Node(_short(node.name), node.op) for node in nodes)
    names = {node.name for node in graph_nodes}
    edges = [(_short(source), _short(node.name)) for node in nodes for source in node.input]
    return Graph(title, graph_nodes, tuple(edge for edge in edges if edge[0] in names))


def _grappler(function: tf.types.experimental.ConcreteFunction, passes: list[str]) -> tf.compat.v1.GraphDef:
    meta = saver.export_meta_graph(graph_def=function.graph.as_graph_def(), graph=function.graph)
    # Grappler keeps fetched nodes, and reads their names from this collection.
    meta.collection_def["train_op"].node_list.value.extend(tensor.name for tensor in function.outputs)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.extend(passes)
    return tf_optimizer.OptimizeGraph(config, meta)


def _short(name: str) -> str:
    """Name of a node without output number, control mark and prefix of the inlined call."""
    return name.lstrip("^").split(":")[0].removeprefix("StatefulPartitionedCall/")
