"""The commands of the manifests, run on this machine: every probe passes, and a training Job exports a model.

Instead of a cluster there are folders for volumes, free ports for ports, and this machine for the names of services.
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
from support.manifests import Document, command_line, list_containers, render_manifests

from models.catalog import CASES
from models.training.distribute.job import build_tf_config

pytestmark = pytest.mark.system

PROGRAMS = {
    "showcase": [sys.executable, "-m", "cli.main"],
    # TensorFlow Serving's binary is only in an image; our own server accepts the same arguments.
    "tensorflow_model_server": [sys.executable, "-m", "serving.server.model_server"],
    "python": [sys.executable],
}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def free(count: int) -> list[int]:
    """Return unused ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free_socket in sockets:
            free_socket.bind(("127.0.0.1", 0))
        return [free_socket.getsockname()[1] for free_socket in sockets]


def container(target: str, name: str) -> Document:
    """Return a container of the manifests by name."""
    return next(entry for full, _, entry in list_containers(render_manifests(target)) if full.endswith(f"/{name}"))


def localize_command(line: Sequence[str], replacements: Mapping[str, object]) -> list[str]:
    """Replace paths, ports and hosts of the command line by those of this machine."""
    program, *rest = line
    for old, new in replacements.items():
        rest = [word.replace(old, str(new)) for word in rest]
    return [*PROGRAMS[program], *rest]


@contextmanager
def start_process(
    line: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """Run a process; terminate it at the end of the block."""
    variables = {**os.environ, **(environment or {})}
    with log.open("w") as output:
        child = subprocess.Popen(line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=variables)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(60)


def answers(probe: Document, ports: Mapping[Any, int]) -> bool:
    """Whether the probe passes."""
    try:
        if "grpc" in probe:
            with grpc.insecure_channel(f"127.0.0.1:{ports[probe['grpc']['port']]}") as channel:
                response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
                return response.status == health_pb2.HealthCheckResponse.SERVING
        request = probe["httpGet"]
        with urllib.request.urlopen(
            f"http://127.0.0.1:{ports[request['port']]}{request['path']}", timeout=2
        ) as response:
            return response.status == 200
    except (OSError, grpc.RpcError):
        return False


def until(
    manifest: Document,
    ports: Mapping[Any, int],
    child: subprocess.Popen,
    log: Path,
    seconds: float = 300,
    kinds: Sequence[str] = PROBES,
) -> None:
    """Wait until every probe of the container passes, or those of the given kinds."""
    deadline = time.monotonic() + seconds
    for kind in kinds:
        while not answers(manifest[kind], ports):
            assert child.poll() is None and time.monotonic() < deadline, f"{kind}: {log.read_text()[-2000:]}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contents of the volume at /showcase: a small fraud model and the config that the pipeline writes."""
    from support import amount_model

    from pipeline.online import rollouts

    home = tmp_path_factory.mktemp("volume")
    amount_model.export_amount_model(home / "fraud" / "versions", 1)
    rollouts.write_config(home)
    return home


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the config map."""
    folder = tmp_path_factory.mktemp("config")
    config_maps = [document for document in render_manifests("base") if document["kind"] == "ConfigMap"]
    (config_map,) = [document for document in config_maps if "batching.config" in document["data"]]
    for name, text in config_map["data"].items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.slow
def test_model_server_and_gateway_pass_their_probes_and_score(volume: Path, config: Path, tmp_path: Path) -> None:
    grpc_port, rest_port, gateway_port = free(3)
    model, gateway = container("base", "model-server"), container("base", "gateway")
    replacements = {"/showcase": volume, "/config": config, "=8500": f"={grpc_port}", "=8501": f"={rest_port}"}
    replacements["wait_seconds=5"] = "wait_seconds=1"  # a version is loaded once it has been unchanged for that long
    with start_process(localize_command(command_line(model), replacements), tmp_path / "model.log") as model_process:
        until(model, {"rest": rest_port, 8500: grpc_port}, model_process, tmp_path / "model.log")
        replacements = {
            "/showcase": volume,
            "model-server:8500": f"127.0.0.1:{grpc_port}",
            "8080": gateway_port,
            "0.0.0.0": "127.0.0.1",
        }
        with start_process(
            localize_command(command_line(gateway), replacements), tmp_path / "gateway.log"
        ) as gateway_process:
            until(gateway, {"http": gateway_port}, gateway_process, tmp_path / "gateway.log")
            row = {
                "transaction_id": "t1",
                "event_time": "2026-04-06T12:00:00Z",
                "customer_id": "c000012",
                "merchant_id": "m00012",
                "amount": 95.0,
                "category": "electronics",
                "channel": "online",
            }
            url = f"http://127.0.0.1:{gateway_port}/v1/fraud/score"
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(row).encode()), timeout=20) as response:
                assert json.loads(response.read())["score"] == pytest.approx(0.095 + 0.01)
            for port, path in ((gateway_port, "/metrics"), (rest_port, "/monitoring/prometheus/metrics")):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
                    assert b"fraud" in response.read()


def test_model_server_without_a_model_is_not_ready_but_not_restarted(config: Path, tmp_path: Path) -> None:
    grpc_port, rest_port = free(2)
    (tmp_path / "models.config").write_text("model_config_list {}")
    model, log = container("base", "model-server"), tmp_path / "model.log"
    replacements = {"/showcase": tmp_path, "/config": config, "=8500": f"={grpc_port}", "=8501": f"={rest_port}"}
    ports = {"rest": rest_port, 8500: grpc_port}
    with start_process(localize_command(command_line(model), replacements), log) as model_process:
        until(model, ports, model_process, log, kinds=("startupProbe", "livenessProbe"))
        assert not answers(model["readinessProbe"], ports)


@pytest.mark.parametrize("case", [case for case, use_case in CASES.items() if use_case.policy])
def test_monitors_pass_their_probes_before_the_first_push(case: str, tmp_path: Path) -> None:
    monitor, (port,) = container("base", f"monitor-{case}"), free(1)
    replacements = {"/showcase": tmp_path / "empty", "8080": port, "0.0.0.0": "127.0.0.1"}
    with start_process(localize_command(command_line(monitor), replacements), tmp_path / "log") as child:
        until(monitor, {"http": port}, child, tmp_path / "log")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            assert b"showcase_monitor" in response.read()
    assert f"Nothing of {case} is pushed" in " ".join((tmp_path / "log").read_text().split())


def test_tour_passes_its_probes_and_reads_its_token_from_the_environment(tmp_path: Path) -> None:
    tour, (port,) = container("base", "tour"), free(1)
    (variable,) = tour["env"]
    replacements = {"/showcase": tmp_path, "8600": port, "0.0.0.0": "127.0.0.1"}
    with start_process(
        localize_command(command_line(tour), replacements), tmp_path / "log", {variable["name"]: "secret-1"}
    ) as child:
        until(tour, {"http": port}, child, tmp_path / "log")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/evidence", b"{}"), timeout=5)
        assert refused.value.code == 403
    assert "token=secret-1" in (tmp_path / "log").read_text()


def test_annotations_name_port_and_path_of_the_metrics(config: Path) -> None:
    for name, path in (("model-server", "/monitoring/prometheus/metrics"), ("gateway", "/metrics")):
        (workload,) = [
            d for d in render_manifests("base") if d["metadata"]["name"] == name and "template" in d.get("spec", {})
        ]
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        ports = [str(port["containerPort"]) for port in workload["spec"]["template"]["spec"]["containers"][0]["ports"]]
        assert annotations["prometheus.io/path"] == path and annotations["prometheus.io/port"] in ports
    assert path in ("/metrics", (config / "monitoring.config").read_text())


def test_metadata_server_passes_its_probes(tmp_path: Path) -> None:
    (port,), metadata = free(1), container("base", "metadata")
    with start_process(
        localize_command(command_line(metadata), {"/metadata": tmp_path, "8080": port}), tmp_path / "log"
    ) as child:
        until(metadata, {8080: port}, child, tmp_path / "log")
    assert (tmp_path / "metadata.sqlite").is_file()


@pytest.mark.slow
def test_two_workers_of_the_indexed_job_export_one_model(pushed_home: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    # A copy of the records; the artifacts are read from the original home.
    shutil.copy(pushed_home / "metadata.sqlite", tmp_path)
    first, worker = container("training/multiworker", "job"), container("training/multiworker", "worker")
    replacements = {"/showcase": tmp_path, "/tmp/job.json": tmp_path / "job.json"}
    short_training = ["--set", "epochs=1", "--set", "max_steps=40"]
    subprocess.run([*localize_command(command_line(first), replacements), *short_training], cwd=ROOT, check=True)
    variables = {entry["name"]: entry["value"] for entry in worker["env"]}
    addresses = [f"127.0.0.1:{port}" for port in free(len(variables["WORKERS"].split(",")))]
    (job,) = [entry for entry in render_manifests("training/multiworker") if entry["kind"] == "Job"]
    assert len(addresses) == job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    with ExitStack() as stack:
        logs = [tmp_path / f"worker-{index}.log" for index in range(2)]
        children = [
            stack.enter_context(
                start_process(
                    localize_command(command_line(worker), replacements),
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
    ("environment", "expected"),
    [
        ({}, {}),
        ({"JOB_COMPLETION_INDEX": "1", "TF_CONFIG": "{}"}, {}),
        (
            {"JOB_COMPLETION_INDEX": "1", "WORKERS": "a:1, b:2"},
            {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}},
        ),
    ],
)
def test_pod_index_is_the_task_index(environment: dict[str, str], expected: dict) -> None:

    variables = build_tf_config(environment)
    assert (json.loads(variables["TF_CONFIG"]) if variables else {}) == expected


@pytest.mark.parametrize(
    "environment", [{"JOB_COMPLETION_INDEX": "2", "WORKERS": "a:1,b:2"}, {"JOB_COMPLETION_INDEX": "0"}]
)
def test_an_index_without_an_address_is_refused(environment: dict[str, str]) -> None:

    with pytest.raises(ValueError, match="WORKERS has . addresses"):
        build_tf_config(environment)
