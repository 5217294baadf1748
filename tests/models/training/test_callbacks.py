"""The journal of the callbacks, their state, and TensorBoard's event files."""

import numpy as np
import pytest
from support.line_network import fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.default_settings import TRAINING
from models.training import callbacks as calls

pytestmark = pytest.mark.system


def test_each_callback_is_recorded_when_it_acts():
    ended = fit({"epochs": 60, "patience": 3, "schedule": "plateau", "learning_rate": 0.1})
    scores = [curve["accuracy"] for curve in ended.curves]
    improved = [n for n, score in enumerate(scores) if score > max(scores[:n], default=-1)]
    acted = {
        name: [e["epoch"] for e in ended.journal if e["callback"] == name]
        for name in calls.STATE
        if name != "CallbackJournal"
    }
    assert acted["ModelCheckpoint"] == improved
    assert acted["EarlyStopping"] == [len(scores) - 1] == [ended.best + 3]
    assert acted["ReduceLROnPlateau"] and all(epoch > 0 for epoch in acted["ReduceLROnPlateau"])
    lowered = [entry["what"] for entry in ended.journal if entry["callback"] == "ReduceLROnPlateau"]
    assert "learning rate from 0.1 to 0.03" in lowered[0]


def test_only_the_chief_gets_callbacks_that_write(tmp_path):
    settings = {**TRAINING, "schedule": "plateau"}
    names = [
        [type(callback).__name__ for callback in calls.create(settings, "accuracy", tmp_path, chief)]
        for chief in (True, False)
    ]
    assert names[0] == ["ModelCheckpoint", "EarlyStopping", "ReduceLROnPlateau", "TensorBoard", "CallbackJournal"]
    assert names[1] == ["EarlyStopping", "ReduceLROnPlateau", "CallbackJournal"]


def test_callback_state_is_saved_and_restored(tmp_path):
    settings = {**TRAINING, "schedule": "plateau", "tensorboard": False}
    first, second = (calls.create(settings, "accuracy", tmp_path, True) for _ in range(2))
    first[0].best, first[1].best, first[1].wait, first[2].cooldown_counter = np.float32(0.5), 0.5, 2, 1
    calls.restore(second, calls.state(first))
    assert (second[0].best, second[1].wait, second[2].cooldown_counter) == (0.5, 2, 1)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    ended = fit({"tensorboard": True, "profile": True, "epochs": 3, "patience": 0}, folder)
    accumulator = EventAccumulator(str(folder / "logs" / "train"), size_guidance={"tensors": 0})
    accumulator.Reload()
    return folder / "logs", accumulator, ended


def test_event_files_hold_scalars_histograms_graph_and_profile(events):
    folder, accumulator, ended = events
    tags = set(accumulator.Tags()["tensors"])
    assert {"epoch_loss", "epoch_valid_loss", "epoch_accuracy", "epoch_learning_rate"} <= tags
    assert any(tag.endswith("/histogram") for tag in tags)
    assert accumulator.Tags()["graph"]
    assert list(folder.rglob("*.xplane.pb"))
    written = [
        float(np.frombuffer(e.tensor_proto.tensor_content, np.float32)[0]) for e in accumulator.Tensors("epoch_loss")
    ]
    assert written == pytest.approx([curve["loss"] for curve in ended.curves], rel=1e-5)
