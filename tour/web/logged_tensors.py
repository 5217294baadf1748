"""Worker process that applies a model's transform graph to logged requests and returns the network's input tensors.

It imports TensorFlow, which the web server's process never does. Protocol: one JSON line on standard input with the
path of a transform graph and a record in base64; one JSON line on standard output with the flat tensors of its row.
"""

import base64
import json
import os
import signal
import sys
from functools import lru_cache
from typing import Any

from models.training.distribute.local_processes import end_with_parent

NICE = 5


def main() -> None:
    """Answer requests until standard input ends."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Libraries print to standard output, so file descriptor 1 is redirected and responses use a copy of it.
    responses = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from models.input import Transform

    load_transform = lru_cache(4)(Transform)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            record = base64.b64decode(request["record"])
            response: dict[str, Any] = {"inputs": compute_tensors(load_transform(request["graph"]), record)}
        except Exception as error:  # a faulty request must not stop the worker
            response = {"error": f"{type(error).__name__}: {error}"[:500]}
        responses.write(json.dumps(response) + "\n")


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
    main()
