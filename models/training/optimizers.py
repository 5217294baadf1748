"""The optimizers that the settings can select."""

from collections.abc import Mapping
from typing import Any

import keras

FINAL_RATE_SHARE = 0.02  # final learning rate of cosine decay, as a share of the first


def create(settings: Mapping[str, Any], steps: int) -> keras.optimizers.Optimizer:
    """Create the configured optimizer.

    Args:
        settings: ``optimizer``, ``learning_rate``, ``schedule`` and, for AdamW, the decoupled ``weight_decay``.
        steps: Optimizer steps of the whole training, over which cosine decay runs (Loshchilov & Hutter 2017).
    """
    rate = settings["learning_rate"]
    if settings["schedule"] == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, max(1, steps), alpha=FINAL_RATE_SHARE)
    match settings["optimizer"]:
        case "adamw":
            return keras.optimizers.AdamW(rate, weight_decay=settings["weight_decay"])
        case "adam":
            return keras.optimizers.Adam(rate)
        case "sgd":
            return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
        case "rmsprop":
            return keras.optimizers.RMSprop(rate)
        case "adagrad":
            return keras.optimizers.Adagrad(rate)
    raise ValueError(f"There is no optimizer '{settings['optimizer']}'.")
