"""Scale both coordinates."""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Return ``scaled`` float32 ``[batch, 2]`` and the label ``above`` int64 ``[batch, 1]``."""
    both = tf.concat([inputs["x"], inputs["y"]], axis=1)
    return {"scaled": tft.scale_to_z_score(both, elementwise=True), "above": inputs["above"]}
