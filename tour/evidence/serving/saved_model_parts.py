"""The exported model: its parts, its doors, who keeps its variables, and its graph before and after optimisation."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2, saved_object_graph_pb2
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training import saver

from tour.evidence.context import Context
from tour.evidence.result_types import Graph, Node, Number, Result, Table

MOST = 80
OPS = 20
ROWS = 64


def parts(context: Context) -> list[Result]:
    """A5: ops, variables, functions and signatures of the model being served, counted in its files, and what it has learnt."""
    held = {name: one for name, one in values(context.served).values() if np.issubdtype(one.dtype, np.floating)}
    norm = float(np.sqrt(sum(np.square(one, dtype=np.float64).sum() for one in held.values())))
    numbers = sum(one.size for one in held.values())
    return [*counted(context.served), Number(f"Norm of the {numbers:,} numbers that its variables hold", norm)]


def doors(context: Context) -> list[Result]:
    """A9: the served variables beside the signatures' inputs, and what a placeholder does in eager mode."""
    loaded = tf.saved_model.load(str(context.served))
    return [variables(context.served), inputs(loaded), Number("tf.compat.v1.placeholder in eager mode", placeholder())]


def lifetimes(context: Context) -> list[Result]:
    """A23: which object of the served model keeps which variable, and a variable that goes with its owner."""
    rows = (("owner alive", _yes(True)), *released())
    return [
        owners(context.served),
        Table("A tf.Variable watched by a weak reference", ("moment", "variable exists"), rows),
    ]


def optimised(context: Context) -> list[Result]:
    """A24: the graph of the served model's dense signature, and its ops before and after Grappler."""
    # The model is held here: a function keeps no variable alive, which is what A23 is about.
    loaded = tf.saved_model.load(str(context.served))
    function = loaded.signatures["dense"]
    before, after = inlined(function), grappled(function)
    rows = context.rows("eval", context.case.load("model").INPUTS, ROWS)
    return [
        histogram(before, after),
        Table(
            f"Its answers to {ROWS} rows of eval",
            ("output", "first row", "largest difference after Grappler"),
            tuple(compared(function, after, rows)),
        ),
        drawn(after, "The dense signature after Grappler"),
    ]


def counted(path: Path) -> list[Result]:
    """What the SavedModel's proto holds."""
    meta = _meta(path)
    nodes = [*meta.graph_def.node, *(node for f in meta.graph_def.library.function for node in f.node_def)]
    kinds = Counter(node.op for node in nodes)
    # A map of the proto has no order of its own.
    signatures = {name: one for name, one in sorted(meta.signature_def.items()) if not name.startswith("__")}
    rows = (
        ("operations", len(nodes)),
        ("kinds of operation", len(kinds)),
        ("variables", sum(o.WhichOneof("kind") == "variable" for o in meta.object_graph_def.nodes)),
        ("functions", len(meta.graph_def.library.function)),
        ("signatures", len(signatures)),
        ("sessions", 0 if tf.executing_eagerly() else 1),
    )
    doors_ = tuple(
        (name, ", ".join(sorted(one.inputs)), ", ".join(sorted(one.outputs))) for name, one in signatures.items()
    )
    return [
        Table("In the served model", ("part", "count"), rows),
        Table("Signatures", ("name", "tensors in", "tensors out"), doors_),
        Table("Most frequent operations", ("operation", "count"), tuple(kinds.most_common(10))),
    ]


def variables(path: Path) -> Table:
    """Name, shape, type and content of every variable in the object graph."""
    nodes, held = _meta(path).object_graph_def.nodes, values(path)
    rows = tuple(
        (
            node.variable.name,
            str(tuple(d.size for d in node.variable.shape.dim)),
            tf.as_dtype(node.variable.dtype).name,
            node.variable.trainable,
            _norm(held[number][1]),
        )
        for number, node in enumerate(nodes)
        if node.WhichOneof("kind") == "variable"
    )
    return Table("Variables: state that stays", ("name", "shape", "dtype", "trainable", "norm as served"), rows)


def values(path: Path) -> dict[int, tuple[str, np.ndarray]]:
    """What the variables hold, read from their file: key and array by number of the object that is the variable."""
    read = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    nodes, found = _meta(path).object_graph_def.nodes, {}
    for trail in _trails(nodes):
        key = "/".join([*(name for name, _ in trail), ".ATTRIBUTES", "VARIABLE_VALUE"])
        found[trail[-1][1]] = key, np.asarray(read.get_tensor(key))
    return found


def inputs(loaded: Any) -> Table:
    """The inputs of every signature: a TensorSpec each, which is all that a placeholder was."""
    rows = [
        (door, spec.name, str(spec.shape), spec.dtype.name)
        for door, function in loaded.signatures.items()
        for spec in function.structured_input_signature[1].values()
    ]
    return Table("Inputs: a TensorSpec each", ("signature", "name", "shape", "dtype"), tuple(sorted(rows)))


def placeholder() -> str:
    """What comes of asking for a placeholder now."""
    try:
        tf.compat.v1.placeholder(tf.float32, [None])
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    return "a placeholder"


def owners(path: Path) -> Graph:
    """The part of the object graph that leads from the root to variables: who holds whom, by which attribute."""
    nodes, held = _meta(path).object_graph_def.nodes, values(path)
    found: dict[str, Node] = {"model": Node("model", _what(nodes[0]))}
    edges: set[tuple[str, str]] = set()
    for trail in _trails(nodes):
        names = [".".join(["model", *(name for name, _ in trail[: n + 1])]) for n in range(len(trail))]
        found |= {name: Node(name, _what(nodes[number])) for name, (_, number) in zip(names, trail, strict=True)}
        last = found[names[-1]]
        found[last.name] = Node(last.name, last.detail, f"norm {_norm(held[trail[-1][1]][1]):.4g}")
        edges |= set(zip(["model", *names], names, strict=False))
    return Graph("Who keeps which variable", tuple(found.values()), tuple(sorted(edges)))


def released() -> tuple[tuple[str, str], ...]:
    """A variable in an owner, watched while its owner is let go."""
    owner = tf.Module()
    owner.kept = tf.Variable([1.0, 2.0])
    watched = weakref.ref(owner.kept)
    second = owner
    del owner
    gc.collect()
    shared = _yes(watched() is not None)
    del second
    gc.collect()
    return (("one of two references gone", shared), ("the last reference gone", _yes(watched() is not None)))


def inlined(function: tf.types.experimental.ConcreteFunction) -> tf.compat.v1.GraphDef:
    """The function's graph with the functions it calls inlined, and nothing optimised."""
    return _grappler(function, ["function"])


def grappled(function: tf.types.experimental.ConcreteFunction) -> tf.compat.v1.GraphDef:
    """The function's graph after Grappler's passes, variables frozen so that what they fold can be seen."""
    from tensorflow.python.framework import convert_to_constants

    frozen = convert_to_constants.convert_variables_to_constants_v2(function, lower_control_flow=False)
    return _grappler(frozen, ["function", "pruning", "constfold", "arithmetic", "dependency", "remap", "constfold"])


def compared(
    function: tf.types.experimental.ConcreteFunction, graph: tf.compat.v1.GraphDef, rows: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str, float]]:
    """By output: the answer to the first row, and the largest difference of an optimised graph's answers from it."""
    fed = {node.name: tf.constant(rows[node.name]) for node in graph.node if node.op == "Placeholder"}
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    # Grappler keeps the names of what is fetched.
    run = imported.prune([f"{name}:0" for name in fed], [tensor.name for tensor in function.outputs])
    exact = function(**{name: tf.constant(value) for name, value in rows.items()})
    for name, found in zip(sorted(function.structured_outputs), run(*fed.values()), strict=True):
        first = ", ".join(f"{value:.4g}" for value in np.ravel(exact[name][0].numpy()))
        yield name, first, float(np.abs(exact[name].numpy().astype(np.float64) - found.numpy()).max())


def histogram(before: tf.compat.v1.GraphDef, after: tf.compat.v1.GraphDef) -> Table:
    """Operations by kind, the most frequent first, with the sum in the first row."""
    first, second = Counter(n.op for n in before.node), Counter(n.op for n in after.node)
    kinds = sorted(first | second, key=lambda kind: (-first[kind], kind))
    rows = [("all", first.total(), second.total()), *((kind, first[kind], second[kind]) for kind in kinds[:OPS])]
    return Table("Operations before and after Grappler", ("operation", "before", "after"), tuple(rows))


def drawn(graph: tf.compat.v1.GraphDef, title: str) -> Graph:
    """The graph without its constants, the nodes nearest to the outputs if there are too many."""
    nodes = [node for node in graph.node if node.op not in ("Const", "NoOp")][-MOST:]
    shown = tuple(Node(_short(node.name), node.op) for node in nodes)
    names = {node.name for node in shown}
    edges = [(_short(source), _short(node.name)) for node in nodes for source in node.input]
    return Graph(title, shown, tuple(edge for edge in edges if edge[0] in names))


def _short(name: str) -> str:
    """A node's name without output number, control mark and the inlined call's name."""
    return name.lstrip("^").split(":")[0].removeprefix("StatefulPartitionedCall/")


def _meta(path: Path) -> meta_graph_pb2.MetaGraphDef:
    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]


def _grappler(function: tf.types.experimental.ConcreteFunction, passes: list[str]) -> tf.compat.v1.GraphDef:
    meta = saver.export_meta_graph(graph_def=function.graph.as_graph_def(), graph=function.graph)
    # Grappler keeps what is fetched, and takes it from this collection.
    meta.collection_def["train_op"].node_list.value.extend(tensor.name for tensor in function.outputs)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.extend(passes)
    return tf_optimizer.OptimizeGraph(config, meta)


def _trails(nodes: Sequence[saved_object_graph_pb2.SavedObject]) -> Iterator[list[tuple[str, int]]]:
    """A shortest way from the root to every variable, as attributes and indices."""
    waiting: list[list[tuple[str, int]]] = [[]]
    seen = {0}
    while waiting:
        trail = waiting.pop(0)
        for child in nodes[trail[-1][1] if trail else 0].children:
            if child.node_id in seen:
                continue
            seen.add(child.node_id)
            waiting.append([*trail, (child.local_name, child.node_id)])
            if nodes[child.node_id].WhichOneof("kind") == "variable":
                yield waiting[-1]


def _what(node: saved_object_graph_pb2.SavedObject) -> str:
    kind = node.WhichOneof("kind")
    if kind == "variable":
        return f"variable {node.variable.name} {tuple(d.size for d in node.variable.shape.dim)}"
    return node.user_object.identifier.strip("_") if kind == "user_object" else str(kind)


def _norm(value: np.ndarray) -> float:
    return float(np.sqrt(np.square(value.astype(np.float64)).sum())) if value.dtype.kind in "fiu" else 0.0


def _yes(value: bool) -> str:
    return "yes" if value else "no"
