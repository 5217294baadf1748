"""One training step of the served network on one batch of its train split: what several kinds of evidence look at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from models.saved_model import restore
from models.training import optimizers
from models.training.seeds import seed_everything
from models.training.step import step_function
from tour.evidence.context import Context

if TYPE_CHECKING:
    import keras

# Of the schedule, so that the first ones have the full rate.
STEPS = 1000
# Switches that change how a step is computed and not what is learnt.
PLAIN = {"accumulate": 1, "xla": False, "clip_norm": 0.0}


@dataclass
class Step:
    """A network ready to be trained on one batch.

    Attributes:
        model: The network with the served weights.
        optimizer: As the run had it, new.
        loss: Truth and logits to a loss a row.
        batch: Features and label, ``[rows, ...]`` each.
        label: Which of them is the label.
        network: The case's model module.
        settings: The run's training settings, its switches off.
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
        """What the network reads of the batch."""
        return {name: self.batch[name] for name in self.model.input}

    def mean_loss(self, learning: bool = False) -> tf.Tensor:
        """The loss that a step lowers: the mean over the batch, and the penalties of layers."""
        rows = self.loss(self.batch[self.label], self.model(self.inputs, training=learning))
        return tf.reduce_mean(rows) + sum(self.model.losses)

    def compiled(self) -> Any:
        """The Trainer's own step, a ``tf.function`` of a stream of batches."""
        strategy, rows = tf.distribute.get_strategy(), len(self.batch[self.label])
        return step_function(strategy, self.model, self.optimizer, self.loss, self.label, rows, self.settings)

    def stream(self) -> Any:
        """The same batch for ever."""
        return iter(tf.data.Dataset.from_tensors(dict(self.batch)).repeat())


def of(context: Context, rows: int | None = None) -> Step:
    """The served network and the first rows of the train split, a batch of the run unless ``rows`` says another size."""
    network, settings = context.case.load("model"), {**restore.settings(str(context.served)), **PLAIN}
    seed_everything(settings)
    model = restore.model(str(context.served), network, context.transform, context.pretrained)
    optimizer = optimizers.create(settings, STEPS)
    optimizer.build(model.trainable_variables)
    found = context.rows("train", (*network.INPUTS, network.LABEL), rows or context.training["batch_size"])
    batch = {name: tf.constant(np.ascontiguousarray(values)) for name, values in found.items()}
    return Step(model, optimizer, network.loss(settings), batch, network.LABEL, network, settings)
