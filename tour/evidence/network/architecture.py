"""Evidence on networks: their layers, Keras and TensorFlow, and code outside Keras."""

import ast
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.catalog import CASES
from models.saved_model import restore
from models.use_case import UseCase
from pipeline.checkout import ROOT
from tour.evidence.context import Context, count_bytes
from tour.evidence.result_types import Graph, Node, Number, Result, Table

ROWS = 2048
# What is implemented outside Keras, why, the Keras method that it replaces, and the function that defines it.
LEFT = (
    (
        "training step",
        "train_step fails under multi-worker and parameter-server strategies",
        "compile",
        "create_train_step",
    ),
    ("training loop", "fit calls that step, and cannot resume in the middle of an epoch", "fit", "fit"),
    ("export", "exports the transform graph and three signatures that a session can load", "model.export", "save"),
)


def network_layers(context: Context) -> list[Result]:
    """A10: the layers of the served network, the norms of their weights, and the connections between them."""
    model = served_network(context)
    names = {layer.name for layer in model.layers}
    edges = tuple(
        (source.name, layer.name)
        for layer in model.layers
        for node in layer._inbound_nodes
        for source in (tensor._keras_history.operation for tensor in node.input_tensors)
        if source.name in names
    )
    nodes = tuple(Node(layer.name, f"{type(layer).__name__} {_shape(layer)}") for layer in model.layers)
    return [layers_table(model), Graph("Connections between the layers", nodes, edges)]


def keras_on_tensorflow(context: Context) -> list[Result]:
    """A8: versions of Keras and TensorFlow, the served networks, and a functional network compared with a subclassed one."""
    networks = [served_network(Context.of(context.home, name)) for name in CASES if Context.has(context.home, name)]
    holder = type(networks[0].weights[0].value).__name__
    rows = (
        ("Keras", keras.__version__),
        ("backend of Keras", keras.backend.backend()),
        ("TensorFlow", tf.__version__),
        ("TF_USE_LEGACY_KERAS (set by TFX's libraries)", os.environ.get("TF_USE_LEGACY_KERAS", "not set")),
        ("tf.keras.layers.Dense in this process", tf.keras.layers.Dense.__module__),
        ("class that holds a layer's weight", holder),
    )
    return [
        Table("Versions of Keras and TensorFlow in use", ("item", "value"), rows),
        *map(layers_by_class, networks),
        compare_functional_and_subclassed(),
    ]


def outside_keras(context: Context) -> list[Result]:
    """B2: what is implemented outside Keras, why, its lines of code and its work in this run; and the code that uses Keras."""
    training = context.training
    with_keras = [(path, count_code_lines(ROOT / path)) for path in _network_files(context.case)]
    done = (
        f"{training['steps']:,} steps",
        f"{len(training['curves'])} epochs, best: epoch {training['best_epoch'] + 1}",
        f"{count_bytes(context.served):,} bytes",
    )
    rows = [(*left[:3], *_source_file(left[3]), work) for left, work in zip(LEFT, done, strict=True)]
    title = "Implemented outside Keras (lines of code without blank lines, comments and docstrings)"
    signatures = len(tf.saved_model.load(str(context.served)).signatures)
    return [
        Table(title, ("part", "reason", "Keras equivalent", "file", "lines", "in this run"), tuple(rows)),
        Table("Implemented with Keras", ("file", "lines"), tuple(with_keras)),
        Number("Signatures of the served model", signatures, "(model.export writes one)"),
    ]


def _network_files(case: UseCase) -> list[str]:
    """Return the files of the use case's network and of its layers, if it has some of its own."""
    return [f"{case.module(part).replace('.', '/')}.py" for part in ("model", "layers") if case.has(part)]


def served_network(context: Context) -> keras.Model:
    """Load the run's network with the served weights."""
    return restore.restore_model(str(context.served), context.network, context.transform, context.pretrained)


def input_rows(context: Context, most: int, split: str = "valid") -> dict[str, np.ndarray]:
    """Inputs of the network for the first rows of a split."""
    return context.rows(split, context.network.INPUTS, most)


def layers_table(model: keras.Model) -> Table:
    """One row per layer."""
    rows = tuple(
        (layer.name, type(layer).__name__, _shape(layer), layer.count_params(), weight_norm(layer))
        for layer in model.layers
    )
    columns = ("layer", "class", "output shape", "parameters", "norm of weights")
    return Table(f"Layers of the network, {model.count_params():,} parameters", columns, rows)


def weight_norm(layer: keras.layers.Layer) -> float:
    """Norm of all weights of a layer, pretrained ones included; 0 for a layer without weights."""
    return float(np.sqrt(sum(np.square(weight.numpy(), dtype=np.float64).sum() for weight in layer.weights)))


def layers_by_class(model: keras.Model) -> Table:
    """Number and parameters of the layers by class; layers inside a custom layer count as part of it."""
    kinds = Counter(type(layer).__name__ for layer in model.layers)
    parameters: Counter[str] = Counter()
    squares: defaultdict[str, float] = defaultdict(float)
    for layer in model.layers:
        parameters[type(layer).__name__] += layer.count_params()
        squares[type(layer).__name__] += weight_norm(layer) ** 2
    rows = tuple((kind, count, parameters[kind], float(np.sqrt(squares[kind]))) for kind, count in kinds.most_common())
    columns = ("class", "layers", "parameters", "norm in the served model")
    return Table(f"{model.name}: {model.count_params():,} parameters", columns, rows)


def functional_network(classes: int = 10) -> keras.Model:
    """A small convolutional network as a graph of layers."""
    pixels = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(pixels)
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(hidden))
    return keras.Model(pixels, keras.layers.Dense(classes)(hidden))


class SubclassedNetwork(keras.Model):
    """The network of ``functional`` as a class; ``call`` connects the layers."""

    def __init__(self, classes: int = 10, **kwargs: Any):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(8, 3, padding="same", activation="relu")
        self.norm, self.pool = keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()
        self.logits = keras.layers.Dense(classes)

    def call(self, pixels: Any, training: bool | None = None) -> Any:
        """Map pixels ``[batch, 8, 8, 1]`` to logits."""
        return self.logits(self.pool(self.norm(self.convolution(pixels), training=training)))


def compare_functional_and_subclassed() -> Table:
    """Compare the functional and the subclassed network with equal weights on the same pixels."""
    first, second, pixels = (
        functional_network(),
        SubclassedNetwork(),
        np.random.default_rng(1).random((32, 8, 8, 1), np.float32),
    )
    shapes = first.output_shape, getattr(second, "output_shape", None) if second.built else "none before the first call"
    second(pixels)
    second.set_weights(first.get_weights())
    difference = float(np.max(np.abs(first(pixels) - second(pixels))))
    rows = (
        ("parameters", first.count_params(), second.count_params()),
        ("output shape before the first call", str(shapes[0]), str(shapes[1])),
        ("largest difference with equal weights", 0.0, difference),
    )
    return Table("The same network, functional and subclassed", ("property", "functional", "subclassed"), rows)


def count_code_lines(path: Path) -> int:
    """Count the lines of code: neither blank nor comment nor docstring."""
    tree, code_lines = ast.parse(path.read_text()), set()
    docstring_lines = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.strip().startswith("#") and number not in docstring_lines:
            code_lines.add(number)
    return len(code_lines)


def _source_file(function: str) -> tuple[str, int]:
    """File under ``models/`` that defines the function, and its lines of code."""
    for path in sorted((ROOT / "models").rglob("*.py")):
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if function in names:
            return path.relative_to(ROOT).as_posix(), count_code_lines(path)
    raise LookupError(f"No file of models/ defines {function}.")


def _shape(layer: keras.layers.Layer) -> str:
    return str(tuple(layer.output.shape)) if not isinstance(layer.output, Sequence) else "several outputs"
