"""Training jobs on small fraud data, and one of them trained on one device."""

from pathlib import Path

import pytest
from support.built_case import built
from support.small_jobs import STEPS, trained, weights

from models import training
from models.catalog import find


@pytest.fixture(scope="session")
def jobs(tmp_path_factory):
    """A function that makes a job on small fraud data, with changes of its settings."""
    case = built(find("fraud"), tmp_path_factory)
    plain = {"dropout": 0.0, "epochs": 2, "max_steps": STEPS, "patience": 0, "profile": False, "checkpoint_steps": 5}

    def make(folder: Path, **changes) -> training.Job:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {**case.settings, **plain, **changes}
        return training.Job("fraud", settings, str(case.examples), str(case.graph), str(folder))

    return make


@pytest.fixture(scope="session")
def alone(jobs, tmp_path_factory):
    """One device on whole batches: the oracle."""
    job = jobs(tmp_path_factory.mktemp("alone"))
    return trained(job), weights(job), job
