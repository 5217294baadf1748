"""Evidence on the transform graph: principal components, their effect on a model, and tensors compared with arrays."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models.evaluation import baselines
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table

TRAIN = 20_000
HELD = 20_000
SHOWN = 250
REDUCED = "pca"
EXACT = 1e-3


def principal_components(context: Context) -> list[Result]:
    """A20: the principal components in the graph, their explained variance on train, and the eval split on the first two."""
    network = context.network
    rows = context.rows("train", (*network.INPUTS, REDUCED), TRAIN)
    projected = find_projection(rows, network.INPUTS)
    if projected is None:
        return [NotHere("PCA", f"No input of {context.case.name} is projected onto '{REDUCED}'.")]
    source, matrix = projected
    ratios = explained_variance(rows[source].reshape(len(rows[source]), -1), rows[REDUCED])
    total = np.cumsum(ratios)
    rows_by_component = tuple((n + 1, float(ratio), float(total[n])) for n, ratio in enumerate(ratios))
    evaluated = context.rows("eval", (REDUCED, network.LABEL), HELD)
    return [
        Table(
            "Explained variance on the train split", ("component", "share of variance", "cumulative"), rows_by_component
        ),
        Number(f"Columns of '{source}'", matrix.shape[0], f"reduced to {matrix.shape[1]}"),
        Number(
            "Largest deviation of WᵀW from the identity", float(np.abs(matrix.T @ matrix - np.eye(len(total))).max())
        ),
        scatter_components(evaluated[REDUCED], evaluated[network.LABEL][:, 0]),
    ]


def dimension_reduction(context: Context) -> list[Result]:
    """A19: a logistic model on all columns, on the components alone, and on the columns that they are computed from."""
    network = context.network
    keep = (*network.INPUTS, network.LABEL, REDUCED)
    train, evaluated = context.rows("train", keep, TRAIN), context.rows("eval", keep, HELD)
    views: dict[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
        "all columns": lambda part: baselines.FeatureTable.of(network.INPUTS, network.LABEL, part).x,
        "components": lambda part: part[REDUCED],
    }
    if projected := find_projection(train, network.INPUTS):
        source, _ = projected
        views[f"'{source}' alone"] = lambda part: part[source].reshape(len(part[source]), -1)
    rows = compare_views(views, train, evaluated, network.LABEL, lambda y, s: network.quality(y, s)[network.MONITOR])
    return [
        Table(
            "Logistic regression on all columns and on principal components",
            ("features", "columns", network.MONITOR, "step, ms"),
            rows,
        )
    ]


def tensors_and_arrays(context: Context) -> list[Result]:
    """B5: the projection computed by TensorFlow and by NumPy, and the differences between tensor and array."""
    network = context.network
    rows = context.rows("eval", (*network.INPUTS, REDUCED), 2048)
    projected = find_projection(rows, network.INPUTS)
    if projected is None:
        return [NotHere("Projection", f"No input of {context.case.name} is projected onto '{REDUCED}'.")]
    source, matrix = projected
    return compare_tensor_and_array(rows[source].reshape(len(rows[source]), -1), matrix.astype(np.float32))


def find_projection(rows: Mapping[str, np.ndarray], inputs: Sequence[str]) -> tuple[str, np.ndarray] | None:
    """Find the input of which ``pca`` is a linear projection; return its name and the matrix, ``[columns, components]``."""
    for name in inputs:
        flat = rows[name].reshape(len(rows[name]), -1)
        if not np.issubdtype(flat.dtype, np.floating):
            continue
        matrix, *_ = np.linalg.lstsq(flat.astype(np.float64), rows[REDUCED].astype(np.float64), rcond=None)
        if np.abs(flat @ matrix - rows[REDUCED]).max() < EXACT:
            return name, matrix
    return None


def explained_variance(source: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """Share of the variance of ``source``, ``[rows, columns]``, in each projected column."""
    return projected.var(axis=0, dtype=np.float64) / source.var(axis=0, dtype=np.float64).sum()


def scatter_components(projected: np.ndarray, classes: np.ndarray) -> Series:
    """First two components by class, at most ``SHOWN`` points per class."""
    lines = {
        f"{int(label)}": tuple((float(x), float(y)) for x, y in projected[classes == label][:SHOWN, :2])
        for label in np.unique(classes)
    }
    return Series("Eval split on the first two components, by class", "component 1", "component 2", lines, joined=False)


def compare_views(
    views: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]],
    train: Mapping[str, np.ndarray],
    evaluated: Mapping[str, np.ndarray],
    label: str,
    metric: Callable[[np.ndarray, np.ndarray], float],
) -> tuple[tuple[str, int, float, float], ...]:
    """Fit the same model on each view of the features; return columns, metric on ``evaluated``, milliseconds per step."""
    rows = []
    for name, view in views.items():
        scores, milliseconds = _logistic(view(train), train[label][:, 0], view(evaluated))
        rows.append((name, view(evaluated).shape[1], metric(evaluated[label], scores), milliseconds))
    return tuple(rows)


def compare_tensor_and_array(source: np.ndarray, matrix: np.ndarray) -> list[Result]:
    """Compute ``source @ matrix`` in TensorFlow and in NumPy; compare the results and what each object supports."""
    tensor, weights = tf.constant(source), tf.constant(matrix)
    product, array = tf.matmul(tensor, weights), source @ matrix
    with tf.GradientTape() as tape:
        tape.watch(weights)
        loss = tf.reduce_mean(tf.matmul(tensor, weights) ** 2)
    gradient = tape.gradient(loss, weights)
    expected = 2 * source.T @ array / array.size
    rows = (
        ("dtype", product.dtype.name, str(array.dtype)),
        ("shape", str(tuple(product.shape)), str(array.shape)),
        ("mean square", f"{float(tf.reduce_mean(product**2)):.6g}", f"{float(np.mean(array**2)):.6g}"),
        ("device", product.device, "host memory"),
        ("assign to [0, 0]", _try_assignment(product), _try_assignment(array.copy())),
        ("gradient of mean square", f"tape, {tuple(gradient.shape)}", "derived by hand"),
        ("export without a copy (DLPack)", _try_dlpack(product), _try_dlpack(array)),
    )
    return [
        Table("The same projection as tensor and as array", ("property", "tf.Tensor", "numpy.ndarray"), rows),
        Number("Largest difference between the products", float(np.abs(product.numpy() - array).max())),
        Number("Largest difference between the gradients", float(np.abs(gradient.numpy() - expected).max())),
    ]


def _logistic(x: np.ndarray, y: np.ndarray, evaluated: np.ndarray) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    model = LogisticRegression(max_iter=100, tol=1e-3)
    started = time.perf_counter()
    model.fit((x - mean) / scale, y)
    milliseconds = 1000 * (time.perf_counter() - started) / max(1, int(np.max(model.n_iter_)))
    scores = model.predict_proba((evaluated - mean) / scale)
    return scores[:, 1:] if scores.shape[1] == 2 else scores, milliseconds


def _try_assignment(value: Any) -> str:
    try:
        value[0, 0] = 0.0
    except TypeError as error:
        return f"TypeError: {error}"
    return "changed in place"


def _try_dlpack(value: Any) -> str:
    """Whether two exports through DLPack share memory."""
    try:
        return "yes" if np.shares_memory(np.from_dlpack(value), np.from_dlpack(value)) else "no"
    except (TypeError, BufferError, AttributeError) as error:
        return f"no: {error}"
