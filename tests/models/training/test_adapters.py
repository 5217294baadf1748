"""Low-rank adapters with frozen weights, and a refresh of a served model from end to end."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from support.command import showcase
from support.pushed_home import read_runs

from models.saved_model import restore
from models.training import adapters

pytestmark = pytest.mark.system


def network(seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input([8, 8, 3])
    hidden = keras.layers.Conv2D(16, 3, use_bias=False)(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Flatten()(hidden)
    hidden = keras.layers.Dense(32, activation="relu")(hidden)
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


def x(rows: int = 64) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(rows, 8, 8, 3)).astype(np.float32)


def test_adapters_keep_the_answers_before_training_and_merge_on_save(tmp_path):
    model, plain = network(), network()
    before = plain(x()).numpy()
    adapters.add(model, 2)
    np.testing.assert_allclose(model(x()).numpy(), before, atol=1e-6)
    frozen = [layer._kernel.numpy() for layer in model.layers if getattr(layer, "lora_enabled", False)]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x(), (x()[:, 0, 0, 0] > 0).astype(int), epochs=3, verbose=0)
    after = model(x()).numpy()
    assert np.abs(after - before).max() > 1e-3
    unchanged = [layer._kernel.numpy() for layer in model.layers if getattr(layer, "lora_enabled", False)]
    assert frozen and all((first == second).all() for first, second in zip(frozen, unchanged, strict=True))
    model.save_weights(tmp_path / "model.weights.h5")
    plain.load_weights(tmp_path / "model.weights.h5")  # the same layers as before
    np.testing.assert_allclose(plain(x()).numpy(), after, atol=1e-5)


def test_few_weights_are_trainable_and_moments_stay_frozen():
    model = network()
    whole = adapters.count_trainable(model)
    remaining = adapters.add(model, 2)
    convolution, dense = 2 * (3 * 3 * 3 + 16), 2 * (6 * 6 * 16 + 32) + 32
    head = 32 * 2 + 2  # it has fewer weights than its adapters would have
    assert remaining == convolution + dense + head == adapters.count_trainable(model) < whole / 10
    moments = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = moments[0].moving_mean.numpy()
    model(x() + 5, training=True)
    assert (moments[0].moving_mean.numpy() == before).all()


def test_refresh_without_a_served_model_is_refused(tmp_path):
    process = showcase("refresh", "fraud", "--home", tmp_path)
    assert process.returncode == 2 and "There is no pushed model of fraud to refresh" in process.stderr


def test_refresh_without_newer_spans_is_refused(pushed_home):
    facts = read_runs(pushed_home)["fraud"]["facts"]
    process = showcase("refresh", "fraud", "--home", pushed_home, "--data", facts["source"])
    last = facts["spans"].partition(":")[2]
    assert process.returncode == 2 and f"There is no span newer than {last}" in process.stderr


@pytest.mark.slow
def test_refresh_trains_fewer_weights_and_passes_the_same_gates(tmp_path):
    home, raw = tmp_path / "home", tmp_path / "raw"
    assert showcase("generate", "fraud", "--rows", 60_000, "--days", 80, "--out", raw).returncode == 0
    small = ("--set", "epochs=4", "--set", "min_pr_auc=0.02", "--set", "max_pr_auc_loss=1", "--set", "max_gap=0")
    first = showcase("run", "fraud", "--home", home, "--data", raw, "--spans", "0:59", *small, "--json")
    assert first.returncode == 0, first.stderr
    second = showcase("run", "fraud", "--home", home, "--data", raw, "--spans", "0:59", *small, "--json")
    served = json.loads(second.stdout)
    assert served["facts"]["version"] == "1" and served["facts"]["same_as"] == json.loads(first.stdout)["id"]
    refresh = showcase("refresh", "fraud", "--home", home, "--data", raw, "--json", *small[2:])
    assert refresh.returncode == 0, refresh.stderr + refresh.stdout
    ended = json.loads(refresh.stdout)
    assert ended["facts"]["version"] == "2" and ended["facts"]["spans"] == "20:79"
    assert ended["facts"]["base"] == served["id"]
    weights = [restore.read_weights(home / f"fraud/versions/{n}/assets.extra/model.weights.h5") for n in (1, 2)]
    assert weights[0].keys() == weights[1].keys()
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    trained = [
        json.loads(path.read_text()) for path in Path(home).glob("fraud/artifacts/Trainer/model_run/*/training.json")
    ]
    counts = sorted(record["trainable"] for record in trained)
    assert counts[0] < counts[1] / 2
