"""What callbacks did is written down, and what TensorBoard shows is there."""

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
        name: [e["epoch"] for e in ended.journal if e["callback"] == name] for name in calls.STATE if name != "Journal"
    }
    assert acted["ModelCheckpoint"] == improved
    assert acted["EarlyStopping"] == [len(scores) - 1] == [ended.best + 3]
    assert acted["ReduceLROnPlateau"] and all(epoch > 0 for epoch in acted["ReduceLROnPlateau"])
    lowered = [entry["what"] for entry in ended.journal if entry["callback"] == "ReduceLROnPlateau"]
    assert "learning rate from 0.1 to 0.03" in lowered[0]


def test_only_the_chief_gets_callbacks_that_write(tmp_path):
    settings = {**TRAINING, "schedule": "plateau"}
    names = [
        [type(one).__name__ for one in calls.create(settings, "accuracy", tmp_path, chief)] for chief in (True, False)
    ]
    assert names[0] == ["ModelCheckpoint", "EarlyStopping", "ReduceLROnPlateau", "TensorBoard", "Journal"]
    assert names[1] == ["EarlyStopping", "ReduceLROnPlateau", "Journal"]


def test_what_callbacks_remember_survives(tmp_path):
    settings = {**TRAINING, "schedule": "plateau", "tensorboard": False}
    one, other = (calls.create(settings, "accuracy", tmp_path, True) for _ in range(2))
    one[0].best, one[1].best, one[1].wait, one[2].cooldown_counter = np.float32(0.5), 0.5, 2, 1
    calls.restore(other, calls.state(one))
    assert (other[0].best, other[1].wait, other[2].cooldown_counter) == (0.5, 2, 1)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    ended = fit({"tensorboard": True, "profile": True, "epochs": 3, "patience": 0}, folder)
    read = EventAccumulator(str(folder / "logs" / "train"), size_guidance={"tensors": 0})
    read.Reload()
    return folder / "logs", read, ended


def test_event_files_hold_scalars_histograms_graph_and_profile(events):
    folder, read, ended = events
    tags = set(read.Tags()["tensors"])
    assert {"epoch_loss", "epoch_valid_loss", "epoch_accuracy", "epoch_learning_rate"} <= tags
    assert any(tag.endswith("/histogram") for tag in tags)
    assert read.Tags()["graph"]
    assert list(folder.rglob("*.xplane.pb"))
    written = [float(np.frombuffer(e.tensor_proto.tensor_content, np.float32)[0]) for e in read.Tensors("epoch_loss")]
    assert written == pytest.approx([curve["loss"] for curve in ended.curves], rel=1e-5)
