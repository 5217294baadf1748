"""A run on the Kubeflow Pipelines that KFP_HOST names: uploaded, run and waited for by its API.

The cluster needs the overlay `laptop` and our image, as docs/deploying.md says:

    KFP_HOST=http://localhost:8081 python -m pytest -n 0 -m cluster tests/kubernetes/test_on_kubeflow.py
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import ROOT, showcase

from models.catalog import CASES

pytestmark = [pytest.mark.cluster, pytest.mark.system]

HOST = "KFP_HOST"
SETTINGS = ROOT / "kubernetes" / "overlays" / "laptop" / "pipeline.toml"
RUN_SECONDS, POLL_SECONDS = 3600, 10


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    if not os.environ.get(HOST):
        pytest.skip(f"{HOST} names no Kubeflow Pipelines.")
    yield os.environ[HOST]


@pytest.mark.parametrize("case", CASES)
def test_run_on_kubeflow_pipelines_succeeds_with_every_task(host: str, case: str, tmp_path: Path) -> None:
    import kfp

    result = showcase("submit", case, "--host", host, "--cluster", SETTINGS, "--home", tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    submitted = json.loads(result.stdout)
    run: Any = kfp.Client(host=host).wait_for_run_completion(submitted["run"], RUN_SECONDS, POLL_SECONDS)
    assert run.state == "SUCCEEDED", f"{submitted['url']}: {run.state} {run.error}"
    states = {task.display_name: task.state for task in run.run_details.task_details}
    failed = {name: state for name, state in states.items() if state not in ("SUCCEEDED", "SKIPPED")}
    assert len(states) > 10 and not failed
