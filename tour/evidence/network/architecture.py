"""Networks: how they are built, what Keras is to TensorFlow, a layer of ours, activations, and where Keras was left."""

import ast
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.catalog import CASES
from models.saved_model import restore
from pipeline.checkout import ROOT
from tour.evidence.context import Context
from tour.evidence.result_types import Graph, Node, NotHere, Number, Result, Series, Table

ROWS = 2048
CURVE = np.linspace(-4, 4, 81).astype(np.float32)
# What lies outside Keras, why, what stands there in Keras' own way, and the function by which its file is found.
LEFT = (
    (
        "training step",
        "train_step fails under multi-worker and parameter-server strategies",
        "compile",
        "step_function",
    ),
    ("training loop", "fit calls that step, and does not go on in the middle of an epoch", "fit", "fit"),
    ("export", "the transform graph and three signatures, which a session has to load", "model.export", "save"),
)


def built(context: Context) -> list[Result]:
    """A10: the network's layers as built from the run's settings, what they have learnt, and how they hang together."""
    model = served(context)
    names = {layer.name for layer in model.layers}
    edges = tuple(
        (source.name, layer.name)
        for layer in model.layers
        for node in layer._inbound_nodes
        for source in (tensor._keras_history.operation for tensor in node.input_tensors)
        if source.name in names
    )
    nodes = tuple(Node(layer.name, f"{type(layer).__name__} {_shape(layer)}") for layer in model.layers)
    return [layers(model), Graph("How the layers hang together", nodes, edges)]


def keras_on_tensorflow(context: Context) -> list[Result]:
    """A8: whose version is whose, the networks that are served, and one network written in two ways."""
    shown = [served(Context.of(context.home, name)) for name in CASES if Context.has(context.home, name)]
    held = type(shown[0].weights[0].value).__name__
    rows = (
        ("Keras", keras.__version__),
        ("its backend", keras.backend.backend()),
        ("TensorFlow", tf.__version__),
        ("TF_USE_LEGACY_KERAS, which TFX's libraries set", os.environ.get("TF_USE_LEGACY_KERAS", "not set")),
        ("tf.keras.layers.Dense in this process", tf.keras.layers.Dense.__module__),
        ("a layer's weight is held by", held),
    )
    return [Table("Keras and TensorFlow here", ("", ""), rows), *map(summary, shown), twins()]


def where_keras_was_left(context: Context) -> list[Result]:
    """B2: the places without Keras, their reasons, lines of code counted now and work in this run; the model's beside them."""
    told, kept = (
        context.training,
        [(path, lines(ROOT / path)) for path in ("models/image/model.py", "models/image/layers.py")],
    )
    size = sum(path.stat().st_size for path in context.served.rglob("*") if path.is_file())
    did = (
        f"{told['steps']:,} steps",
        f"{len(told['curves'])} epochs, the best {told['best_epoch'] + 1}",
        f"{size:,} bytes",
    )
    rows = [(*left[:3], *_home(left[3]), work) for left, work in zip(LEFT, did, strict=True)]
    title = "Where Keras was left (lines without blank ones, comments and docstrings)"
    doors = len(tf.saved_model.load(str(context.served)).signatures)
    return [
        Table(title, ("place", "reason", "Keras' own way", "file", "lines", "in this run"), tuple(rows)),
        Table("Where Keras stayed", ("file", "lines"), tuple(kept)),
        Number("Signatures of the served model", doors, "where model.export writes one"),
    ]


def custom_layer(context: Context) -> list[Result]:
    """B11: the network's own layers: what their config holds, and the served network saved, loaded and asked again, now."""
    model = served(context)
    ours = {type(one).__name__: one for one in model.layers if type(one).__module__.startswith("models.")}
    if not ours:
        return [NotHere("No layer of ours", f"The network of {context.case.name} is made of Keras' layers only.")]
    own = {name: {k: v for k, v in one.get_config().items() if k not in _common()} for name, one in ours.items()}
    configs = tuple((name, key, str(value)) for name, config in own.items() for key, value in config.items())
    before = [
        (name, len(type(one).from_config(one.get_config()).weights), len(one.weights), norm(one))
        for name, one in ours.items()
    ]
    difference, refused = round_trip(model, {name: type(one) for name, one in ours.items()}, inputs(context, 16))
    return [
        Table("What get_config returns and __init__ takes", ("layer", "argument", "value"), configs),
        Table("Weights", ("layer", "after __init__", "after build", "their norm as served"), tuple(before)),
        Number("Largest difference of logits after save and load", difference),
        Number("Loaded without custom_objects", refused),
    ]


def activations(context: Context) -> list[Result]:
    """A13: the functions that our networks use with their slopes, and the dead ReLU units of the served model."""
    values, slopes = curves()
    rows = {name: tf.constant(value) for name, value in inputs(context, ROWS, "eval").items()}
    units = dead(tf.saved_model.load(str(context.served)), rows)
    count, silent = sum(one[1] for one in units), sum(one[2] for one in units)
    title = f"ReLU units of the served model over {len(next(iter(rows.values())))} examples of eval"
    return [
        Series("Activations", "logit", "answer", values),
        Series("Their derivatives, by GradientTape", "logit", "slope", slopes),
        Number("Dead ReLU units", silent, f"of {count}" + (f", {silent / count:.1%}" if count else "")),
        Table(title, ("operation", "units", "dead", "share of zeros"), tuple(units)),
    ]


def served(context: Context) -> keras.Model:
    """The run's network with the weights that are served."""
    return restore.model(str(context.served), context.case.load("model"), context.transform, context.pretrained)


def network(context: Context) -> keras.Model:
    """The run's network, built anew; its weights are fresh."""
    settings = context.training["settings"]
    return context.case.load("model").build(settings, context.transform.features, context.pretrained)


def inputs(context: Context, most: int, split: str = "valid") -> dict[str, np.ndarray]:
    """What the network reads, for the first rows of a split."""
    return context.rows(split, context.case.load("model").INPUTS, most)


def layers(model: keras.Model) -> Table:
    """A row a layer."""
    rows = tuple((one.name, type(one).__name__, _shape(one), one.count_params(), norm(one)) for one in model.layers)
    columns = ("layer", "kind", "output", "parameters", "norm of weights")
    return Table(f"Network of {model.count_params():,} parameters", columns, rows)


def norm(layer: keras.layers.Layer) -> float:
    """Of all that a layer holds, what was learnt elsewhere too; 0 for one that holds nothing."""
    return float(np.sqrt(sum(np.square(one.numpy(), dtype=np.float64).sum() for one in layer.weights)))


def summary(model: keras.Model) -> Table:
    """Kinds of layers and their parameters; what is inside a layer of ours counts as that layer's."""
    kinds = Counter(type(one).__name__ for one in model.layers)
    weight: Counter[str] = Counter()
    learnt: defaultdict[str, float] = defaultdict(float)
    for one in model.layers:
        weight[type(one).__name__] += one.count_params()
        learnt[type(one).__name__] += norm(one) ** 2
    rows = tuple((kind, count, weight[kind], float(np.sqrt(learnt[kind]))) for kind, count in kinds.most_common())
    columns = ("kind", "layers", "parameters", "norm as served")
    return Table(f"{model.name}: {model.count_params():,} parameters", columns, rows)


def functional(classes: int = 10) -> keras.Model:
    """A small convolutional network as a graph of layers."""
    pixels = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(pixels)
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(hidden))
    return keras.Model(pixels, keras.layers.Dense(classes)(hidden))


class Subclassed(keras.Model):
    """The same network as a class: what ``functional`` writes as calls stands in ``call``."""

    def __init__(self, classes: int = 10, **kwargs: Any):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(8, 3, padding="same", activation="relu")
        self.norm, self.pool = keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()
        self.logits = keras.layers.Dense(classes)

    def call(self, pixels: Any, training: bool | None = None) -> Any:
        """Pixels ``[batch, 8, 8, 1]`` to logits."""
        return self.logits(self.pool(self.norm(self.convolution(pixels), training=training)))


def twins() -> Table:
    """Both, with equal weights, on the same pixels."""
    first, second, pixels = functional(), Subclassed(), np.random.default_rng(1).random((32, 8, 8, 1), np.float32)
    known = first.output_shape, getattr(second, "output_shape", None) if second.built else "none before the first call"
    second(pixels)
    second.set_weights(first.get_weights())
    difference = float(np.max(np.abs(first(pixels) - second(pixels))))
    rows = (
        ("parameters", first.count_params(), second.count_params()),
        ("output shape before the first call", str(known[0]), str(known[1])),
        ("largest difference with equal weights", 0.0, difference),
    )
    return Table("One network in two ways", ("", "functional", "subclassed"), rows)


def lines(path: Path) -> int:
    """Lines on which code stands: neither blank nor comment nor docstring."""
    tree, found = ast.parse(path.read_text()), set()
    text = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.strip().startswith("#") and number not in text:
            found.add(number)
    return len(found)


def _home(function: str) -> tuple[str, int]:
    """The file under ``models/`` that defines the function, and its lines."""
    for path in sorted((ROOT / "models").rglob("*.py")):
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if function in names:
            return path.relative_to(ROOT).as_posix(), lines(path)
    raise LookupError(f"No file of models/ defines {function}.")


def round_trip(model: keras.Model, classes: Mapping[str, type], x: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """The largest difference of the outputs after a save and a load, and what loading says that is told no class."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = keras.models.load_model(path, custom_objects=dict(classes))
        difference = float(np.max(np.abs(model(dict(x), training=False) - again(dict(x), training=False))))
        try:
            keras.models.load_model(path)
            return difference, "works"
        except Exception as error:  # Keras raises several kinds here
            why = str(error).partition("Could not locate class")
            return difference, f"{type(error).__name__}: {''.join(why[1:])[:40] or why[0][:80]}"


def curves() -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
    """Points ``(x, f(x))`` and ``(x, f'(x))`` of ReLU, sigmoid and softmax, the latter of one logit beside a zero."""
    functions: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
        "relu": tf.nn.relu,
        "sigmoid": tf.sigmoid,
        "softmax of three, two at 0": lambda x: tf.nn.softmax(tf.stack([x, 0 * x, 0 * x], axis=1))[:, 0],
    }
    values, slopes, x = {}, {}, tf.constant(CURVE)
    for name, function in functions.items():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        values[name], slopes[name] = _points(y), _points(tape.gradient(y, x))
    return values, slopes


def dead(loaded: Any, rows: Mapping[str, tf.Tensor]) -> list[tuple[str, int, int, float]]:
    """For each ReLU of the ``dense`` signature: name, units, those that are zero for every row, and the share of zeros.

    A unit of a convolution is a map: it is dead if it is zero at every place of every picture.
    """
    from tensorflow.python.framework import convert_to_constants

    frozen = convert_to_constants.convert_variables_to_constants_v2(
        loaded.signatures["dense"], lower_control_flow=False
    )
    relus = [op for op in frozen.graph.get_operations() if op.type == "Relu"]
    fed = [tensor for tensor in frozen.inputs if tensor.dtype != tf.resource]
    run = frozen.prune(fed, [op.outputs[0] for op in relus])
    given = [tf.cast(rows[tensor.name.split(":")[0]], tensor.dtype) for tensor in fed]
    found = []
    for op, answer in zip(relus, run(*given), strict=True):
        active = answer.numpy().reshape(-1, answer.shape[-1]) > 0
        found.append((_short(op.name), active.shape[1], int((~active.any(axis=0)).sum()), float(1 - active.mean())))
    return found


def _points(values: tf.Tensor) -> tuple[tuple[float, float], ...]:
    return tuple(zip(CURVE.tolist(), values.numpy().tolist(), strict=True))


def _short(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def _shape(layer: keras.layers.Layer) -> str:
    return str(tuple(layer.output.shape)) if not isinstance(layer.output, Sequence) else "several"


def _common() -> set[str]:
    """What every layer's config holds."""
    return set(keras.layers.Layer().get_config())
