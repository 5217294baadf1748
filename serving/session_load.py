"""Load a SavedModel in a session, as TensorFlow Serving does, and answer requests from a file.

Run it as a separate process: ``python -m serving.session_load MODEL REQUESTS.npz ANSWERS.npz``. Requests are arrays
named ``signature/input``; answers are arrays named ``signature/output``.
"""

import sys

import numpy as np
import tensorflow as tf


def run_signatures(model: str, requests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run every signature that ``requests`` names, using only graph, session and feeds; return the outputs."""
    answers: dict[str, np.ndarray] = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        definition = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], model)
        for name in sorted({key.split("/")[0] for key in requests}):
            signature = definition.signature_def[name]
            feeds = {tensor.name: requests[f"{name}/{key}"] for key, tensor in signature.inputs.items()}
            fetches = {f"{name}/{key}": tensor.name for key, tensor in signature.outputs.items()}
            answers |= session.run(fetches, feeds)
    return answers


def main() -> None:
    model, requests, answers = sys.argv[1:]
    with np.load(requests, allow_pickle=True) as loaded:
        np.savez(answers, allow_pickle=True, **run_signatures(model, dict(loaded)))


if __name__ == "__main__":
    main()
