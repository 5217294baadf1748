"""Processes that are killed, told to stop, or cannot start: what becomes of the training, and of the processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.small_jobs import furthest, weights

from models import cluster, training, worker
from models.errors import Preempted

LONG = {"epochs": 20, "max_steps": 10_000, "batch_size": 512, "checkpoint_steps": 4, "tensorboard": False}
LAUNCH = """
import sys
from pathlib import Path
from models import cluster
from models.errors import Preempted
from models.job import Job
try:
    cluster.run(Job.read(Path(sys.argv[1])))
except Preempted as stopped:
    print(stopped, flush=True)
    sys.exit(42)
"""


class Launched:
    """A launcher in a process of its own, its output watched."""

    def __init__(self, job: training.Job):
        path = training.prepared(job, training.Data.of(job)).save(Path(job.folder, "told.json"))
        self.log = Path(job.folder, f"launcher-{time.monotonic_ns()}.log")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "2"}
        with self.log.open("w") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(path)], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def until(self, pattern: str, seconds: float = 300) -> re.Match:
        """Waits for a line of the output."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.log.read_text())):
            assert self.child.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return found

    def pids(self) -> dict[str, int]:
        """The last process of each task."""
        said = re.findall(r"^(\w+ \d+) is process (\d+)$", self.log.read_text(), re.MULTILINE)
        return {name: int(pid) for name, pid in said}

    def end(self, seconds: float = 300) -> int:
        """Waits for the end; no process may be left."""
        code = self.child.wait(seconds)
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in self.pids().values()):
            assert time.monotonic() < deadline, "processes are left"
            time.sleep(0.05)
        return code


@pytest.fixture
def launch():
    """Starts launchers that do not outlive the test."""
    started = []

    def start(job: training.Job) -> Launched:
        started.append(Launched(job))
        return started[-1]

    yield start
    for one in started:
        one.child.kill()
        one.child.wait()


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def record(job: training.Job) -> dict:
    return json.loads(Path(job.folder, training.RESULT).read_text())


def test_two_workers_are_told_their_places_and_end_with_one_result(jobs, launch, tmp_path):  # noqa: F811
    job = jobs(tmp_path / "job", strategy="multiworker", epochs=1)
    launched = launch(job)
    launched.until(r"worker 1 is process")
    told = [
        json.loads(Path(f"/proc/{pid}/environ").read_text().split("TF_CONFIG=")[1].split("\0")[0])
        for _, pid in sorted(launched.pids().items())
    ]
    assert [one["task"] for one in told] == [{"type": "worker", "index": 0}, {"type": "worker", "index": 1}]
    assert told[0]["cluster"] == told[1]["cluster"] and len(set(told[0]["cluster"]["worker"])) == 2
    assert launched.end() == 0, launched.log.read_text()
    assert record(job)["replicas"] == 2


@pytest.mark.slow
def test_a_killed_worker_makes_the_cluster_go_on_from_its_checkpoint(jobs, launch, tmp_path):  # noqa: F811
    whole, hurt = (jobs(tmp_path / name, strategy="multiworker", **LONG) for name in ("whole", "hurt"))
    cluster.run(training.prepared(whole, training.Data.of(whole)))
    launched = launch(hurt)
    launched.until(r"epoch 3/")
    os.kill(launched.pids()["worker 1"], signal.SIGKILL)
    assert launched.end() == 0, launched.log.read_text()
    said = launched.log.read_text()
    assert re.search(r"worker [01] (was killed by signal 9|ended with code)", said) and "went on at step" in said
    assert record(hurt)["steps"] == record(whole)["steps"] == 20 * (record(whole)["rows"] // 512)
    assert furthest(weights(hurt), weights(whole)) < 1e-5
    assert any(entry["callback"] == "checkpoint" for entry in record(hurt)["journal"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["none", "multiworker", "parameter-server"])
def test_sigterm_saves_and_the_restart_goes_on_at_the_next_step(jobs, launch, tmp_path, strategy):  # noqa: F811
    changes = {
        **LONG,
        "strategy": strategy,
        "workers": 2 if strategy == "multiworker" else 1,
        "checkpoint_steps": 10_000,
    }
    job, whole = jobs(tmp_path / "job", **changes), jobs(tmp_path / "whole", **{**changes, "strategy": "none"})
    training.seed_everything(whole.settings)
    training.train(whole)
    first = launch(job)
    first.until(r"epoch 2/")
    first.child.send_signal(signal.SIGTERM)
    assert first.end() == 42, first.log.read_text()
    stopped = int(re.search(r"goes on at step (\d+)", first.log.read_text())[1])
    second = launch(job)
    assert int(second.until(r"went on at step (\d+)")[1]) == stopped
    assert second.end() == 0, second.log.read_text()
    assert record(job)["steps"] == record(whole)["steps"]
    assert furthest(weights(job), weights(whole)) < 1e-4


@pytest.mark.slow
def test_a_killed_worker_of_a_parameter_server_is_replaced_while_training_goes_on(jobs, launch, tmp_path):  # noqa: F811
    job = jobs(tmp_path / "job", strategy="parameter-server", workers=2, **{**LONG, "epochs": 60})
    launched = launch(job)
    launched.until(r"epoch 3/")
    coordinator = launched.pids()["chief 0"]
    os.kill(launched.pids()["worker 1"], signal.SIGKILL)
    launched.until(r"worker 1 was killed by signal 9.* Training goes on")
    assert launched.end() == 0, launched.log.read_text()
    assert launched.pids()["chief 0"] == coordinator
    assert record(job)["steps"] == 60 * (record(job)["rows"] // 512)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["chief 0", "ps 0"])
def test_a_killed_coordinator_or_parameter_server_restarts_the_cluster(jobs, launch, tmp_path, victim):  # noqa: F811
    job = jobs(tmp_path / "job", strategy="parameter-server", workers=1, **LONG)
    launched = launch(job)
    launched.until(r"epoch 3/")
    os.kill(launched.pids()[victim], signal.SIGKILL)
    assert launched.end() == 0, launched.log.read_text()
    assert re.search(r"went on at step [1-9]", launched.log.read_text())
    assert record(job)["steps"] == 20 * (record(job)["rows"] // 512)


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_process(jobs, launch, tmp_path):  # noqa: F811
    launched = launch(jobs(tmp_path / "job", strategy="multiworker", **LONG))
    launched.until(r"epoch 1/")
    launched.child.kill()
    assert launched.end() == -signal.SIGKILL


def test_an_address_that_is_taken_is_said(jobs, tmp_path, monkeypatch):  # noqa: F811
    job = jobs(tmp_path / "job", strategy="multiworker", restarts=0)
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        addresses = {"worker": [f"localhost:{taken.getsockname()[1]}", "localhost:1"]}
        monkeypatch.setattr(cluster, "addresses", lambda settings: addresses)
        with pytest.raises(RuntimeError, match="worker 0 .*cannot listen on localhost:.* it is taken"):
            cluster.run(job)


def test_what_dies_for_good_is_named_with_its_log(jobs, tmp_path):  # noqa: F811
    job = jobs(tmp_path / "job", strategy="mirrored", restarts=0)
    broken = training.Job(job.case, job.settings, job.examples, str(tmp_path / "gone"), job.folder)
    with pytest.raises(RuntimeError, match="chief 0 ended with code 1: .*gone.* It was restarted 0 times; its log is"):
        cluster.run(broken)


def test_a_switch_that_the_model_refuses_is_a_sentence_and_not_a_restart(jobs, tmp_path, capsys):  # noqa: F811
    job = jobs(tmp_path / "job", strategy="tpu")
    with pytest.raises(ValueError, match="No TPU was found"):
        cluster.run(job)
    assert "restarts are left" not in capsys.readouterr().out


def test_sigterm_in_this_process_saves_and_raises(jobs, tmp_path):  # noqa: F811
    job = jobs(tmp_path / "job", epochs=200, max_steps=100_000, tensorboard=False)
    os.environ.pop("TF_CONFIG", None)
    timer = subprocess.Popen(["sh", "-c", f"sleep 6; kill -TERM {os.getpid()}"])
    with pytest.raises(Preempted, match="goes on at step"):
        for _ in range(50):
            training.seed_everything(job.settings)
            training.train(job)
            job = jobs(tmp_path / "job", epochs=job.settings["epochs"] * 2, max_steps=10_000_000, tensorboard=False)
    timer.wait()
    assert list(Path(job.folder, "checkpoints").iterdir())


def test_a_worker_whose_address_is_taken_ends_with_its_own_code(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        config = {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        assert worker.main(["nowhere.json"]) == worker.UNBOUND
