"""The page on deploying, step by step on a real cluster: `make cluster`, then `make cluster-test`, or a cluster of yours.

The steps build on each other, in their order. They change the namespaces `kubeflow` and `applications` and leave them in place.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.cluster import NAMESPACE, Cluster, find_cluster, wait_until
from support.command import ROOT
from support.manifests import render_manifests

pytestmark = [pytest.mark.cluster, pytest.mark.system]

OVERLAY = ROOT / "kubernetes" / "overlays" / "laptop"
SHOWCASE = Path(sys.prefix, "bin", "showcase")
# Deterministic, so that runs with equal settings end with equal metrics.
SETTINGS = {"epochs": 8, "deterministic": "true", "min_accuracy": 0.3, "min_class_accuracy": 0, "max_gap": 0}
SETTINGS |= {"max_accuracy_loss": 1}
RUN_SECONDS = 1800
# Follows every link of the tour's pages; its host is that of a port-forward, as the tour refuses others.
CRAWLER = """
import re, urllib.error, urllib.request
seen, paths = {"/"}, ["/"]
while paths:
    path, text = paths.pop(), ""
    request = urllib.request.Request("http://tour" + path, headers={"Host": "localhost"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            status = response.status
            text = response.read().decode() if "html" in response.headers["content-type"] else ""
    except urllib.error.HTTPError as error:
        status = error.code
    print(status, path, flush=True)
    links = {link for link in re.findall(r'href="(/[^"#?]*)', text) if not link.startswith("/static")} - seen
    seen |= links
    paths += sorted(links)
"""


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return find_cluster()


def submit(seed: int, *options: object) -> list[str]:
    """Return the command that runs the image case as Jobs."""
    words = [SHOWCASE, "submit", "image", "--kubernetes", "--namespace", NAMESPACE, "--json", *options]
    words += ["--cluster", OVERLAY / "pipeline.toml"]
    for name, value in {**SETTINGS, "seed": seed}.items():
        words += ["--set", f"{name}={value}"]
    return [str(word) for word in words]


def read_accuracy(text: str) -> str:
    """Return the accuracy of the last run in the output of `showcase runs --json`."""
    return json.loads(text)[-1]["headline"]


def test_overlay_is_applied_and_its_servers_wait_for_a_model(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--kustomize", OVERLAY)
    for kind in ("statefulset/metadata", "deployment/tour", "deployment/monitor-image", "deployment/monitor-fraud"):
        cluster.wait_for(kind)
    wait_until(lambda: _phases(cluster)["gateway-0"] == "Running", 120)
    time.sleep(30)
    assert set(cluster.restarts().values()) == {0}
    ready = {pod["metadata"]["labels"]["app.kubernetes.io/name"]: _is_ready(pod) for pod in cluster.pods()}
    assert ready == {
        "metadata": True,
        "tour": True,
        "monitor": True,
        "gateway": False,
        "model-server": False,
    }


def test_run_of_jobs_pushes_a_version(cluster: Cluster, tmp_path: Path) -> None:
    result = _run(cluster, submit(1, "--home", tmp_path), RUN_SECONDS)
    assert json.loads(result)["pushed"]


def test_servers_are_ready_after_the_push(cluster: Cluster) -> None:
    cluster.wait_for("deployment/model-server", 600)
    cluster.wait_for("statefulset/gateway", 600)
    assert set(cluster.restarts().values()) == {0}


def test_gateway_answers_through_its_service(cluster: Cluster) -> None:
    with cluster.client() as answers:
        wait_until(lambda: len(answers().ids) >= 50, 120)
        assert answers().errors == [] and answers().versions == {"1"}
        assert set(answers().ids) <= cluster.read_logged_ids()


def test_status_and_monitor_work_after_the_push(cluster: Cluster) -> None:
    assert "1" in cluster.exec("gateway-0", "showcase", "status", "image", "--home", "/showcase")
    for target in ("gateway-0", "deployment/monitor-image", "deployment/tour"):
        status = json.loads(cluster.exec(target, "showcase", "status", "image", "--home", "/showcase", "--json"))
        assert status
    time.sleep(60)  # the period of the monitor
    assert set(cluster.restarts().values()) == {0}
    assert "Traceback" not in cluster.kubectl("logs", "deployment/monitor-image")


def test_every_page_of_the_tour_is_rendered(cluster: Cluster) -> None:
    lines = cluster.exec("gateway-0", "python", "-c", CRAWLER).splitlines()
    paths = {line.split()[1] for line in lines}
    assert {"/", "/stages", "/questions", "/try", "/break", "/presenter", "/lineage"} <= paths and len(paths) > 100
    # Questions link to stages of both cases, and fraud has no run here.
    assert [line for line in lines if not line.startswith("200 ") and "/stages/fraud/" not in line] == []


def test_rolling_restart_of_the_model_server_fails_no_request(cluster: Cluster) -> None:
    with cluster.client() as answers:
        for kind in ("deployment/model-server", "deployment/tour", "deployment/monitor-image"):
            cluster.kubectl("rollout", "restart", kind)
            cluster.wait_for(kind)
        time.sleep(5)
        got = answers()
        assert got.errors == [] and len(got.ids) > 100


def test_run_ends_the_same_though_a_pod_of_each_stage_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """The reference is a run on this machine with the same settings."""
    command = [str(SHOWCASE), "run", "image", "--home", str(tmp_path / "reference")]
    for name, value in {**SETTINGS, "seed": 2}.items():
        command += ["--set", f"{name}={value}"]
    killed: set[str] = set()
    with subprocess.Popen(submit(2, "--home", tmp_path), env=cluster.environment, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            _kill_first_pods(cluster, killed)
            time.sleep(2)
        assert process.stdout
        result = json.loads(process.stdout.read())
    assert result["pushed"] and {task.replace("-", "") for task in killed} == {task.lower() for task in result["tasks"]}
    subprocess.run(command, check=True, capture_output=True, timeout=RUN_SECONDS)
    words = ["runs", "image", "--json", "--home"]
    reference = _run(cluster, [str(SHOWCASE), *words, str(tmp_path / "reference")])
    assert read_accuracy(cluster.exec("gateway-0", "showcase", *words, "/showcase")) == read_accuracy(reference)


def test_canary_is_promoted_and_rolled_back_under_traffic(cluster: Cluster) -> None:
    scripts = ROOT / "kubernetes"
    with cluster.client() as answers:
        _run(cluster, [str(scripts / "rollback"), "image"])
        wait_until(lambda: "1" in answers().versions, 60)
        _run(cluster, [str(scripts / "canary"), "image", "2", "0.5", "20"])
        assert answers().versions == {"1", "2"}
        _run(cluster, [str(scripts / "rollback"), "image"])
        assert answers().errors == []


@pytest.mark.parametrize("name", ["model-server", "metadata", "tour", "monitor", "gateway"])
def test_killed_pod_is_back_and_no_acknowledged_request_is_lost(cluster: Cluster, name: str) -> None:
    before = cluster.restarts()
    with cluster.client() as answers:
        for pod in cluster.pods(f"app.kubernetes.io/name={name}"):
            cluster.kill(pod)
        wait_until(lambda: cluster.restarts() != before, 60)
        wait_until(lambda: all(_is_ready(pod) for pod in cluster.pods(f"app.kubernetes.io/name={name}")), 300)
        count = len(answers().ids)
        wait_until(lambda: len(answers().ids) > count + 20, 300)
        got = answers()
    if name in ("metadata", "tour", "monitor"):
        assert got.errors == []  # requests need none of them
    assert set(got.ids) <= cluster.read_logged_ids()


def test_drain_honours_the_disruption_budget(cluster: Cluster) -> None:
    """Of two model servers one may be evicted; the other one stays, as a single node has no place for a third."""
    patch = ["patch", "poddisruptionbudget", "model-server", "--type", "merge", "--patch"]
    cluster.kubectl(*patch, json.dumps({"spec": {"maxUnavailable": None, "minAvailable": 1}}))
    cluster.kubectl("scale", "deployment/model-server", "--replicas", 2)
    cluster.wait_for("deployment/model-server")
    node = cluster.pods("app.kubernetes.io/name=model-server")[0]["spec"]["nodeName"]
    options = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout", "60s"]
    selector = ["--pod-selector", "app.kubernetes.io/name=model-server"]
    try:
        with cluster.client() as answers:
            result = cluster.try_kubectl("drain", node, *options, *selector)
            assert result.returncode and "disruption budget" in result.stderr, result.stderr
            pods = cluster.pods("app.kubernetes.io/name=model-server")
            assert sum(map(_is_ready, pods)) == 1
            assert answers().errors == []
    finally:
        cluster.kubectl("uncordon", node)
        cluster.kubectl("scale", "deployment/model-server", "--replicas", 1)
        cluster.kubectl(*patch, json.dumps({"spec": {"maxUnavailable": 1, "minAvailable": None}}))
    cluster.wait_for("deployment/model-server")


def test_indexed_job_trains_on_two_workers(cluster: Cluster) -> None:
    """The image case instead of fraud, which has no run here, with requests that fit the node."""
    documents = render_manifests("training/multiworker")
    for document in documents:
        document["metadata"]["namespace"] = NAMESPACE
    (job,) = [document for document in documents if document["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        container["args"] = [word.replace("fraud", "image") for word in container["args"]]
        container["resources"] = {"requests": {"cpu": "250m", "memory": "1Gi"}}
    cluster.try_kubectl("delete", "job", "multiworker", "--ignore-not-found")
    cluster.kubectl("apply", "--filename", "-", objects=documents)
    cluster.kubectl("wait", "--for=condition=complete", "job/multiworker", "--timeout", "600s")
    files = cluster.exec("gateway-0", "find", "/showcase/image/training", "-name", "saved_model.pb")
    assert "multiworker-export" in files


def _run(cluster: Cluster, command: Sequence[str], seconds: float = 300) -> str:
    result = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=seconds)
    assert result.returncode == 0, result.stderr[-3000:] + result.stdout[-3000:]
    return result.stdout


def _kill_first_pods(cluster: Cluster, killed: set[str]) -> None:
    """Kill the first pod of every task once, when it has run for some seconds."""
    for pod in cluster.pods("showcase/task"):
        task, statuses = pod["metadata"]["labels"]["showcase/task"], pod["status"].get("containerStatuses", ())
        if task not in killed and any("running" in status["state"] for status in statuses):
            time.sleep(random.Random(task).uniform(0, 8))
            cluster.kill(pod)
            killed.add(task)


def _phases(cluster: Cluster) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in cluster.pods()}


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in pod["status"].get("conditions", ()))
