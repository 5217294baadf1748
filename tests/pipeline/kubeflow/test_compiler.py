"""The compiled spec has one task per node with its resources and no secret values; a failed node is recorded."""

import json
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from absl.testing import flagsaver
from google.protobuf import json_format
from support.small_runs import SMALL

from models.catalog import CASES
from pipeline.kubeflow import backend_rules, deployment, task
from pipeline.kubeflow.compiler import FIRST_TASK, LAST_TASK, compile_to, to_kubernetes_name
from pipeline.kubeflow.deployment import Deployment, Resources, Secret
from pipeline.kubeflow.task import KubeflowTask
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import RunRequest, make_plan

pytestmark = pytest.mark.system

CLUSTER = Deployment(
    image="showcase:7",
    root="/there",
    volume="claim",
    metadata="grpc://metadata:8080",
    retries=3,
    user=10001,
    environment={"HOME": "/tmp"},
    secrets={"METADATA_PASSWORD": Secret("metadata-mysql", "password", optional=True)},
    default=Resources("1", "2Gi"),
    nodes={
        "Trainer": Resources(
            "4", "8Gi", accelerator="nvidia.com/gpu", accelerators=1, selector={"gpu": "yes"}, retries=0
        )
    },
)
TUNED = RunRequest(CASES["fraud"], first=3, last=9, changes={"epochs": "2"}, tune=True)
PASSWORD = "a-password-of-the-machine-that-compiles"


def compile_in_thread(path: Path, request: RunRequest, settings: Deployment) -> list[str]:
    """Compile in a thread: the SDK inspects the whole call stack for every task setting, and pytest's stack is deep."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(compile_to, path, request, settings).result()


@pytest.fixture(scope="module")
def own_specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The spec of every case for the repository's default deployment."""
    folder = tmp_path_factory.mktemp("own")
    for name, case in CASES.items():
        compile_in_thread(folder / f"{name}.yaml", RunRequest(case), deployment.read_deployment())
    return {name: folder / f"{name}.yaml" for name in CASES}


@pytest.fixture(scope="module")
def tuned_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of ``TUNED`` for ``CLUSTER``, compiled with the secret's value in the environment."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METADATA_PASSWORD", PASSWORD)
        assert "Tuner" in compile_in_thread(path, TUNED, CLUSTER)
    return path


def read_spec(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    spec, platform = backend_rules.read_specs(path)
    return json_format.MessageToDict(spec), platform["deploymentSpec"]["executors"]


@pytest.mark.parametrize("case", CASES)
def test_spec_has_one_task_per_node_with_the_edges_of_the_graph(
    own_specs: dict[str, Path], case: str, tmp_path: Path
) -> None:
    from pipeline import graph
    from pipeline.local import runner

    # The plan of a real run, ordered by TFX's compiler for one machine; the spec is compiled from a plan without data.
    runtime = local_runtime(tmp_path)
    plan = make_plan(RunRequest(CASES[case], changes=SMALL if case == "fraud" else {}), runtime)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ir = runner.compile_graph(graph.build(plan), case, runtime, "run")
    nodes = {upstream.pipeline_node.node_info.id: upstream.pipeline_node for upstream in ir.nodes}
    tasks = read_spec(own_specs[case])[0]["root"]["dag"]["tasks"]
    assert set(tasks) == {to_kubernetes_name(name) for name in (FIRST_TASK, *nodes, LAST_TASK)}
    for name, node in nodes.items():
        upstream_names = node.upstream_nodes or [FIRST_TASK]
        assert set(tasks[to_kubernetes_name(name)]["dependentTasks"]) == {
            to_kubernetes_name(upstream) for upstream in upstream_names
        }, name
        assert tasks[to_kubernetes_name(name)]["inputs"]["parameters"]["name"]["runtimeValue"]["constant"] == name
    leaves = {to_kubernetes_name(name) for name, node in nodes.items() if not node.downstream_nodes}
    assert (
        set(tasks[to_kubernetes_name(LAST_TASK)]["dependentTasks"]) == leaves
        and "dependentTasks" not in tasks[to_kubernetes_name(FIRST_TASK)]
    )


def test_tasks_have_image_resources_and_retries_and_no_kubeflow_cache(tuned_spec: Path) -> None:
    spec, _ = read_spec(tuned_spec)
    executors = spec["deploymentSpec"]["executors"]
    assert {entry["container"]["image"] for entry in executors.values()} == {"showcase:7"}
    assert not [entry for entry in executors.values() if "pip install" in json.dumps(entry)]
    gpu, cpu = (executors[f"exec-{name}"]["container"]["resources"] for name in ("trainer", "evaluator"))
    assert gpu["resourceCpuLimit"] == gpu["resourceCpuRequest"] == "4" and gpu["resourceMemoryLimit"] == "8Gi"
    assert (gpu["accelerator"]["resourceCount"], gpu["accelerator"]["resourceType"]) == ("1", "nvidia.com/gpu")
    assert cpu["resourceCpuLimit"] == "1" and "accelerator" not in cpu
    tasks = spec["root"]["dag"]["tasks"]
    assert {name: entry["retryPolicy"].get("maxRetryCount", 0) for name, entry in tasks.items()} == {
        name: 0 if name == "trainer" else 3 for name in tasks
    }
    assert all(entry["retryPolicy"]["backoffFactor"] == 2.0 for entry in tasks.values())
    assert not [name for name, entry in tasks.items() if entry.get("cachingOptions", {}).get("enableCache")]


def test_pods_have_volume_selector_user_and_secret_references(tuned_spec: Path) -> None:
    _, pods = read_spec(tuned_spec)
    for name, pod in pods.items():
        (mount,) = pod["pvcMount"]
        assert (mount["mountPath"], mount["constant"]) == ("/there", "claim")
        (secret,) = pod["secretAsEnv"]
        assert secret["secretName"] == "metadata-mysql" and secret["optional"]
        assert secret["keyToEnv"] == [{"secretKey": "password", "envVar": "METADATA_PASSWORD"}]
        assert pod["securityContext"]["runAsNonRoot"] and int(pod["securityContext"]["runAsUser"]) == 10001
        assert ("nodeSelector" in pod) == (name == "exec-trainer")
    assert pods["exec-trainer"]["nodeSelector"]["labels"] == {"gpu": "yes"}
    assert PASSWORD not in tuned_spec.read_text()


def test_spec_has_request_and_addresses_as_parameters(tuned_spec: Path) -> None:
    spec, _ = read_spec(tuned_spec)
    defaults = {
        name: parameter["defaultValue"] for name, parameter in spec["root"]["inputDefinitions"]["parameters"].items()
    }
    assert task.load_request(defaults.pop("request")) == TUNED
    assert defaults == {"root": "/there", "metadata": "grpc://metadata:8080", "tracking": "", "flink": ""}


def test_default_deployment_compiles_for_every_case(own_specs: dict[str, Path]) -> None:
    settings = deployment.read_deployment()
    for path in own_specs.values():
        executors = read_spec(path)[0]["deploymentSpec"]["executors"]
        assert {executor["container"]["image"] for executor in executors.values()} == {settings.image}


def test_unknown_node_and_file_without_yaml_suffix_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no node 'Trianer'; it has .*Trainer"):
        compile_to(tmp_path / "a.yaml", RunRequest(CASES["fraud"]), replace(CLUSTER, nodes={"Trianer": Resources()}))
    with pytest.raises(ValueError, match="has to end in .yaml"):
        compile_to(tmp_path / "a.json", RunRequest(CASES["fraud"]), CLUSTER)
    assert not list(tmp_path.iterdir())


def test_failed_node_exits_with_1_and_records_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    KubeflowTask("run-1", str(tmp_path)).begin(task.dump_request(RunRequest(CASES["image"])))
    # Runs a node, as a pod does, whose upstream nodes have not run.
    with pytest.raises(SystemExit) as raised, flagsaver.flagsaver():
        KubeflowTask("run-1", str(tmp_path)).node("DataGate")
    assert raised.value.code == 1 and "failed DataGate" in capsys.readouterr().out
    (run,) = store.runs(MetadataAddress.of(tmp_path))
    assert run.state == "failed" and run.reason.startswith("DataGate: ") and "inputs are missing" in run.reason


def test_node_names_are_converted_to_kubernetes_names() -> None:
    assert [to_kubernetes_name(name) for name in ("SpanExampleGen", "Pusher", "Begin")] == [
        "span-example-gen",
        "pusher",
        "begin",
    ]
