"""A training step of the served network on one batch of its train split, shared by several evidence functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from models.saved_model import restore
from models.training import optimizers
from models.training.seeds import seed_everything
from models.training.step import create_train_step
from tour.evidence.context import Context

if TYPE_CHECKING:
    import keras

# Length of the learning rate schedule, long enough for the first steps to have the full rate.
STEPS = 1000
# Settings that change how a step is computed, but not its result.
PLAIN = {"accumulate": 1, "xla": False, "clip_norm": 0.0}


@dataclass
class TrainingStep:
    """A network and a batch, ready for a training step.

    Attributes:
        model: The network with the served weights.
        optimizer: New optimizer with the run's settings.
        loss: Function of truth and logits that returns a loss per row.
        batch: Features and label, ``[rows, ...]`` each.
        label: Name of the label in ``batch``.
        network: The case's model module.
        settings: The run's training settings, changed by ``PLAIN``.
    """

    model: "keras.Model"
    optimizer: Any
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    batch: Mapping[str, tf.Tensor]
    label: str
    network: Any
    settings: Mapping[str, Any]

    @property
    def inputs(self) -> dict[str, tf.Tensor]:
        """Features of the batch that the network reads."""
        return {name: self.batch[name] for name in self.model.input}

    def mean_loss(self, learning: bool = False) -> tf.Tensor:
        """Loss that a step minimizes: the mean over the batch plus the penalties of the layers."""
        rows = self.loss(self.batch[self.label], self.model(self.inputs, training=learning))
        return tf.reduce_mean(rows) + sum(self.model.losses)

    def compiled(self) -> Any:
        """The Trainer's own step, a ``tf.function`` that takes an iterator over batches."""
        strategy, rows = tf.distribute.get_strategy(), len(self.batch[self.label])
        return create_train_step(strategy, self.model, self.optimizer, self.loss, self.label, rows, self.settings)

    def stream(self) -> Any:
        """Endless iterator that repeats the batch."""
        return iter(tf.data.Dataset.from_tensors(dict(self.batch)).repeat())


def load_step(context: Context, rows: int | None = None) -> TrainingStep:
    """Load the served network and the first ``rows`` rows of the train split (default: the run's batch size)."""
    network, settings = context.network, {**restore.read_settings(str(context.served)), **PLAIN}
    seed_everything(settings)
    model = restore.restore_model(str(context.served), network, context.transform, context.pretrained)
    optimizer = optimizers.create(settings, STEPS)
    optimizer.build(model.trainable_variables)
    features = context.labelled_rows("train", rows or context.training["batch_size"])
    batch = {name: tf.constant(np.ascontiguousarray(values)) for name, values in features.items()}
    return TrainingStep(
        model=model,
        optimizer=optimizer,
        loss=network.loss(settings),
        batch=batch,
        label=network.LABEL,
        network=network,
        settings=settings,
    )
