"""Default training settings of every use case with their limits, and the check that settings are compatible."""

from collections.abc import Mapping
from typing import Any

from models.setting_limits import Limit, Range

STRATEGIES = ("none", "mirrored", "multiworker", "parameter-server", "tpu")
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "adagrad")
SCHEDULES = ("cosine", "plateau")
TRAINING: Mapping[str, Any] = {
    # One seed for Python, NumPy, TensorFlow and tf.data; deterministic operations are slower and reproducible to the bit.
    "seed": 1,
    "deterministic": False,
    # Strategy: none, mirrored, multiworker, parameter-server or tpu; number of workers, parameter servers and restarts.
    "strategy": "none",
    "workers": 2,
    "parameter_servers": 1,
    "restarts": 3,
    # The optimizer: adamw, adam, sgd (with momentum), rmsprop or adagrad; schedule: cosine decay, or reduce on a plateau.
    "optimizer": "adamw",
    "learning_rate": 0.001,
    "schedule": "cosine",
    "weight_decay": 0.0001,
    "batch_size": 128,
    "epochs": 10,
    "max_steps": 20_000,
    "checkpoint_steps": 500,
    # Event files for TensorBoard, and in them a profile of a few steps of the first epoch.
    "tensorboard": True,
    "profile": True,
    # Regularisation. Patience counts epochs without a better metric on valid; 0 turns early stopping off.
    "patience": 3,
    "dropout": 0.0,
    "l2": 0.0,
    # Number of cross-validation folds, each a further model trained on the other folds; 0 for none.
    "folds": 0,
    # The Tuner, if a run has one: number of trials, and maximum steps of each.
    "tune_trials": 20,
    "tune_steps": 300,
    # Options of a training step.
    "mixed_precision": False,
    "xla": False,
    "accumulate": 1,
    "remat": False,
    "clip_norm": 0.0,
    # Rank of the LoRA adapters of a refresh.
    "lora_rank": 4,
}

SEED, SHARE = Range(0, 2_000_000_000), Range(0.0, 1.0)
TRAINING_LIMITS: Mapping[str, Limit] = {
    "seed": SEED,
    "strategy": STRATEGIES,
    "workers": Range(1, 1024),
    "parameter_servers": Range(1, 1024),
    "restarts": Range(0, 1000),
    "optimizer": OPTIMIZERS,
    "learning_rate": Range(1e-9, 10.0),
    "schedule": SCHEDULES,
    "weight_decay": SHARE,
    "batch_size": Range(1, 65_536, "rows"),
    "epochs": Range(1, 10_000),
    "max_steps": Range(1, 1_000_000_000, "steps"),
    "checkpoint_steps": Range(1, 1_000_000_000, "steps"),
    "patience": Range(0, 10_000, "epochs"),
    "dropout": Range(0.0, 0.95),
    "l2": SHARE,
    "folds": Range(2, 100, off=0),
    "tune_trials": Range(1, 10_000),
    "tune_steps": Range(1, 1_000_000_000, "steps"),
    "accumulate": Range(1, 65_536, "parts of a batch"),
    "clip_norm": Range(0.0, 1e6),
    "lora_rank": Range(1, 1024),
}

# Default settings of a refresh: few epochs and a low rate, since it starts from trained weights.
REFRESH: Mapping[str, Any] = {"epochs": 4, "patience": 2, "learning_rate": 0.001}

# Search space of the Tuner for every use case, by training setting: choices, or a range sampled by its logarithm.
SEARCH_SPACE: Mapping[str, Any] = {
    "optimizer": OPTIMIZERS,
    "learning_rate": {"low": 0.0003, "high": 0.1},
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.5),
    "l2": (0.0, 0.00001, 0.0001, 0.001),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check that the settings are compatible, before anything is started.

    Raises:
        ValueError: with the reason and what to change.
    """
    name = settings["strategy"]
    if name == "parameter-server" and settings["xla"]:
        raise ValueError(
            "xla cannot be combined with parameter-server: a compiled step cannot read variables in another process. "
            "Turn one of the two off."
        )
    if name == "parameter-server" and settings["deterministic"] and settings["workers"] > 1:
        raise ValueError(
            "deterministic cannot be combined with several workers of a parameter server: their gradients are applied in "
            "order of arrival. Use workers=1 or another strategy."
        )
    replicas = settings["workers"] if name in ("mirrored", "multiworker") else 1
    for setting, parts in (("workers", replicas), ("accumulate", settings["accumulate"] * replicas)):
        if settings["batch_size"] % parts:
            raise ValueError(
                f"A batch of {settings['batch_size']} cannot be cut into {parts} equal parts; change batch_size or {setting}."
            )
