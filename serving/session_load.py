"""Loads a SavedModel in a session, as TensorFlow Serving does, and answers requests from a file.

Run as a program of its own: ``python -m serving.session_load MODEL REQUESTS.npz ANSWERS.npz``, where requests are arrays
named ``signature/input`` and answers come back as ``signature/output``.
"""

import sys

import numpy as np
import tensorflow as tf


def answer(model: str, requests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answers of each signature that ``requests`` names, through graph, session and feeds alone."""
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
    """The program."""
    model, requests, answers = sys.argv[1:]
    with np.load(requests, allow_pickle=True) as loaded:
        np.savez(answers, allow_pickle=True, **answer(model, dict(loaded)))


if __name__ == "__main__":
    main()
