"""The compiled spec: a task a node of the graph, each with its resources and nothing secret; and a node that breaks."""

import json
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from support.command import ROOT
from support.small_runs import SMALL

from models.catalog import CASES
from pipeline import accepted, deployment, kubeflow, session, store, task
from pipeline.deployment import Deployment, Resources, Secret
from pipeline.kubeflow import FIRST, LAST, compile_to, dashed
from pipeline.metadata import MetadataAddress
from pipeline.runtime import local
from pipeline.session import Request
from pipeline.task import Task

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


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A spec a case."""
    folder = tmp_path_factory.mktemp("specs")
    for name, case in CASES.items():
        compile_to(folder / f"{name}.yaml", Request(case), CLUSTER)
    return {name: folder / f"{name}.yaml" for name in CASES}


def read(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    spec, platform = accepted.documents(path)
    return json_format.MessageToDict(spec), platform["deploymentSpec"]["executors"]


@pytest.mark.parametrize("case", CASES)
def test_there_is_a_task_a_node_with_the_edges_of_the_graph(
    compiled: dict[str, Path], case: str, tmp_path: Path
) -> None:
    spec, _ = read(compiled[case])
    tasks = spec["root"]["dag"]["tasks"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = kubeflow.upstream(Request(CASES[case]))
    assert set(tasks) == {dashed(name) for name in (FIRST, *nodes, LAST)}
    for name, before in nodes.items():
        assert set(tasks[dashed(name)]["dependentTasks"]) == {dashed(one) for one in before or [FIRST]}, name
        assert tasks[dashed(name)]["inputs"]["parameters"]["name"]["runtimeValue"]["constant"] == name
    # The plan of a real run has the same nodes in the same order as the outline, which knows no data.
    from pipeline import graph

    plan = session.plan(Request(CASES[case], changes=SMALL if case == "fraud" else {}), local(tmp_path))
    assert {stage.node.id for stage in graph.build(plan)} == set(nodes)


def test_every_task_has_its_image_resources_retries_and_no_cache(compiled: dict[str, Path]) -> None:
    spec, _ = read(compiled["fraud"])
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


def test_pods_get_volume_selector_user_and_secrets_by_reference(compiled: dict[str, Path]) -> None:
    _, pods = read(compiled["fraud"])
    for name, one in pods.items():
        (mount,) = one["pvcMount"]
        assert (mount["mountPath"], mount["constant"]) == ("/there", "claim")
        (secret,) = one["secretAsEnv"]
        assert secret["secretName"] == "metadata-mysql" and secret["optional"]
        assert secret["keyToEnv"] == [{"secretKey": "password", "envVar": "METADATA_PASSWORD"}]
        assert one["securityContext"]["runAsNonRoot"] and int(one["securityContext"]["runAsUser"]) == 10001
        assert ("nodeSelector" in one) == (name == "exec-trainer")
    assert pods["exec-trainer"]["nodeSelector"]["labels"] == {"gpu": "yes"}


def test_the_spec_carries_the_request_and_where_things_lie_as_parameters(tmp_path: Path) -> None:
    asked = Request(CASES["fraud"], first=3, last=9, changes={"epochs": "2"}, tune=True)
    path = tmp_path / "tuned.yaml"
    assert "Tuner" in compile_to(path, asked, CLUSTER)
    spec, _ = read(path)
    defaults = {name: one["defaultValue"] for name, one in spec["root"]["inputDefinitions"]["parameters"].items()}
    assert task.asked(defaults.pop("request")) == asked
    assert defaults == {"root": "/there", "metadata": "grpc://metadata:8080", "tracking": "", "flink": ""}


def test_the_repositorys_own_deployment_compiles_for_every_case(tmp_path: Path) -> None:
    for name, case in CASES.items():
        compile_to(tmp_path / f"{name}.yaml", Request(case), deployment.read())


def test_a_node_that_no_graph_has_and_a_file_that_is_no_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no node 'Trianer'; it has .*Trainer"):
        compile_to(tmp_path / "a.yaml", Request(CASES["fraud"]), replace(CLUSTER, nodes={"Trianer": Resources()}))
    with pytest.raises(ValueError, match="has to end in .yaml"):
        compile_to(tmp_path / "a.json", Request(CASES["fraud"]), CLUSTER)
    assert not list(tmp_path.iterdir())


def test_a_broken_node_exits_and_the_runs_record_says_why(tmp_path: Path) -> None:
    Task("run-1", str(tmp_path)).begin(task.told(Request(CASES["fraud"], changes=SMALL)))
    # What a pod does, with a node whose upstream nodes have not run.
    program = f"from pipeline.task import Task; Task('run-1', {str(tmp_path)!r}).node('DataGate')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "failed DataGate" in done.stdout, done.stderr
    (run,) = store.runs(MetadataAddress.of(tmp_path))
    assert run.state == "failed" and run.reason.startswith("DataGate: ") and "inputs are missing" in run.reason


def test_names_become_names_of_tasks() -> None:
    assert [dashed(name) for name in ("SpanExampleGen", "Pusher", "Begin")] == ["span-example-gen", "pusher", "begin"]
