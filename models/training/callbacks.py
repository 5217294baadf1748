"""Keras callbacks in our training loop: creation, a journal of their actions, and their state across restarts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

BEST = "best.weights.h5"
STATE = {
    "ModelCheckpoint": ("best",),
    "EarlyStopping": ("best", "wait", "stopped_epoch"),
    "ReduceLROnPlateau": ("best", "wait", "cooldown_counter"),
    "CallbackJournal": ("best", "rate"),
}
PROFILED_BATCHES = (5, 10)  # first and last batch of the first epoch that the profile covers


class CallbackJournal(keras.callbacks.Callback):
    """Records, epoch by epoch, the actions of the other callbacks; it must be the last of the list.

    Attributes:
        entries: One dict for each event: ``epoch`` from 0, ``callback``, ``what``.
        best: The best metric of the epochs so far.
        rate: The learning rate at the end of the last epoch.
    """

    def __init__(self, watched: list[keras.callbacks.Callback]):
        super().__init__()
        self.entries: list[dict[str, Any]] = []
        self._watched = {type(callback).__name__: callback for callback in watched}
        self.best: float | None = None
        self.rate: float | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the callbacks whose state has changed since the last epoch."""
        checkpoint, stopping = self._watched.get("ModelCheckpoint"), self._watched.get("EarlyStopping")
        if checkpoint is not None and checkpoint.best != self.best:
            self.best = float(checkpoint.best)
            self._record(epoch, "ModelCheckpoint", f"saved these weights: {checkpoint.monitor} {self.best:.4f}")
        if stopping is not None and self.model.stop_training:
            self._record(epoch, "EarlyStopping", f"stopped: {stopping.wait} epochs without a better {stopping.monitor}")
        rate = float(self.model.optimizer.learning_rate.numpy())
        if "ReduceLROnPlateau" in self._watched and self.rate is not None and rate < self.rate:
            self._record(epoch, "ReduceLROnPlateau", f"learning rate from {self.rate:.3g} to {rate:.3g}")
        self.rate = rate

    def _record(self, epoch: int, callback: str, event: str) -> None:
        self.entries.append({"epoch": epoch, "callback": callback, "what": event})


def create(settings: Mapping[str, Any], monitor: str, folder: Path, chief: bool) -> list[keras.callbacks.Callback]:
    """Create the callbacks that the settings configure; those that write files only if this process is the chief.

    Args:
        settings: ``patience`` (0: train all epochs), ``schedule`` (plateau: reduce the rate when the metric stops
            improving) and ``tensorboard``.
        monitor: Name of the metric on valid; higher is better.
        folder: Folder of the best weights and the event files.
        chief: Whether this process writes files.

    Question: B15
    Answer: The ones I use most: ModelCheckpoint saves the best epoch's weights; EarlyStopping ends training that no
        longer improves; ReduceLROnPlateau lowers the learning rate; TensorBoard writes curves, histograms, graph and
        profile; BackupAndRestore resumes a killed run. Monitor a validation metric, and let only the chief write files.
        Here our own checkpoint of weights, optimizer, position and callback state replaces BackupAndRestore, and a
        journal records what each callback did.
    Evidence: tour.evidence.training.trainer_output.callbacks_of_run
    Proof: tests/models/training/test_callbacks.py::test_each_callback_is_recorded_when_it_acts

    Question: A7
    Answer: TensorBoard visualises training: scalars such as the loss by epoch, histograms of weights, the graph of the
        step, and a profile of where time goes, with several runs side by side. A callback or tf.summary writes event
        files, and `tensorboard --logdir` serves them. It is a package of its own now, and the profile tab is xprof.
        Here each run's event files are kept with its training record.
    Evidence: tour.evidence.training.trainer_output.event_files
    Proof: tests/models/training/test_callbacks.py::test_event_files_hold_scalars_histograms_graph_and_profile
    """
    callbacks: list[keras.callbacks.Callback] = []
    if chief:
        callbacks.append(
            keras.callbacks.ModelCheckpoint(
                str(folder / BEST), monitor=monitor, mode="max", save_best_only=True, save_weights_only=True
            )
        )
    if settings["patience"]:
        callbacks.append(keras.callbacks.EarlyStopping(monitor=monitor, mode="max", patience=settings["patience"]))
    if settings["schedule"] == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor=monitor, mode="max", factor=0.3, patience=max(1, settings["patience"] // 2)
            )
        )
    if chief and settings["tensorboard"]:
        callbacks.append(
            keras.callbacks.TensorBoard(
                str(folder / "logs"), histogram_freq=1, profile_batch=PROFILED_BATCHES if settings["profile"] else 0
            )
        )
    return [*callbacks, CallbackJournal(callbacks)]


def state(callbacks: list[keras.callbacks.Callback]) -> dict[str, dict[str, Any]]:
    """Return the state of the callbacks as JSON values."""
    return {
        type(callback).__name__: {
            name: _to_plain(getattr(callback, name)) for name in STATE.get(type(callback).__name__, ())
        }
        for callback in callbacks
    }


def restore(callbacks: list[keras.callbacks.Callback], saved: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore what :func:`state` returned; call it after ``on_train_begin``, which resets the callbacks."""
    for callback in callbacks:
        for name, value in saved.get(type(callback).__name__, {}).items():
            setattr(callback, name, value)


def _to_plain(value: Any) -> Any:
    return float(value) if isinstance(value, tf.Tensor) or hasattr(value, "dtype") else value
