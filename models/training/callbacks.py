"""Keras' callbacks in our loop: which there are, what each did, and how they go on after a restart."""

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
    "Journal": ("best", "rate"),
}
PROFILED = (5, 10)  # batches of the first epoch that a profile covers


class Journal(keras.callbacks.Callback):
    """Writes down, epoch by epoch, what each of the other callbacks did; it has to be the last of the list.

    Attributes:
        entries: A dict an event: ``epoch`` from 0, ``callback``, ``what``.
        best: The best metric of the epochs so far.
        rate: The learning rate at the end of the last epoch.
    """

    def __init__(self, watched: list[keras.callbacks.Callback]):
        super().__init__()
        self.entries: list[dict[str, Any]] = []
        self._watched = {type(one).__name__: one for one in watched}
        self.best: float | None = None
        self.rate: float | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Compares each callback with how it was an epoch ago."""
        checkpoint, stopping = self._watched.get("ModelCheckpoint"), self._watched.get("EarlyStopping")
        if checkpoint is not None and checkpoint.best != self.best:
            self.best = float(checkpoint.best)
            self._note(epoch, "ModelCheckpoint", f"kept these weights: {checkpoint.monitor} {self.best:.4f}")
        if stopping is not None and self.model.stop_training:
            self._note(epoch, "EarlyStopping", f"stopped: {stopping.wait} epochs without a better {stopping.monitor}")
        rate = float(self.model.optimizer.learning_rate.numpy())
        if "ReduceLROnPlateau" in self._watched and self.rate is not None and rate < self.rate:
            self._note(epoch, "ReduceLROnPlateau", f"learning rate from {self.rate:.3g} to {rate:.3g}")
        self.rate = rate

    def _note(self, epoch: int, callback: str, what: str) -> None:
        self.entries.append({"epoch": epoch, "callback": callback, "what": what})


def create(settings: Mapping[str, Any], monitor: str, folder: Path, chief: bool) -> list[keras.callbacks.Callback]:
    """The callbacks that ``settings`` ask for; those that write files only where this process is the chief.

    Args:
        settings: ``patience`` (0: train all epochs), ``schedule`` (plateau: the rate falls when the metric stands still),
            ``tensorboard``.
        monitor: The metric on valid, to be raised.
        folder: Where the best weights and the event files go.
        chief: Whether this process is the one that writes.

    Question: B15
    Answer: ModelCheckpoint keeps the best epoch's weights; EarlyStopping ends what no longer gains; ReduceLROnPlateau or a
        schedule lowers the rate; TensorBoard writes curves, histograms, graph and profile; BackupAndRestore, here our
        checkpoint of weights, optimizer, position and callbacks, lets a killed run go on at the next step. Monitor a
        validation metric, and let the chief alone write.
    Evidence: tour.evidence.training.trainer_output.callbacks_of_run
    Proof: tests/models/training/test_callbacks.py::test_each_callback_is_recorded_when_it_acts

    Question: A7
    Answer: It shows what training writes down: scalars such as loss by epoch, histograms of weights, the graph of the step,
        and a profile of where its time goes; several runs side by side. Event files are written by a callback or
        tf.summary, and `tensorboard --logdir` serves them. It is a package of its own now; the profile tab is xprof.
    Evidence: tour.evidence.training.trainer_output.event_files
    Proof: tests/models/training/test_callbacks.py::test_event_files_hold_scalars_histograms_graph_and_profile
    """
    made: list[keras.callbacks.Callback] = []
    if chief:
        made.append(
            keras.callbacks.ModelCheckpoint(
                str(folder / BEST), monitor=monitor, mode="max", save_best_only=True, save_weights_only=True
            )
        )
    if settings["patience"]:
        made.append(keras.callbacks.EarlyStopping(monitor=monitor, mode="max", patience=settings["patience"]))
    if settings["schedule"] == "plateau":
        made.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor=monitor, mode="max", factor=0.3, patience=max(1, settings["patience"] // 2)
            )
        )
    if chief and settings["tensorboard"]:
        made.append(
            keras.callbacks.TensorBoard(
                str(folder / "logs"), histogram_freq=1, profile_batch=PROFILED if settings["profile"] else 0
            )
        )
    return [*made, Journal(made)]


def state(callbacks: list[keras.callbacks.Callback]) -> dict[str, dict[str, Any]]:
    """What the callbacks remember, as plain values."""
    return {
        type(one).__name__: {name: _plain(getattr(one, name)) for name in STATE.get(type(one).__name__, ())}
        for one in callbacks
    }


def restore(callbacks: list[keras.callbacks.Callback], remembered: Mapping[str, Mapping[str, Any]]) -> None:
    """The reverse of :func:`state`; call it after ``on_train_begin``, which resets the callbacks."""
    for one in callbacks:
        for name, value in remembered.get(type(one).__name__, {}).items():
            setattr(one, name, value)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, tf.Tensor) or hasattr(value, "dtype") else value
