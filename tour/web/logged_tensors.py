"""Worker process that applies a model's transform graph to logged requests and returns the network's input tensors.

A request has the path of a transform graph and a record in base64, the response the flat tensors of its row.
"""

import base64
from functools import lru_cache
from typing import Any

from tour.web.worker_process import answer_requests

NICE = 5


@lru_cache(4)
def load_transform(graph: str) -> Any:
    """Load a transform graph."""
    from models.input import Transform

    return Transform(graph)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Compute the tensors of a record, or say why they cannot be computed."""
    try:
        return {"inputs": compute_tensors(load_transform(request["graph"]), base64.b64decode(request["record"]))}
    except Exception as error:  # a faulty request must not stop the worker
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def compute_tensors(transform: Any, record: bytes) -> dict[str, list[float]]:
    """Compute the transformed features of one row, flat; features that the record lacks (the label) are left out."""
    import tensorflow as tf

    names = _read_names(record)
    raw = {name: spec for name, spec in transform.raw.items() if name in names}
    features = transform.apply(tf.io.parse_example(tf.constant([record]), raw))
    return {name: value.numpy().ravel().tolist() for name, value in features.items()}


def _read_names(record: bytes) -> set[str]:
    from serving.gateway.log.tf_example import decode

    return set(decode(record))


if __name__ == "__main__":
    answer_requests(answer, NICE)
