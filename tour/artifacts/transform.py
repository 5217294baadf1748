"""Learnt constants and operations of a transform graph, read by TensorFlow in a separate process.

``python -m tour.artifacts.transform HOME CASE RUN`` prints evidence as JSON, so that the tour's own process never loads
TensorFlow.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.home import Home
from tour.evidence.result_types import NotHere, Result, Series, Table

SHOWN, MOST, NICE = 6, 14, 5  # values and operations shown, and priority of the process


def learnt_constants(folder: Path) -> Iterator[Result]:
    """Constants in a transform graph that analyzers computed on the train split, and its operations by type.

    Args:
        folder: Folder of the TransformGraph artifact.
    """
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import tensor_util

    saved = saved_model_pb2.SavedModel.FromString((folder / "transform_fn" / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    # The results of analyzers are captured by the graph's function, hence constants of the outer graph.
    constants = [tensor_util.MakeNdarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"]
    learnt_values = [values for values in constants if values.dtype.kind == "f" and values.size > 1]
    rows = [
        (
            describe_constant(values, learnt_values),
            str(list(values.shape)),
            ", ".join(f"{x:.4g}" for x in values.ravel()[:SHOWN]),
        )
        for values in learnt_values
        for values in learnt_values
    ]
    if rows:
        yield Table("Learnt numbers", ("meaning", "shape", "first values"), tuple(rows))
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    counts = Counter(node.op for node in nodes if node.op not in ("Const", "Identity", "NoOp", "Placeholder"))
    frequent = tuple(counts.most_common(MOST))
    title = f"The {MOST} most frequent of {len(counts)} operations, {len(nodes):,} nodes in total"
    yield Table(title, ("operation", "count"), frequent)


def describe_constant(values: np.ndarray, others: Sequence[np.ndarray]) -> str:
    """Meaning of a constant, derived from its values, since the graph does not name its constants.

    Args:
        values: The constant.
        others: All constants; a covariance among them identifies its variances and means.
    """
    shape = values.shape
    if len(shape) == 2 and shape[0] == shape[1] and np.allclose(values, values.T, rtol=1e-4):
        return "covariance of the columns"
    if len(shape) == 2 and shape[0] > shape[1] and np.allclose(values.T @ values, np.eye(shape[1]), atol=1e-3):
        return "principal axes, one a column"
    if len(shape) == 2 and shape[0] == 1 and np.all(np.diff(values[0]) > 0):
        return "boundaries of buckets"
    variances = [np.diag(other) for other in others if other.ndim == 2 and other.shape == (values.size, values.size)]
    if any(np.allclose(diagonal, values.ravel(), rtol=1e-3) for diagonal in variances):
        return "variances of the columns"
    return "means of the columns" if variances else "numbers of the train split"


def spectrum(context: Any) -> Iterator[Result]:
    """Share of variance of each principal component as a curve, then the evidence on PCA."""
    from tour.evidence.data import transform_graph

    for result in transform_graph.principal_components(context):
        if isinstance(result, Table) and result.rows:
            points = tuple((float(n), float(share)) for n, share, *_ in result.rows)
            yield Series("PCA spectrum", "component", "share of variance", {"share of variance": points})
        yield result


def main() -> None:
    os.nice(NICE)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print to standard output; reserve it for the result
    from models.catalog import find_use_case
    from tour.evidence import render
    from tour.evidence.context import Context
    from tour.figures import svg

    home, case, run_id = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    run = next(run for run in Home(home).runs(case) if run.id == run_id)
    context = Context(home, find_use_case(case), run)
    results = list(learnt_constants(context.artifact("transform_graph")))
    try:
        results += spectrum(context)
    except (OSError, ValueError, LookupError, np.linalg.LinAlgError) as error:
        results.append(NotHere("PCA spectrum", f"It cannot be computed ({type(error).__name__}: {error})."))
    json.dump([render.to_json(result) | {"svg": svg(result)} for result in results], out, default=str)


if __name__ == "__main__":
    main()
