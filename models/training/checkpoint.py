"""Where training is: saved after each epoch, every so many steps, and when it is told to stop."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from models.errors import Preempted
from models.training import callbacks as calls
from models.training.distribute.job import Task


class Position(tf.train.experimental.PythonState):
    """Where training is, beside the weights in a checkpoint: steps, the losses of a begun epoch, curves, callbacks."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0
        self.losses: list[Any] = []
        self.curves: list[dict[str, float]] = []
        self.journal: list[dict[str, Any]] = []
        self.callbacks: dict[str, Any] = {}

    def serialize(self) -> str:
        """As JSON; the losses, which are tensors until now, as numbers."""
        self.losses = [float(loss) for loss in self.losses]
        return json.dumps(vars(self), default=lambda other: None)

    def deserialize(self, string_value: str) -> None:
        """The reverse."""
        self.__dict__.update(json.loads(string_value))


class Saver:
    """Checkpoints of weights, optimizer and position: after each epoch, every ``checkpoint_steps``, and on SIGTERM.

    A context manager, inside which SIGTERM is noted in place of ending the process. Under several workers TensorFlow's
    own handler is used, since all have to stop at the same step.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        position: Position,
        callbacks: list[keras.callbacks.Callback],
        folder: Path,
        task: Task,
    ) -> None:
        self.position, self.callbacks, self.terminated = position, callbacks, threading.Event()
        self.watches = True
        # By themselves, not as the model: from that TensorFlow does not find the states of random generators (dropout,
        # augmentation), nor what a layer of ours keeps in a list, such as the moments of a residual block.
        variables = [one.value for one in model.variables]
        checkpoint = tf.train.Checkpoint(variables=variables, optimizer=optimizer, position=position)
        place = folder / "checkpoints"
        # All workers have to take part in saving; what the others write is not needed.
        own = place if task.chief else folder / f"scratch-{task.kind}-{task.index}"
        self.reader = tf.train.CheckpointManager(checkpoint, str(place), max_to_keep=2)
        self.writer = tf.train.CheckpointManager(checkpoint, str(own), max_to_keep=1) if not task.chief else self.reader

    def __enter__(self) -> "Saver":
        self._before = None
        if self.watches and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, lambda *_: self.terminated.set())
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def restore(self) -> bool:
        """Goes back to the last checkpoint; whether there was one."""
        found = self.reader.restore_or_initialize()
        calls.restore(self.callbacks, self.position.callbacks)
        return bool(found)

    def note(self) -> None:
        """Writes down, and says, where training goes on."""
        step, epoch = self.position.step, len(self.position.curves)
        self.position.journal.append({"epoch": epoch, "callback": "checkpoint", "what": f"went on at step {step}"})
        print(f"went on at step {step}, epoch {epoch + 1}", flush=True)

    def save(self) -> None:
        """Writes a checkpoint; under several workers all of them call it."""
        self.position.callbacks = calls.state(self.callbacks)
        self.writer.save(checkpoint_number=self.position.step)

    def stop(self) -> None:
        """Saves and ends training.

        Raises:
            Preempted: always.
        """
        self.save()
        raise Preempted(f"Training was told to stop; it goes on at step {self.position.step} when started again.")
