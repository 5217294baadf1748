"""What a transform graph has learnt and computes, told by TensorFlow in a process of its own.

``python -m tour.artifacts.transform HOME CASE RUN`` prints evidence as JSON: the tour's own process never loads TensorFlow.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tour.evidence.result_types import NotHere, Result, Series, Table

SHOWN, MOST, NICE = 6, 14, 5


def learnt(folder: Path) -> Iterator[Result]:
    """Constants that the train split has left in a transform graph, and its operations by kind.

    Args:
        folder: Of the TransformGraph artifact.
    """
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import tensor_util

    saved = saved_model_pb2.SavedModel.FromString((folder / "transform_fn" / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    # What analyzers found is captured by the graph's function, hence a constant outside of it.
    held = [tensor_util.MakeNdarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"]
    found = [values for values in held if values.dtype.kind == "f" and values.size > 1]
    rows = [
        (meaning(one, found), str(list(one.shape)), ", ".join(f"{x:.4g}" for x in one.ravel()[:SHOWN])) for one in found
    ]
    if rows:
        yield Table("Learnt numbers", ("what", "shape", "the first of them"), tuple(rows))
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    counts = Counter(node.op for node in nodes if node.op not in ("Const", "Identity", "NoOp", "Placeholder"))
    told = tuple(counts.most_common(MOST))
    title = f"The {MOST} most frequent of {len(counts)} operations, {len(nodes):,} nodes in all"
    yield Table(title, ("operation", "times"), told)


def meaning(values: np.ndarray, others: Sequence[np.ndarray]) -> str:
    """What a constant is, by its own numbers; the graph keeps no names of them.

    Args:
        values: The constant.
        others: All constants, among which a covariance says which are its variances.
    """
    shape = values.shape
    if len(shape) == 2 and shape[0] == shape[1] and np.allclose(values, values.T, rtol=1e-4):
        return "covariance of the columns"
    if len(shape) == 2 and shape[0] > shape[1] and np.allclose(values.T @ values, np.eye(shape[1]), atol=1e-3):
        return "principal axes, one a column"
    if len(shape) == 2 and shape[0] == 1 and np.all(np.diff(values[0]) > 0):
        return "boundaries of buckets"
    squares = [np.diag(one) for one in others if one.ndim == 2 and one.shape == (values.size, values.size)]
    if any(np.allclose(one, values.ravel(), rtol=1e-3) for one in squares):
        return "variances of the columns"
    return "means of the columns" if squares else "numbers of the train split"


def spectrum(context: Any) -> Iterator[Result]:
    """The variance that each principal component keeps, as a curve, and what the evidence on them says."""
    from tour.evidence.data import transform_graph

    for result in transform_graph.components(context):
        if isinstance(result, Table) and result.rows:
            points = tuple((float(n), float(share)) for n, share, *_ in result.rows)
            yield Series("PCA spectrum", "component", "share of variance", {"share of variance": points})
        yield result


def main() -> None:
    """The process."""
    os.nice(NICE)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print; the answer alone goes out
    from models.catalog import find
    from pipeline.local.local_runtime import local_runtime
    from pipeline.metadata import store
    from tour.evidence import render
    from tour.evidence.context import Context
    from tour.figures import svg

    home, case, run_id = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    run = next(one for one in store.runs(local_runtime(home).metadata, case) if one.id == run_id)
    context = Context(home, find(case), run)
    results = list(learnt(context.artifact("transform_graph")))
    try:
        results += spectrum(context)
    except (OSError, ValueError, LookupError, np.linalg.LinAlgError) as error:
        results.append(NotHere("PCA spectrum", f"It cannot be computed ({type(error).__name__}: {error})."))
    json.dump([render.to_json(one) | {"svg": svg(one)} for one in results], out, default=str)


if __name__ == "__main__":
    main()
