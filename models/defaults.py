"""What every use case trains with unless its own settings say otherwise."""

from collections.abc import Mapping
from typing import Any

TRAINING: Mapping[str, Any] = {
    # One seed for Python, NumPy, TensorFlow and tf.data; deterministic operations are slower and give equal bits.
    "seed": 1,
    "deterministic": False,
    # none, mirrored, multiworker, parameter-server or tpu; how many replicas or workers, parameter servers, restarts.
    "strategy": "none",
    "workers": 2,
    "parameter_servers": 1,
    "restarts": 3,
    # The optimizer: adamw, adam, sgd (with momentum), rmsprop or adagrad; its rate falls by cosine, or on a plateau.
    "optimizer": "adamw",
    "learning_rate": 0.001,
    "schedule": "cosine",
    "weight_decay": 0.0001,
    "batch_size": 128,
    "epochs": 10,
    "max_steps": 20_000,
    "checkpoint_steps": 500,
    # Against overfitting. Patience counts epochs without a better metric on valid; 0 turns early stopping off.
    "patience": 3,
    "dropout": 0.0,
    "l2": 0.0,
    "folds": 0,
    # Switches of a step.
    "mixed_precision": False,
    "xla": False,
    "accumulate": 1,
    "remat": False,
    "clip_norm": 0.0,
}
