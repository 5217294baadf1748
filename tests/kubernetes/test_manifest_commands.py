"""The manifests' own commands, started on this machine: every port and probe answers, and a training Job leaves a model.

What is put in place of the cluster: folders for volumes, free ports for ports, and this machine for the services' names.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.command import ROOT
from support.manifests import Document, containers, rendered, words

from models.catalog import CASES
from models.training.distribute.job import build_tf_config

pytestmark = pytest.mark.system

PROGRAMS = {
    "showcase": [sys.executable, "-m", "cli.main"],
    # TensorFlow Serving's binary is in an image only: our own server takes the same words.
    "tensorflow_model_server": [sys.executable, "-m", "serving.server.model_server"],
    "python": [sys.executable],
}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def free(count: int) -> list[int]:
    """Ports that nobody uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def container(target: str, name: str) -> Document:
    """One by its name in the manifests."""
    return next(one for full, _, one in containers(rendered(target)) if full.endswith(f"/{name}"))


def here(line: Sequence[str], places: Mapping[str, object]) -> list[str]:
    """The command line with this machine's places in it."""
    program, *rest = line
    for before, after in places.items():
        rest = [word.replace(before, str(after)) for word in rest]
    return [*PROGRAMS[program], *rest]


@contextmanager
def started(line: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A process that is told to end, and ends."""
    told = {**os.environ, **(environment or {})}
    with log.open("w") as output:
        child = subprocess.Popen(line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=told)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(60)


def answers(probe: Document, ports: Mapping[Any, int]) -> bool:
    """Whether the probe would pass."""
    try:
        if "grpc" in probe:
            with grpc.insecure_channel(f"127.0.0.1:{ports[probe['grpc']['port']]}") as channel:
                said = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
                return said.status == health_pb2.HealthCheckResponse.SERVING
        asked = probe["httpGet"]
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}", timeout=2) as said:
            return said.status == 200
    except (OSError, grpc.RpcError):
        return False


def until(one: Document, ports: Mapping[Any, int], child: subprocess.Popen, log: Path, seconds: float = 300) -> None:
    """Waits until every probe of the container passes."""
    deadline = time.monotonic() + seconds
    for kind in PROBES:
        while not answers(one[kind], ports):
            assert child.poll() is None and time.monotonic() < deadline, f"{kind}: {log.read_text()[-2000:]}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pods would see as /showcase: a small model of fraud, and the config that the pipeline writes."""
    from support import amount_model

    from pipeline.online import rollouts

    home = tmp_path_factory.mktemp("volume")
    amount_model.model(home / "fraud" / "versions", 1)
    rollouts.write_config(home)
    return home


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the config map."""
    folder = tmp_path_factory.mktemp("config")
    (found,) = [one for one in rendered("base") if one["kind"] == "ConfigMap" and "batching.config" in one["data"]]
    for name, text in found["data"].items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.slow
def test_the_model_server_and_the_gateway_answer_every_probe_and_score(
    volume: Path, config: Path, tmp_path: Path
) -> None:
    rpc, rest, gate = free(3)
    model, gateway = container("base", "model-server"), container("base", "gateway")
    places = {"/showcase": volume, "/config": config, "=8500": f"={rpc}", "=8501": f"={rest}"}
    places["wait_seconds=5"] = "wait_seconds=1"  # a version counts once it has been left alone for that long
    with started(here(words(model), places), tmp_path / "model.log") as child:
        until(model, {"rest": rest, 8500: rpc}, child, tmp_path / "model.log")
        places = {"/showcase": volume, "model-server:8500": f"127.0.0.1:{rpc}", "8080": gate, "0.0.0.0": "127.0.0.1"}
        with started(here(words(gateway), places), tmp_path / "gateway.log") as other:
            until(gateway, {"http": gate}, other, tmp_path / "gateway.log")
            row = {
                "transaction_id": "t1",
                "event_time": "2026-04-06T12:00:00Z",
                "customer_id": "c000012",
                "merchant_id": "m00012",
                "amount": 95.0,
                "category": "electronics",
                "channel": "online",
            }
            url = f"http://127.0.0.1:{gate}/v1/fraud/score"
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(row).encode()), timeout=20) as said:
                assert json.loads(said.read())["score"] == pytest.approx(0.095 + 0.01)
            for port, path in ((gate, "/metrics"), (rest, "/monitoring/prometheus/metrics")):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as said:
                    assert b"fraud" in said.read()


@pytest.mark.parametrize("case", [case for case, one in CASES.items() if one.policy])
def test_the_monitor_of_every_case_answers_its_probes_also_before_anything_is_pushed(case: str, tmp_path: Path) -> None:
    one, (port,) = container("base", f"monitor-{case}"), free(1)
    places = {"/showcase": tmp_path / "empty", "8080": port, "0.0.0.0": "127.0.0.1"}
    with started(here(words(one), places), tmp_path / "log") as child:
        until(one, {"http": port}, child, tmp_path / "log")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as said:
            assert b"showcase_monitor" in said.read()
    assert f"Nothing of {case} is pushed" in " ".join((tmp_path / "log").read_text().split())


def test_the_tour_answers_its_probes_and_takes_its_token_from_the_environment(tmp_path: Path) -> None:
    one, (port,) = container("base", "tour"), free(1)
    (variable,) = one["env"]
    places = {"/showcase": tmp_path, "8600": port, "0.0.0.0": "127.0.0.1"}
    with started(here(words(one), places), tmp_path / "log", {variable["name"]: "secret-1"}) as child:
        until(one, {"http": port}, child, tmp_path / "log")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/evidence", b"{}"), timeout=5)
        assert refused.value.code == 403
    assert "token=secret-1" in (tmp_path / "log").read_text()


def test_the_annotations_name_where_metrics_are(config: Path) -> None:
    for name, path in (("model-server", "/monitoring/prometheus/metrics"), ("gateway", "/metrics")):
        (one,) = [d for d in rendered("base") if d["metadata"]["name"] == name and "template" in d.get("spec", {})]
        notes = one["spec"]["template"]["metadata"]["annotations"]
        ports = [str(port["containerPort"]) for port in one["spec"]["template"]["spec"]["containers"][0]["ports"]]
        assert notes["prometheus.io/path"] == path and notes["prometheus.io/port"] in ports
    assert path in ("/metrics", (config / "monitoring.config").read_text())


def test_the_metadata_server_answers_every_probe(tmp_path: Path) -> None:
    (port,), one = free(1), container("base", "metadata")
    with started(here(words(one), {"/metadata": tmp_path, "8080": port}), tmp_path / "log") as child:
        until(one, {8080: port}, child, tmp_path / "log")
    assert (tmp_path / "metadata.sqlite").is_file()


@pytest.mark.slow
def test_two_workers_of_the_indexed_job_end_with_one_exported_model(pushed_home: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    # The record of the demo's run; what it made stays where it is and is read there.
    shutil.copy(pushed_home / "metadata.sqlite", tmp_path)
    first, worker = container("training/multiworker", "job"), container("training/multiworker", "worker")
    places = {"/showcase": tmp_path, "/tmp/job.json": tmp_path / "job.json"}
    brief = ["--set", "epochs=1", "--set", "max_steps=40"]
    subprocess.run([*here(words(first), places), *brief], cwd=ROOT, check=True)
    told = {one["name"]: one["value"] for one in worker["env"]}
    addresses = [f"127.0.0.1:{port}" for port in free(len(told["WORKERS"].split(",")))]
    (job,) = [one for one in rendered("training/multiworker") if one["kind"] == "Job"]
    assert len(addresses) == job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    with ExitStack() as stack:
        logs = [tmp_path / f"worker-{index}.log" for index in range(2)]
        children = [
            stack.enter_context(
                started(
                    here(words(worker), places),
                    logs[index],
                    {"WORKERS": ",".join(addresses), "JOB_COMPLETION_INDEX": str(index), "TF_CPP_MIN_LOG_LEVEL": "2"},
                )
            )
            for index in range(2)
        ]
        codes = [child.wait(1200) for child in children]
    assert codes == [0, 0], [log.read_text()[-2000:] for log in logs]
    (model,) = tmp_path.rglob("saved_model.pb")
    assert model.parent == tmp_path / "fraud" / "training" / "multiworker-export" / "model"
    assert "serving_default" in tf.saved_model.load(str(model.parent)).signatures
    record = json.loads((model.parents[1] / "run" / "training.json").read_text())
    assert record["replicas"] == 2
    assert ["exported" in log.read_text() for log in logs] == [True, False]


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, {}),
        ({"JOB_COMPLETION_INDEX": "1", "TF_CONFIG": "{}"}, {}),
        (
            {"JOB_COMPLETION_INDEX": "1", "WORKERS": "a:1, b:2"},
            {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}},
        ),
    ],
)
def test_the_index_of_a_pod_is_its_place(environment: dict[str, str], found: dict) -> None:

    told = build_tf_config(environment)
    assert (json.loads(told["TF_CONFIG"]) if told else {}) == found


@pytest.mark.parametrize(
    "environment", [{"JOB_COMPLETION_INDEX": "2", "WORKERS": "a:1,b:2"}, {"JOB_COMPLETION_INDEX": "0"}]
)
def test_an_index_without_an_address_is_refused(environment: dict[str, str]) -> None:

    with pytest.raises(ValueError, match="WORKERS has . addresses"):
        build_tf_config(environment)
