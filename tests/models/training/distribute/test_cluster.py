"""A training cluster whose processes are killed, stopped, or cannot start."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest
from support.launcher import start_launcher
from support.small_jobs import STEPS, load_weights, max_difference, read_record, small_job, train_job

from models.errors import PreemptedError
from models.training import entry_point, worker
from models.training.distribute import cluster
from models.training.distribute.job import ADDRESS_IN_USE, INVALID_SETTINGS, PREEMPTED

pytestmark = pytest.mark.system

ACTING = ("-m", "support.acting_worker")
# Acting: print that the checkpoint is written, and end with the exit code of a preempted process.
SAVED = "say it_goes_on_at_step_7 end 42"


def acting_job(folder: Path, strategy: str, acts: dict[str, list[str]], **changes) -> entry_point.TrainingJob:
    """A job for processes that act a script instead of training."""
    folder.mkdir()
    settings = {"strategy": strategy, "workers": 2, "parameter_servers": 1, "restarts": 2, "acts": acts, **changes}
    return entry_point.TrainingJob("fraud", settings, "", "", str(folder))


@pytest.fixture
def act(tmp_path, monkeypatch, capsys):
    """A function that runs a cluster of acting processes; returns the launcher's output and the error it raised."""
    monkeypatch.setattr(cluster, "WORKER", ACTING)

    def run(strategy: str, acts: dict[str, list[str]], **changes) -> tuple[str, Exception | None]:
        try:
            cluster.run(acting_job(tmp_path / "job", strategy, acts, **changes))
            error = None
        except (PreemptedError, RuntimeError, ValueError) as raised:
            error = raised
        return capsys.readouterr().out, error

    return run


def pids(output: str) -> dict[str, list[int]]:
    """The processes of each task in the order in which they were started."""
    by_task: dict[str, list[int]] = {}
    for name, pid in re.findall(r"^(\w+ \d+) is process (\d+)$", output, re.MULTILINE):
        by_task.setdefault(name, []).append(int(pid))
    return by_task


# The launcher, independent of training.


def test_only_the_chiefs_progress_is_printed(act):
    output, error = act(
        "parameter-server",
        {"chief 0": ["say epoch_1/1 say other end 0"], "worker 0": ["say epoch_9/9 stay"], "ps 0": ["stay"]},
        workers=1,
    )
    assert error is None and "epoch 1/1" in output
    assert "epoch 9/9" not in output and "other" not in output


@pytest.mark.parametrize("death", ["say last_words die", "say last_words end 3"])
def test_dead_worker_restarts_all_workers(act, death):
    acts = {"worker 0": ["stay", "end 0"], "worker 1": [f"await worker 0 1 {death}", "end 0"]}
    output, error = act("multiworker", acts)
    ending = "was killed by signal 9" if "die" in death else "ended with code 3"
    assert error is None and f"worker 1 {ending}: last words 2 restarts are left." in output
    assert {name: len(started) for name, started in pids(output).items()} == {"worker 0": 2, "worker 1": 2}


def test_dead_worker_of_a_parameter_server_is_replaced(act):
    acts = {"chief 0": ["await worker 1 2 end 0"], "worker 0": ["stay"], "worker 1": ["die", "stay"], "ps 0": ["stay"]}
    output, error = act("parameter-server", acts)
    assert error is None and "worker 1 was killed by signal 9: it wrote nothing. Training continues" in output
    assert {name: len(started) for name, started in pids(output).items()} == {name: 1 for name in acts} | {
        "worker 1": 2
    }


@pytest.mark.parametrize("victim", ["chief 0", "ps 0"])
def test_dead_coordinator_or_parameter_server_restarts_the_cluster(act, victim):
    acts = {"chief 0": ["await worker 0 2 end 0"], "worker 0": ["stay"], "ps 0": ["stay"]}
    acts[victim] = ["await worker 0 1 die", acts[victim][0]]
    output, error = act("parameter-server", acts, workers=1)
    assert error is None and f"{victim} was killed by signal 9: it wrote nothing. 2 restarts are left." in output
    assert {name: len(started) for name, started in pids(output).items()} == dict.fromkeys(acts, 2)


@pytest.mark.parametrize("strategy", ["mirrored", "parameter-server"])
def test_task_that_fails_after_all_restarts_is_named_with_its_log(act, tmp_path, strategy):
    acts = {"chief 0": ["say no_such_file end 1"], "worker 0": ["stay"], "worker 1": ["stay"], "ps 0": ["stay"]}
    output, error = act(strategy, acts, restarts=1)
    assert "chief 0 ended with code 1: no such file 0 restarts are left." in output
    log = tmp_path / "job" / "chief-0.log"
    words = f"chief 0 ended with code 1: no such file It was restarted 1 times; its log is {log}."
    assert isinstance(error, RuntimeError) and str(error) == words


def test_replacements_of_a_worker_are_limited_by_restarts(act):
    acts = {"chief 0": ["stay"], "worker 0": ["end 5"], "ps 0": ["stay"]}
    output, error = act("parameter-server", acts, workers=1, restarts=1)
    assert isinstance(error, RuntimeError) and "worker 0 ended with code 5" in str(error)
    # One replacement in each of the two clusters.
    assert {name: len(started) for name, started in pids(output).items()} == {"chief 0": 2, "worker 0": 4, "ps 0": 2}


def test_incompatible_settings_raise_without_a_restart(act):
    acts = {"worker 0": ["say no_TPU_was_found end 44"], "worker 1": ["stay"]}
    output, error = act("multiworker", acts)
    assert isinstance(error, ValueError) and str(error) == "no TPU was found"
    assert "restarts are left" not in output


@pytest.mark.parametrize(
    ("strategy", "acts"),
    [
        ("mirrored", {"chief 0": [f"stop save {SAVED}"]}),
        # Only the second worker ends, after it got SIGTERM.
        ("multiworker", {"worker 0": ["await worker 1 1 stop save stay"], "worker 1": [f"save {SAVED}"]}),
        (
            "parameter-server",
            {
                "chief 0": [f"await worker 0 1 await ps 0 1 stop save {SAVED}"],
                "worker 0": ["save say a_worker_was_told end 42"],
                "ps 0": ["save say a_server_was_told end 42"],
            },
        ),
    ],
)
def test_sigterm_is_forwarded_and_preemption_raised(act, strategy, acts):
    workers = len([name for name in acts if name.startswith("worker")])
    output, error = act(strategy, acts, workers=workers)
    assert isinstance(error, PreemptedError) and str(error) == "it goes on at step 7"
    assert set(pids(output)) == set(acts) and "restarts are left" not in output


def test_sigterm_before_training_raises_preemption(act):
    _, error = act("mirrored", {"chief 0": ["stop stay"]})
    assert isinstance(error, PreemptedError) and "before it had begun" in str(error)


def test_process_that_does_not_save_in_time_is_killed(act, monkeypatch):
    monkeypatch.setattr(cluster, "GRACE_SECONDS", 0.2)
    _, error = act("mirrored", {"chief 0": ["stop save stay"]})
    assert isinstance(error, PreemptedError) and "did not save in time" in str(error)


def test_a_killed_launcher_leaves_no_process(tmp_path):
    job = acting_job(tmp_path / "job", "multiworker", {f"worker {index}": ["say epoch_1/2 stay"] for index in (0, 1)})
    with start_launcher(job, *ACTING) as launched:
        launched.wait_for(r"epoch 1/")
        launched.child.kill()
        assert launched.end() == -signal.SIGKILL
        assert len(launched.pids()) == 2


# A worker before it trains.


def test_address_in_use_is_reported(tmp_path, monkeypatch):
    job = small_job(tmp_path / "job", strategy="multiworker", restarts=0)
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        listener.listen()
        addresses = {"worker": [f"localhost:{listener.getsockname()[1]}", "localhost:1"]}
        monkeypatch.setattr(cluster, "allocate_addresses", lambda settings: addresses)
        with pytest.raises(RuntimeError, match="worker 0 .*cannot listen on localhost:.* the address is in use"):
            cluster.run(job)


def test_worker_with_its_address_in_use_exits_with_unbound(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        listener.listen()
        address = f"localhost:{listener.getsockname()[1]}"
        config = {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        assert worker.main(["nowhere.json"]) == ADDRESS_IN_USE


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strategy": "mirrored", "accumulate": 3}, "A batch of 64 cannot be cut into 6 equal parts"),
        ({"strategy": "tpu"}, "No TPU was found"),  # detected by TensorFlow itself
    ],
)
def test_worker_with_incompatible_settings_exits_with_wrong(tmp_path, monkeypatch, capsys, changes, sentence):
    monkeypatch.delenv("TPU_NAME", raising=False)
    job = small_job(tmp_path / "job", **changes)
    assert worker.main([str(job.save(tmp_path / "job.json"))]) == INVALID_SETTINGS
    assert sentence in capsys.readouterr().out


def test_worker_that_saved_after_sigterm_exits_with_preempted(tmp_path, monkeypatch, capsys):
    def stop(job: entry_point.TrainingJob) -> None:
        raise PreemptedError(f"it goes on with {job.case}")

    monkeypatch.setattr(entry_point, "train", stop)
    job = small_job(tmp_path / "job", strategy="mirrored")
    assert worker.main([str(job.save(tmp_path / "job.json"))]) == PREEMPTED
    assert "it goes on with fraud" in capsys.readouterr().out


# Processes that train and are killed or stopped. They take many steps, so that a signal arrives during training.

LONG = {"epochs": 40, "max_steps": 10_000, "checkpoint_steps": 4}


def steps(job: entry_point.TrainingJob) -> int:
    return job.settings["epochs"] * STEPS // 2


@pytest.mark.slow
def test_killed_worker_restarts_the_cluster_from_its_checkpoint(tmp_path):
    uninterrupted, interrupted = (
        small_job(tmp_path / name, strategy=strategy, **LONG)
        for name, strategy in (("whole", "none"), ("hurt", "multiworker"))
    )
    train_job(uninterrupted)
    with start_launcher(interrupted) as launched:
        launched.wait_for(r"epoch 3/")
        launched.kill("worker 1")
        assert launched.end() == 0, launched.output
    output = launched.output
    assert re.search(r"worker [01] (was killed by signal 9|ended with code)", output)
    assert re.search(r"went on at step [1-9]", output)
    assert read_record(interrupted)["steps"] == read_record(uninterrupted)["steps"] == steps(interrupted)
    assert max_difference(load_weights(interrupted), load_weights(uninterrupted)) < 1e-4
    assert any(entry["callback"] == "checkpoint" for entry in read_record(interrupted)["journal"])


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "workers"), [("multiworker", 2), ("parameter-server", 1)])
def test_sigterm_saves_and_the_restart_resumes_at_the_next_step(tmp_path, strategy, workers):
    changes = {**LONG, "checkpoint_steps": 10_000}
    job = small_job(tmp_path / "job", strategy=strategy, workers=workers, **changes)
    uninterrupted = small_job(tmp_path / "whole", **changes)
    train_job(uninterrupted)
    with start_launcher(job) as first:
        first.wait_for(r"epoch 2/")
        first.child.send_signal(signal.SIGTERM)
        assert first.end() == 42, first.output
    stopped = int(re.search(r"resumes at step (\d+)", first.output)[1])
    with start_launcher(job) as second:
        assert second.end() == 0, second.output
    assert int(re.search(r"went on at step (\d+)", second.output)[1]) == stopped
    assert read_record(job)["steps"] == read_record(uninterrupted)["steps"] == steps(job)
    assert max_difference(load_weights(job), load_weights(uninterrupted)) < 1e-4


@pytest.mark.slow
def test_parameter_server_replaces_a_killed_worker_and_restarts_after_a_killed_server(tmp_path):
    job = small_job(tmp_path / "job", strategy="parameter-server", workers=2, **{**LONG, "epochs": 40})
    with start_launcher(job) as launched:
        launched.wait_for(r"epoch 3/")
        coordinator = launched.pids()["chief 0"]
        launched.kill("worker 1")
        launched.wait_for(r"worker 1 was killed by signal 9.* Training continues")
        epoch = int(re.findall(r"epoch (\d+)/", launched.output)[-1])
        launched.wait_for(rf"epoch {epoch + 2}/")
        assert launched.pids()["chief 0"] == coordinator
        launched.kill("ps 0")
        assert launched.end() == 0, launched.output
    assert re.search(r"went on at step [1-9]", launched.output)
    assert read_record(job)["steps"] == steps(job)
