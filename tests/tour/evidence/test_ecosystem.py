"""B1 and B25: counts of this run, and dependencies between installed packages."""

import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tour.evidence import ecosystem, overview
from tour.evidence.context import Context
from tour.evidence.result_types import Node

pytestmark = pytest.mark.system


def in_this_process(command: list[str], **_: Any) -> subprocess.CompletedProcess:
    """Run the program in this process, which saves the seconds of its imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", *command[3:]])
        exec(command[2], {"__name__": "__main__"})
    return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.parametrize(("case", "process"), [("fraud", True), ("image", False)])
def test_another_backend_gives_the_served_networks_answers(
    pushed_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, process: bool
) -> None:
    if not process:
        monkeypatch.setattr(ecosystem.subprocess, "run", in_this_process)
    context = Context.of(pushed_home, case)
    rows = context.rows("eval", context.case.load("model").INPUTS, 8)
    np.savez(tmp_path / "rows.npz", **rows)
    # JAX and PyTorch are optional, so the process runs on TensorFlow here.
    outputs = ecosystem.compute_on_backend(context, ecosystem.TENSORFLOW, tmp_path / "rows.npz")
    from models.saved_model import restore

    network = context.case.load("model")
    model = restore.restore_model(str(context.served), network, context.transform, context.pretrained)
    np.testing.assert_allclose(outputs, model(rows, training=False), rtol=1e-4, atol=1e-5)


def test_an_unknown_backend_is_named_in_the_error(pushed_home: Path, tmp_path: Path) -> None:
    context = Context.of(pushed_home, "fraud")
    with pytest.raises(RuntimeError, match="backend nothing"):
        ecosystem.compute_on_backend(context, "nothing", tmp_path / "rows.npz")


def test_production_work_is_counted_in_the_run(pushed_home: Path) -> None:
    context = Context.of(pushed_home, "fraud")
    table, _ = ecosystem.production_work(context)
    numbers = {job: number for job, _, number, _ in table.rows}
    assert numbers["model file for phones and browsers"] == len((context.served / "model.tflite").read_bytes())
    assert numbers["gates passed before the push"] == len(ecosystem.GATES)
    assert numbers["signatures in one SavedModel"] == 3
    assert numbers["values checked before training"] >= context.training["rows"] * len(context.transform.raw) / 2
    assert numbers["preprocessing inside the model"] > 100


def test_what_needs_tensorflow_is_what_reaches_it() -> None:
    edges = (("tfx", "tensorflow-transform"), ("tensorflow-transform", "tensorflow"), ("tfx", "apache-beam"))
    assert ecosystem.dependents_of("tensorflow", edges) == {"tfx", "tensorflow-transform"}
    assert ecosystem.dependents_of("keras", edges) == set()


def test_dependencies_are_those_of_the_installed_packages() -> None:
    names = ("tensorflow", "keras", "ml-metadata", "tensorflow-transform", "apache-beam")
    edges = set(ecosystem.requirements_between(names))
    assert {("tensorflow", "keras"), ("tensorflow-transform", "apache-beam")} <= edges
    assert not any(package == "ml-metadata" for package, _ in edges)
    assert all(
        any(text.lower().startswith(requirement) for text in requires(package)) for package, requirement in edges
    )


def test_nodes_are_listed_by_library() -> None:
    nodes = [Node("A", "keras, tensorflow"), Node("B", "tensorflow"), Node("C", "")]
    assert overview.nodes_by_library(nodes) == {"keras": ["A"], "tensorflow": ["A", "B"]}
