"""What every use case trains with unless its own settings say otherwise, and what does not go together."""

from collections.abc import Mapping
from typing import Any

STRATEGIES = ("none", "mirrored", "multiworker", "parameter-server", "tpu")
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "adagrad")
SCHEDULES = ("cosine", "plateau")
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
    # Event files for TensorBoard; a profile of a few steps of the first epoch among them.
    "tensorboard": True,
    "profile": True,
    # Against overfitting. Patience counts epochs without a better metric on valid; 0 turns early stopping off.
    "patience": 3,
    "dropout": 0.0,
    "l2": 0.0,
    # Further models for an estimate by cross-validation, trained on all folds but one each; 0 for none.
    "folds": 0,
    # The Tuner, where a run asks for it: how many trainings, and the most steps of each.
    "tune_trials": 20,
    "tune_steps": 300,
    # Switches of a step.
    "mixed_precision": False,
    "xla": False,
    "accumulate": 1,
    "remat": False,
    "clip_norm": 0.0,
    # Rank of the adapters that a refresh learns.
    "lora_rank": 4,
}

# What a refresh trains with, unless it is told otherwise: short and slow, since it begins where training ended.
REFRESH: Mapping[str, Any] = {"epochs": 4, "patience": 2, "learning_rate": 0.001}

# What the Tuner tries for every use case, by the name of a training setting: choices, or a range searched by logarithm.
SPACE: Mapping[str, Any] = {
    "optimizer": OPTIMIZERS,
    "learning_rate": {"low": 0.0003, "high": 0.1},
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.5),
    "l2": (0.0, 0.00001, 0.0001, 0.001),
}


def check(settings: Mapping[str, Any]) -> None:
    """Refuses switches that do not go together, before anything is started.

    Raises:
        ValueError: saying why, and what to change.
    """
    for what, known in (("strategy", STRATEGIES), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if settings[what] not in known:
            raise ValueError(f"There is no {what} '{settings[what]}'; there are {', '.join(known)}.")
    name = settings["strategy"]
    if name == "parameter-server" and settings["xla"]:
        raise ValueError(
            "xla does not go with parameter-server: a compiled step cannot reach variables that lie in another process. "
            "Leave out one of the two."
        )
    if name == "parameter-server" and settings["deterministic"] and settings["workers"] > 1:
        raise ValueError(
            "deterministic does not go with several workers of a parameter server: their gradients are applied in the "
            "order in which they come. Use workers=1 or another strategy."
        )
    replicas = settings["workers"] if name in ("mirrored", "multiworker") else 1
    for what, parts in (("workers", replicas), ("accumulate", settings["accumulate"] * replicas)):
        if parts < 1 or settings["batch_size"] % parts:
            raise ValueError(
                f"A batch of {settings['batch_size']} cannot be cut into {parts} equal parts; change batch_size or {what}."
            )
