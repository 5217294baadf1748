"""The Jobs of a compiled spec."""

import json

import pytest
from support.manifests import validate_object

from models.catalog import CASES
from pipeline.kubeflow.compiler import compile_to
from pipeline.kubeflow.deployment import Deployment, Resources, Secret
from pipeline.kubeflow.jobs.manifest import make_job
from pipeline.kubeflow.jobs.task_specs import TaskSpec, read_tasks
from pipeline.kubeflow.task import REFUSED
from pipeline.plan import RunRequest

pytestmark = pytest.mark.system  # compiling imports TFX

DEPLOYMENT = Deployment(
    image="showcase:1",
    root="/showcase",
    volume="showcase",
    metadata="grpc://metadata:8080",
    environment={"HOME": "/tmp"},
    secrets={"METADATA_PASSWORD": Secret("mysql", "password", optional=True)},
    default=Resources(cpu="1", memory="2Gi"),
    nodes={
        "Trainer": Resources(
            "4", "8Gi", accelerator="nvidia.com/gpu", accelerators=1, selector={"gpu": "yes"}, retries=0
        )
    },
)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskSpec]:
    """The tasks of the image case's spec by name."""
    path = tmp_path_factory.mktemp("spec") / "image.yaml"
    compile_to(path, RunRequest(CASES["image"]), DEPLOYMENT)
    return {task.name: task for task in read_tasks(path, "image-1")}


def test_every_job_is_valid(tasks: dict[str, TaskSpec]) -> None:
    assert {"begin", "trainer", "end"} <= set(tasks)
    for task in tasks.values():
        validate_object(make_job(task, "image-1", account="runner"))


def test_container_gets_what_kubeflow_would_give_it(tasks: dict[str, TaskSpec]) -> None:
    trainer = tasks["trainer"]
    values = json.loads(trainer.container["args"][1])["inputs"]["parameterValues"]
    assert values == {
        "name": "Trainer",
        "run": "image-1",
        "root": "/showcase",
        "metadata": "grpc://metadata:8080",
        "tracking": "",
        "flink": "",
    }
    assert trainer.container["args"][2:] == ["--function_to_execute", "node"]
    assert trainer.container["resources"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}
    assert {entry["name"] for entry in trainer.container["env"]} == {"HOME", "METADATA_PASSWORD"}
    assert trainer.volumes[0]["persistentVolumeClaim"] == {"claimName": "showcase"}
    assert trainer.security_context["runAsUser"] == 10001 and trainer.security_context["runAsNonRoot"]
    assert trainer.node_selector == {"gpu": "yes"} and trainer.retries == 0
    assert set(tasks["end"].upstream) <= set(tasks) and "pusher" in tasks["end"].upstream


def test_refusal_is_not_retried_and_a_lost_pod_does_not_count(tasks: dict[str, TaskSpec]) -> None:
    spec = make_job(tasks["evaluator"], "image-1")["spec"]
    final, lost = spec["podFailurePolicy"]["rules"]
    assert spec["backoffLimit"] == 2
    assert final["action"] == "FailJob" and final["onExitCodes"]["values"] == [REFUSED]
    assert lost["action"] == "Ignore" and lost["onPodConditions"][0]["type"] == "DisruptionTarget"


def test_long_run_id_is_refused(tasks: dict[str, TaskSpec]) -> None:
    with pytest.raises(ValueError, match="Kubernetes takes 63"):
        make_job(tasks["evaluator"], "r" * 60)
