"""The compiled spec: a task a node of the graph, each with its resources and nothing secret; and a node that breaks."""

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
from pipeline.kubeflow.compiler import FIRST, LAST, compile_to, dashed
from pipeline.kubeflow.deployment import Deployment, Resources, Secret
from pipeline.kubeflow.task import Task
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import Request, make_plan

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
    nodes={"Trainer": Resources("4", "8Gi", "nvidia.com/gpu", 1, {"gpu": "yes"}, retries=0)},
)
TUNED = Request(CASES["fraud"], first=3, last=9, changes={"epochs": "2"}, tune=True)
PASSWORD = "a-password-of-the-machine-that-compiles"


def compiled(path: Path, request: Request, settled: Deployment) -> list[str]:
    """Compiles in a thread: the SDK looks at the whole call stack at every setting of a task, and pytest's is deep."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(compile_to, path, request, settled).result()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The spec of every case, by the repository's own deployment."""
    folder = tmp_path_factory.mktemp("own")
    for name, case in CASES.items():
        compiled(folder / f"{name}.yaml", Request(case), deployment.read())
    return {name: folder / f"{name}.yaml" for name in CASES}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of ``TUNED`` for ``CLUSTER``, compiled with the secret's value in the environment."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METADATA_PASSWORD", PASSWORD)
        assert "Tuner" in compiled(path, TUNED, CLUSTER)
    return path


def read(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    spec, platform = backend_rules.documents(path)
    return json_format.MessageToDict(spec), platform["deploymentSpec"]["executors"]


@pytest.mark.parametrize("case", CASES)
def test_there_is_a_task_a_node_with_the_edges_of_the_graph(own: dict[str, Path], case: str, tmp_path: Path) -> None:
    from pipeline import graph
    from pipeline.local import runner

    # The plan of a real run, as TFX's compiler orders it for one machine; the spec's outline knows no data.
    runtime = local_runtime(tmp_path)
    plan = make_plan(Request(CASES[case], changes=SMALL if case == "fraud" else {}), runtime)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ir = runner.compiled(graph.build(plan), case, runtime, "run")
    nodes = {one.pipeline_node.node_info.id: one.pipeline_node for one in ir.nodes}
    tasks = read(own[case])[0]["root"]["dag"]["tasks"]
    assert set(tasks) == {dashed(name) for name in (FIRST, *nodes, LAST)}
    for name, node in nodes.items():
        before = node.upstream_nodes or [FIRST]
        assert set(tasks[dashed(name)]["dependentTasks"]) == {dashed(one) for one in before}, name
        assert tasks[dashed(name)]["inputs"]["parameters"]["name"]["runtimeValue"]["constant"] == name
    ends = {dashed(name) for name, node in nodes.items() if not node.downstream_nodes}
    assert set(tasks[dashed(LAST)]["dependentTasks"]) == ends and "dependentTasks" not in tasks[dashed(FIRST)]


def test_every_task_has_its_image_resources_retries_and_no_cache(tuned: Path) -> None:
    spec, _ = read(tuned)
    executors = spec["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {"showcase:7"}
    assert not [one for one in executors.values() if "pip install" in json.dumps(one)]
    gpu, plain = (executors[f"exec-{name}"]["container"]["resources"] for name in ("trainer", "evaluator"))
    assert gpu["resourceCpuLimit"] == gpu["resourceCpuRequest"] == "4" and gpu["resourceMemoryLimit"] == "8Gi"
    assert (gpu["accelerator"]["resourceCount"], gpu["accelerator"]["resourceType"]) == ("1", "nvidia.com/gpu")
    assert plain["resourceCpuLimit"] == "1" and "accelerator" not in plain
    tasks = spec["root"]["dag"]["tasks"]
    assert {name: one["retryPolicy"].get("maxRetryCount", 0) for name, one in tasks.items()} == {
        name: 0 if name == "trainer" else 3 for name in tasks
    }
    assert all(one["retryPolicy"]["backoffFactor"] == 2.0 for one in tasks.values())
    assert not [name for name, one in tasks.items() if one.get("cachingOptions", {}).get("enableCache")]


def test_pods_get_volume_selector_user_and_secrets_by_reference(tuned: Path) -> None:
    _, pods = read(tuned)
    for name, one in pods.items():
        (mount,) = one["pvcMount"]
        assert (mount["mountPath"], mount["constant"]) == ("/there", "claim")
        (secret,) = one["secretAsEnv"]
        assert secret["secretName"] == "metadata-mysql" and secret["optional"]
        assert secret["keyToEnv"] == [{"secretKey": "password", "envVar": "METADATA_PASSWORD"}]
        assert one["securityContext"]["runAsNonRoot"] and int(one["securityContext"]["runAsUser"]) == 10001
        assert ("nodeSelector" in one) == (name == "exec-trainer")
    assert pods["exec-trainer"]["nodeSelector"]["labels"] == {"gpu": "yes"}
    assert PASSWORD not in tuned.read_text()


def test_the_spec_carries_the_request_and_where_things_lie_as_parameters(tuned: Path) -> None:
    spec, _ = read(tuned)
    defaults = {name: one["defaultValue"] for name, one in spec["root"]["inputDefinitions"]["parameters"].items()}
    assert task.asked(defaults.pop("request")) == TUNED
    assert defaults == {"root": "/there", "metadata": "grpc://metadata:8080", "tracking": "", "flink": ""}


def test_the_repositorys_own_deployment_compiles_for_every_case(own: dict[str, Path]) -> None:
    settled = deployment.read()
    for path in own.values():
        executors = read(path)[0]["deploymentSpec"]["executors"]
        assert {one["container"]["image"] for one in executors.values()} == {settled.image}


def test_a_node_that_no_graph_has_and_a_file_that_is_no_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no node 'Trianer'; it has .*Trainer"):
        compile_to(tmp_path / "a.yaml", Request(CASES["fraud"]), replace(CLUSTER, nodes={"Trianer": Resources()}))
    with pytest.raises(ValueError, match="has to end in .yaml"):
        compile_to(tmp_path / "a.json", Request(CASES["fraud"]), CLUSTER)
    assert not list(tmp_path.iterdir())


def test_a_broken_node_exits_and_the_runs_record_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Task("run-1", str(tmp_path)).begin(task.told(Request(CASES["image"])))
    # What a pod does, with a node whose upstream nodes have not run.
    with pytest.raises(SystemExit) as end, flagsaver.flagsaver():
        Task("run-1", str(tmp_path)).node("DataGate")
    assert end.value.code == 1 and "failed DataGate" in capsys.readouterr().out
    (run,) = store.runs(MetadataAddress.of(tmp_path))
    assert run.state == "failed" and run.reason.startswith("DataGate: ") and "inputs are missing" in run.reason


def test_names_become_names_of_tasks() -> None:
    assert [dashed(name) for name in ("SpanExampleGen", "Pusher", "Begin")] == ["span-example-gen", "pusher", "begin"]
