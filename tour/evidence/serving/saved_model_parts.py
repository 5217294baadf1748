"""Evidence on the exported model: parts, signatures, and owners of its variables."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2, saved_object_graph_pb2

from tour.evidence.context import Context
from tour.evidence.result_types import Graph, Node, Number, Result, Table

MOST = 80
ROWS = 64


def parts(context: Context) -> list[Result]:
    """A5: operations, variables, functions and signatures of the served model, counted in its files; norm of its weights."""
    arrays = {
        name: array
        for name, array in read_variables(context.served).values()
        if np.issubdtype(array.dtype, np.floating)
    }
    norm = float(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in arrays.values())))
    numbers = sum(array.size for array in arrays.values())
    return [
        *count_parts(context.served),
        Number(f"Norm of the {numbers:,} floating-point numbers in the variables", norm),
    ]


def variables_and_inputs(context: Context) -> list[Result]:
    """A9: the served variables, the inputs of the signatures, and the error of a placeholder in eager mode."""
    loaded = tf.saved_model.load(str(context.served))
    return [
        variables_table(context.served),
        inputs_table(loaded),
        Number("tf.compat.v1.placeholder in eager mode", create_placeholder()),
    ]


def lifetimes(context: Context) -> list[Result]:
    """A23: which object of the served model owns which variable, and a variable that is released with its owner."""
    rows = (("owner alive", True), *release_variable())
    return [
        variable_owners(context.served),
        Table("Lifetime of a tf.Variable, observed by a weak reference", ("moment", "variable exists"), rows),
    ]


def count_parts(path: Path) -> list[Result]:
    """Count the parts in the SavedModel's protocol buffer."""
    meta = _meta(path)
    nodes = [
        *meta.graph_def.node,
        *(node for function in meta.graph_def.library.function for node in function.node_def),
    ]
    kinds = Counter(node.op for node in nodes)
    # A protobuf map has no defined order.
    signatures = {name: spec for name, spec in sorted(meta.signature_def.items()) if not name.startswith("__")}
    rows = (
        ("operations", len(nodes)),
        ("kinds of operation", len(kinds)),
        ("variables", sum(node.WhichOneof("kind") == "variable" for node in meta.object_graph_def.nodes)),
        ("functions", len(meta.graph_def.library.function)),
        ("signatures", len(signatures)),
        ("sessions", 0 if tf.executing_eagerly() else 1),
    )
    signature_rows = tuple(
        (name, ", ".join(sorted(spec.inputs)), ", ".join(sorted(spec.outputs))) for name, spec in signatures.items()
    )
    return [
        Table("Parts of the served model", ("part", "count"), rows),
        Table("Signatures of the served model", ("name", "inputs", "outputs"), signature_rows),
        Table("Most frequent operations", ("operation", "count"), tuple(kinds.most_common(10))),
    ]


def variables_table(path: Path) -> Table:
    """Name, shape, dtype and norm of every variable in the object graph."""
    nodes, contents = _meta(path).object_graph_def.nodes, read_variables(path)
    rows = tuple(
        (
            node.variable.name,
            str(tuple(dimension.size for dimension in node.variable.shape.dim)),
            tf.as_dtype(node.variable.dtype).name,
            node.variable.trainable,
            _norm(contents[number][1]),
        )
        for number, node in enumerate(nodes)
        if node.WhichOneof("kind") == "variable"
    )
    return Table(
        "Variables: persistent state", ("name", "shape", "dtype", "trainable", "norm in the served model"), rows
    )


def read_variables(path: Path) -> dict[int, tuple[str, np.ndarray]]:
    """Read the variables from their checkpoint; return key and array by the variable's node number in the object graph."""
    checkpoint = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    nodes, contents = _meta(path).object_graph_def.nodes, {}
    for trail in _trails(nodes):
        key = "/".join([*(name for name, _ in trail), ".ATTRIBUTES", "VARIABLE_VALUE"])
        contents[trail[-1][1]] = key, np.asarray(checkpoint.get_tensor(key))
    return contents


def inputs_table(loaded: Any) -> Table:
    """Inputs of every signature: each is a TensorSpec, which replaces the placeholder of TensorFlow 1."""
    rows = [
        (signature, spec.name, str(spec.shape), spec.dtype.name)
        for signature, function in loaded.signatures.items()
        for spec in function.structured_input_signature[1].values()
    ]
    return Table("Inputs of the signatures: TensorSpecs", ("signature", "name", "shape", "dtype"), tuple(sorted(rows)))


def create_placeholder() -> str:
    """Create a placeholder in eager mode; return the error."""
    try:
        tf.compat.v1.placeholder(tf.float32, [None])
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    return "no error"


def variable_owners(path: Path) -> Graph:
    """Part of the object graph that leads from the root to the variables; names are attribute paths."""
    nodes, contents = _meta(path).object_graph_def.nodes, read_variables(path)
    graph_nodes: dict[str, Node] = {"model": Node("model", _describe(nodes[0]))}
    edges: set[tuple[str, str]] = set()
    for trail in _trails(nodes):
        names = [".".join(["model", *(name for name, _ in trail[: n + 1])]) for n in range(len(trail))]
        graph_nodes |= {
            name: Node(name, _describe(nodes[number])) for name, (_, number) in zip(names, trail, strict=True)
        }
        last = graph_nodes[names[-1]]
        graph_nodes[last.name] = Node(last.name, last.detail, f"norm {_norm(contents[trail[-1][1]][1]):.4g}")
        edges |= set(zip(["model", *names], names, strict=False))
    return Graph("Owners of the variables", tuple(graph_nodes.values()), tuple(sorted(edges)))


def release_variable() -> tuple[tuple[str, bool], ...]:
    """Observe a variable while the references to its owner are deleted."""
    owner = tf.Module()
    owner.variable = tf.Variable([1.0, 2.0])
    reference = weakref.ref(owner.variable)
    second = owner
    del owner
    gc.collect()
    shared = reference() is not None
    del second
    gc.collect()
    return (("one of two references deleted", shared), ("last reference deleted", reference() is not None))


def _meta(path: Path) -> meta_graph_pb2.MetaGraphDef:
    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]


def _trails(nodes: Sequence[saved_object_graph_pb2.SavedObject]) -> Iterator[list[tuple[str, int]]]:
    """Yield a shortest path from the root to every variable, as pairs of attribute name and node number."""
    queue: list[list[tuple[str, int]]] = [[]]
    visited = {0}
    while queue:
        trail = queue.pop(0)
        for child in nodes[trail[-1][1] if trail else 0].children:
            if child.node_id in visited:
                continue
            visited.add(child.node_id)
            queue.append([*trail, (child.local_name, child.node_id)])
            if nodes[child.node_id].WhichOneof("kind") == "variable":
                yield queue[-1]


def _describe(node: saved_object_graph_pb2.SavedObject) -> str:
    kind = node.WhichOneof("kind")
    if kind == "variable":
        return f"variable {node.variable.name} {tuple(dimension.size for dimension in node.variable.shape.dim)}"
    return node.user_object.identifier.strip("_") if kind == "user_object" else str(kind)


def _norm(value: np.ndarray) -> float:
    return float(np.sqrt(np.square(value.astype(np.float64)).sum())) if value.dtype.kind in "fiu" else 0.0
