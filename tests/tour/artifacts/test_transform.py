"""The numbers that Transform has learned, described by their meaning."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command import ROOT

from models.catalog import CASES
from pipeline.home import Home
from tour.artifacts import transform


def test_describe_constant_names_constants_by_their_values() -> None:
    draw = np.random.default_rng(1)
    rows = draw.normal(3.0, 2.0, (500, 4))
    covariance = np.cov(rows.T)
    axes = np.linalg.eigh(covariance)[1][:, :2]
    constants = [
        covariance,
        axes,
        rows.var(axis=0, ddof=1),
        rows.mean(axis=0),
        np.array([[1.0, 2.0, 5.0]]),
        np.array([3.0, 1.0]),
    ]
    assert [transform.describe_constant(constant, constants) for constant in constants] == [
        "covariance of the columns",
        "principal axes, one a column",
        "variances of the columns",
        "means of the columns",
        "boundaries of buckets",
        "numbers of the train split",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_transform_graph_of_the_demos_run_is_described(pushed_home: Path, case: str) -> None:
    run = Home(pushed_home).runs(case)[-1]
    command = [sys.executable, "-m", "tour.artifacts.transform", str(pushed_home), case, run.id]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    results = {result["title"]: result for result in json.loads(process.stdout)}
    assert results["Learnt numbers"]["rows"] and results["PCA spectrum"]["svg"].startswith("<svg")
