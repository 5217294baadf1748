"""A spec whose root is in a bucket: pods without a volume, with the bucket's credentials from a secret."""

import dataclasses
from pathlib import Path

import pytest
from support.small_runs import SMALL

from models.catalog import CASES
from pipeline.kubeflow import backend_rules, compiler, deployment
from pipeline.kubeflow.jobs.task_specs import read_tasks
from pipeline.plan import RunRequest

ROOT = "s3://bucket/home"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = deployment.read_deployment()
    settings = dataclasses.replace(
        settings, root=ROOT, volume="", environment={**settings.environment, "AWS_ENDPOINT_URL": "http://minio:9000"}
    )
    path = tmp_path_factory.mktemp("spec") / "fraud.yaml"
    compiler.compile_to(path, RunRequest(CASES["fraud"], changes=SMALL), settings)
    return path


def test_spec_passes_the_backend_and_mounts_no_volume(spec: Path) -> None:
    backend_rules.check_spec(spec)
    parts, platform = backend_rules.read_specs(spec)
    parameters = parts.root.input_definitions.parameters
    assert parameters["root"].default_value.string_value == ROOT
    assert not [pod for pod in platform["deploymentSpec"]["executors"].values() if pod.get("pvcMount")]


def test_jobs_have_address_and_credentials_of_the_bucket_and_no_volume(spec: Path) -> None:
    tasks = read_tasks(spec, "run-1")
    assert len(tasks) > 15
    for task in tasks:
        assert not task.volumes and not task.container["volumeMounts"] and ROOT in " ".join(task.container["args"])
        variables = {entry["name"]: entry for entry in task.container["env"]}
        assert variables["AWS_ENDPOINT_URL"]["value"] == "http://minio:9000"
        reference = variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "bucket", "key": "secret-access-key", "optional": True}
