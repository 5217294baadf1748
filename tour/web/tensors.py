"""The process that turns logged requests into the tensors that a network reads, by the model's own transform graph.

TensorFlow is imported here and never in the process that answers pages. Each line on standard input names a transform graph
and holds a record in base64; each line on standard output holds the tensors of its one row, flat.
"""

import base64
import ctypes
import json
import os
import signal
import sys
from functools import lru_cache
from typing import Any

PR_SET_PDEATHSIG = 1
NICE = 5


def main() -> None:
    """Answers until standard input ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from models.input import Transform

    loaded = lru_cache(4)(Transform)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told: dict[str, Any] = {"inputs": tensors(loaded(asked["graph"]), base64.b64decode(asked["record"]))}
        except Exception as error:  # whatever one request is, the next one is answered
            told = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(told) + "\n")


def tensors(transform: Any, record: bytes) -> dict[str, list[float]]:
    """Every transformed feature of one row, flat; what a request does not have, a label say, is left out."""
    import tensorflow as tf

    there = _names(record)
    raw = {name: spec for name, spec in transform.raw.items() if name in there}
    features = transform.apply(tf.io.parse_example(tf.constant([record]), raw))
    return {name: value.numpy().ravel().tolist() for name, value in features.items()}


def _names(record: bytes) -> set[str]:
    from serving.gateway.log.tf_example import decode

    return set(decode(record))


if __name__ == "__main__":
    main()
