"""Training checkpoints: written after each epoch, every ``checkpoint_steps``, and on SIGTERM."""

import json
import signal
import threading
from pathlib import Path
from typing import Any, Self

import keras
import tensorflow as tf

from models.errors import PreemptedError
from models.training import callbacks as calls
from models.training.distribute.job import ClusterTask


class TrainingPosition(tf.train.experimental.PythonState):
    """Training position, stored in a checkpoint with the weights: step, losses of the current epoch, curves, callbacks."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0
        self.losses: list[Any] = []
        self.curves: list[dict[str, float]] = []
        self.journal: list[dict[str, Any]] = []
        self.callbacks: dict[str, Any] = {}

    def serialize(self) -> str:
        """Serialize to JSON; the losses, which are tensors until now, become numbers."""
        self.losses = [float(loss) for loss in self.losses]
        return json.dumps(vars(self), default=lambda other: None)

    def deserialize(self, string_value: str) -> None:
        """Restore the attributes from JSON."""
        self.__dict__.update(json.loads(string_value))


class CheckpointSaver:
    """Saves and restores weights, optimizer and position.

    As a context manager it records SIGTERM instead of ending the process. With several workers TensorFlow's own handler
    is used, since all of them have to stop at the same step.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        position: TrainingPosition,
        callbacks: list[keras.callbacks.Callback],
        folder: Path,
        task: ClusterTask,
    ) -> None:
        self.position, self.callbacks, self.terminated = position, callbacks, threading.Event()
        self.handles_sigterm = True
        # A list of variables, not the model: through the model TensorFlow does not find the states of random generators
        # (dropout, augmentation), nor what a layer stores in a list, such as the moments of a residual block.
        variables = [variable.value for variable in model.variables]
        checkpoint = tf.train.Checkpoint(variables=variables, optimizer=optimizer, position=position)
        directory = folder / "checkpoints"
        # All workers have to take part in saving; the files of those other than the chief are not needed.
        own = directory if task.chief else folder / f"scratch-{task.kind}-{task.index}"
        self.reader = tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=2)
        self.writer = tf.train.CheckpointManager(checkpoint, str(own), max_to_keep=1) if not task.chief else self.reader

    def __enter__(self) -> Self:
        self._previous_handler = None
        if self.handles_sigterm and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, lambda *_: self.terminated.set())
        return self

    def __exit__(self, *error: object) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)

    def restore(self) -> bool:
        """Restore the last checkpoint; return whether there was one."""
        checkpoint = self.reader.restore_or_initialize()
        calls.restore(self.callbacks, self.position.callbacks)
        return bool(checkpoint)

    def note(self) -> None:
        """Record in the journal, and print, the step at which training resumes."""
        step, epoch = self.position.step, len(self.position.curves)
        self.position.journal.append({"epoch": epoch, "callback": "checkpoint", "what": f"went on at step {step}"})
        print(f"went on at step {step}, epoch {epoch + 1}", flush=True)

    def save(self) -> None:
        """Write a checkpoint; with several workers all of them must call it."""
        self.position.callbacks = calls.state(self.callbacks)
        self.writer.save(checkpoint_number=self.position.step)

    def stop(self) -> None:
        """Save a checkpoint and end training.

        Raises:
            PreemptedError: always.
        """
        self.save()
        raise PreemptedError(f"Training was stopped; it resumes at step {self.position.step} when started again.")
