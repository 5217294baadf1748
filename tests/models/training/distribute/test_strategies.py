"""Equal weights under every strategy, and settings that are refused before training starts."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from support.launcher import start_launcher
from support.small_jobs import STEPS, load_weights, max_difference, read_record, small_job, train_job

from models import default_settings
from models.network import build
from models.training import entry_point
from models.training.callbacks import BEST
from models.training.distribute import strategies
from models.training.distribute.job import SINGLE_TASK, ClusterTask

pytestmark = pytest.mark.system

# Float32 sums in another order: the measured difference is 1.4e-7 on weights of order 1 after these steps.
TOLERANCE = 2e-6


def model_weights(job: entry_point.TrainingJob) -> list[np.ndarray]:
    """The best weights in the model's own order."""
    data = entry_point.TrainingData.from_store(job)
    model = build(data.network, job.settings, data.features, job.pretrained)
    model.load_weights(Path(job.folder, BEST))
    return [variable.numpy() for variable in model.trainable_variables]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A job trained on one device with whole batches, the reference for the others."""
    job = small_job(tmp_path_factory.mktemp("alone"))
    train_job(job)
    return job


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """A job that two workers have trained, and the ``TF_CONFIG`` from the environment of each."""
    job = small_job(tmp_path_factory.mktemp("multiworker") / "job", strategy="multiworker")
    with start_launcher(job) as launched:
        launched.wait_for(r"worker 1 is process")
        environments = [Path(f"/proc/{pid}/environ").read_text() for _, pid in sorted(launched.pids().items())]
        assert launched.end() == 0, launched.output
    return job, [json.loads(text.split("TF_CONFIG=")[1].split("\0")[0]) for text in environments]


@pytest.mark.slow
def test_two_workers_get_their_tasks_and_write_one_result(two_workers):
    job, configs = two_workers
    assert [config["task"] for config in configs] == [{"type": "worker", "index": 0}, {"type": "worker", "index": 1}]
    assert configs[0]["cluster"] == configs[1]["cluster"] and len(set(configs[0]["cluster"]["worker"])) == 2
    assert read_record(job)["replicas"] == 2


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        # With clipping the norm has to be that of the whole batch.
        ("mirrored", {"clip_norm": 0.05}),
        pytest.param("multiworker", {}, marks=pytest.mark.slow),
        pytest.param("parameter-server", {"workers": 1}, marks=pytest.mark.slow),
    ],
)
def test_the_same_weights_under_every_strategy(request, alone, tmp_path, strategy, changes):
    oracle = alone
    if strategy == "multiworker":
        job = request.getfixturevalue("two_workers")[0]
    else:
        job = small_job(tmp_path / "job", strategy=strategy, **changes)
        train_job(job)
    if "clip_norm" in changes:
        oracle = small_job(tmp_path / "alone", clip_norm=changes["clip_norm"])
        train_job(oracle)
        assert max_difference(load_weights(oracle), load_weights(alone)) > 1e-3  # otherwise nothing was clipped
    actual, expected = read_record(job), read_record(oracle)
    assert actual["replicas"] == (1 if strategy == "parameter-server" else 2)
    assert actual["steps"] == expected["steps"] == STEPS and actual["best_epoch"] == expected["best_epoch"]
    assert max_difference(load_weights(job), load_weights(oracle)) < TOLERANCE
    assert [c["loss"] for c in actual["curves"]] == pytest.approx([c["loss"] for c in expected["curves"]], rel=1e-5)


def test_another_seed_gives_other_weights(alone, tmp_path):
    job = small_job(tmp_path / "job", seed=2)
    train_job(job)
    assert max_difference(load_weights(job), load_weights(alone)) > 1e-2


@pytest.mark.parametrize(
    "switch",
    [
        {"accumulate": 4},
        pytest.param({"xla": True}, marks=pytest.mark.slow),
        pytest.param({"remat": True}, marks=pytest.mark.slow),
    ],
)
def test_step_options_do_not_change_the_weights(alone, tmp_path, switch):
    job = small_job(tmp_path / "job", **switch)
    train_job(job)
    # A wrapped layer has another path, but its weights keep their order.
    assert max_difference(dict(enumerate(model_weights(job))), dict(enumerate(model_weights(alone)))) < 1e-4


@pytest.mark.slow
def test_mixed_precision_keeps_float32_weights(alone, tmp_path):
    job = small_job(tmp_path / "job", mixed_precision=True)
    train_job(job)
    assert {value.dtype.name for value in load_weights(job).values()} <= {"float32", "int64"}
    assert 0 < max_difference(load_weights(job), load_weights(alone)) < 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "parameter-server", "xla": True}, "xla cannot be combined with parameter-server"),
        (
            {"strategy": "parameter-server", "deterministic": True},
            "deterministic cannot be combined with several workers",
        ),
        ({"strategy": "mirrored", "workers": 3}, "A batch of 128 cannot be cut into 3 equal parts"),
        ({"accumulate": 3}, "A batch of 128 cannot be cut into 3 equal parts"),
        ({"strategy": "mirrored", "accumulate": 128}, "cannot be cut into 256 equal parts"),
    ],
)
def test_incompatible_settings_are_refused(changes, message):
    default_settings.check_settings(default_settings.TRAINING)
    with pytest.raises(ValueError, match=message):
        default_settings.check_settings({**default_settings.TRAINING, **changes})


def test_xla_with_synchronized_batch_normalization_is_refused():
    inputs = tf.keras.Input([4])
    for synchronized in (False, True):
        layer = tf.keras.layers.BatchNormalization(synchronized=synchronized)
        model = tf.keras.Model(inputs, layer(inputs))
        settings = {"xla": True, "strategy": "mirrored"}
        if synchronized:
            with pytest.raises(ValueError, match="xla cannot be combined with mirrored here"):
                strategies.check_model(model, settings, 2)
        strategies.check_model(model, settings, 2 - synchronized)


def test_missing_tpu_is_refused(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    with pytest.raises(ValueError, match="No TPU was found .* set TPU_NAME on a TPU host"):
        strategies.create({"strategy": "tpu"}, ClusterTask())


def test_a_tpu_is_resolved_connected_initialised_and_used_in_this_order(monkeypatch):
    calls = []
    monkeypatch.setenv("TPU_NAME", "pod-7")

    def resolver(tpu):
        calls.append(("resolver", tpu))
        return "resolved"

    distribute = SimpleNamespace(
        cluster_resolver=SimpleNamespace(TPUClusterResolver=resolver),
        TPUStrategy=lambda resolved: calls.append(("strategy", resolved)) or "strategy",
    )
    tpu = SimpleNamespace(
        experimental=SimpleNamespace(initialize_tpu_system=lambda resolved: calls.append(("initialised", resolved)))
    )
    config = SimpleNamespace(experimental_connect_to_cluster=lambda resolved: calls.append(("connected", resolved)))
    assert strategies.tpu_strategy(distribute, tpu, config) == "strategy"
    assert calls == [
        ("resolver", "pod-7"),
        ("connected", "resolved"),
        ("initialised", "resolved"),
        ("strategy", "resolved"),
    ]


@pytest.mark.parametrize("text", ["{", '{"cluster": {}}', '{"cluster": {}, "task": {"type": "worker"}}', "[1]"])
def test_invalid_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG needs"):
        ClusterTask.from_environment()


def test_tf_config_gives_the_task_and_its_share(monkeypatch):
    peers = {"worker": ["a:1", "b:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": peers, "task": {"type": "worker", "index": 1}}))
    task = ClusterTask.from_environment()
    assert (task.kind, task.index, task.chief, task.count("worker")) == ("worker", 1, False, 2)
    assert ClusterTask("worker", 0, peers).chief and SINGLE_TASK.chief
    assert strategies.compute_share(SimpleNamespace(num_replicas_in_sync=4), task) == strategies.BatchShare(4, 2, 2)


def test_saved_job_is_read_unchanged(tmp_path):
    job = small_job(tmp_path / "job")
    again = asdict(entry_point.TrainingJob.read(job.save(tmp_path / "job.json")))
    assert again == json.loads(json.dumps(asdict(job)))  # JSON turns a tuple into a list
