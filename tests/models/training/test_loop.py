"""The training loop against Keras' fit, and its resumption after a stop."""

import os
import signal
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.line_network import BATCH, ROWS, Line, data, fit, settings

from models.catalog import find_use_case
from models.errors import PreemptedError
from models.image import model as image
from models.input import feed_from_memory
from models.network import build, predict
from models.training import callbacks as calls
from models.training import checkpoint, optimizers
from models.training.distribute.job import SINGLE_TASK

pytestmark = pytest.mark.system


@pytest.mark.parametrize("normalised", [False, True])
def test_the_loop_ends_with_the_weights_of_keras_fit(normalised):
    changes = {"patience": 0, "normalised": normalised, "l2": 0.01}
    ours = fit(changes)
    keras.utils.set_random_seed(1)
    _, feed = feed_from_memory(data(), BATCH, 1)
    model = Line.build(settings(**changes), {})
    optimizer = optimizers.create(settings(**changes), 4 * ROWS // BATCH)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    stream = feed().map(lambda batch: ({"x": batch["x"]}, batch["y"]))
    best, best_weights = -1.0, None
    for epoch in range(4):
        model.fit(stream.skip(epoch * ROWS // BATCH), steps_per_epoch=ROWS // BATCH, verbose=0)
        accuracy = Line.quality(data(200)["y"], predict(model, data(200)))["accuracy"]
        if accuracy > best:
            best, best_weights = accuracy, model.get_weights()
    for weights, expected in zip(ours.model.get_weights(), best_weights, strict=True):
        np.testing.assert_allclose(weights, expected, atol=2e-6)


@cache
def train_uninterrupted(**changes):
    """An uninterrupted training, cached for all tests that compare with it."""
    return fit({**changes})


def test_returned_weights_are_those_of_the_best_epoch():
    ended = train_uninterrupted(epochs=12, patience=0, learning_rate=0.05)
    scores = [curve["accuracy"] for curve in ended.curves]
    assert ended.best == int(np.argmax(scores)) < 11
    again = Line.quality(data(200)["y"], predict(ended.model, data(200)))["accuracy"]
    assert again == pytest.approx(max(scores))


def test_patience_stops_early_and_zero_trains_all_epochs():
    assert len(fit({"epochs": 60, "patience": 2, "learning_rate": 0.1}).curves) < 60
    assert len(train_uninterrupted(epochs=12, patience=0, learning_rate=0.05).curves) == 12


STOPPED = {"epochs": 6, "patience": 4, "checkpoint_steps": 7, "normalised": True}


def check_equal(ended, expected):
    """Check that an interrupted training has ended with the same result as an uninterrupted one."""
    assert ended.steps == expected.steps and ended.best == expected.best
    assert [c["loss"] for c in ended.curves] == pytest.approx([c["loss"] for c in expected.curves], rel=1e-6)
    for actual, reference in zip(ended.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_allclose(actual, reference, atol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch, schedule):
    changes = {**STOPPED, "schedule": schedule}
    saves, save = [], checkpoint.CheckpointSaver.save

    def dying(self):
        save(self)
        saves.append(self.position.step)
        if len(saves) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.CheckpointSaver, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            fit(changes, tmp_path)
    assert saves[-1] == 28 and saves[-1] % (ROWS // BATCH)  # inside an epoch
    ended = fit(changes, tmp_path)
    check_equal(ended, train_uninterrupted(**changes))
    assert {"epoch": 2, "callback": "checkpoint", "what": f"went on at step {saves[-1]}"} in ended.journal


def test_sigterm_saves_and_training_resumes_at_the_next_step(tmp_path, monkeypatch):
    changes, before = {**STOPPED, "schedule": "cosine"}, signal.getsignal(signal.SIGTERM)
    stop_at = ROWS // BATCH + 3  # inside the second epoch, and no step at which a checkpoint is due

    def after_step(self, step, logs=None):
        if step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(calls.CallbackJournal, "on_train_batch_end", after_step)
        with pytest.raises(PreemptedError, match=rf"resumes at step {stop_at} "):
            fit(changes, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    ended = fit(changes, tmp_path)
    check_equal(ended, train_uninterrupted(**changes))
    assert {"epoch": 1, "callback": "checkpoint", "what": f"went on at step {stop_at}"} in ended.journal


def test_checkpoint_restores_every_variable_of_the_image_network(tmp_path):
    """Also states of random generators and moments inside a custom layer, which TensorFlow does not find in a model."""
    settings = {name: value for group in find_use_case("image").settings.values() for name, value in group.items()}
    settings |= {"classes": ["a", "b", "c"], "filters": 4}

    def create():
        model = build(image, settings, {"pixels": tf.TensorSpec([None, 8, 8, 1])})
        optimizer = optimizers.create(settings, 100)
        optimizer.build(model.trainable_variables)
        return model, checkpoint.CheckpointSaver(
            model, optimizer, checkpoint.TrainingPosition(), [], tmp_path, SINGLE_TASK
        )

    model, saver = create()
    for number, variable in enumerate(model.variables):
        variable.assign(np.full(variable.shape, 100 + number, variable.dtype))
    saver.save()
    other, saver = create()
    assert saver.restore()
    for variable, again in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(again, variable, err_msg=variable.path)


def test_a_finished_training_names_its_best_epoch_and_is_not_trained_again(tmp_path):
    first = fit({"epochs": 3}, tmp_path)
    improved = [e["epoch"] for e in first.journal if e["callback"] == "ModelCheckpoint"]
    assert improved[-1] == first.best and (tmp_path / calls.BEST).is_file()
    second = fit({"epochs": 3}, tmp_path)
    assert second.steps == first.steps and second.curves == first.curves
