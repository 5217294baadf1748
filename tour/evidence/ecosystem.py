"""Evidence on the ecosystem: the work around the training in this run, and the libraries that depend on TensorFlow."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from pipeline.checkout import ROOT
from pipeline.home import Home
from pipeline.metadata import store
from serving import rollout
from tour.evidence import overview
from tour.evidence.context import Context
from tour.evidence.result_types import Graph, Node, NotHere, Number, Result, Table

GATES = ("DataGate", "FitGate", "Evaluator", "LiteExporter", "ServingCheck")
OTHERS = {"jax": "jax", "torch": "torch"}  # Keras backend: the module that it requires
TENSORFLOW = "tensorflow"
ROWS = 64
# Runs in a process of its own, as the backend is chosen once, when Keras is imported.
ANSWER = """
import sys
import numpy as np
from models.saved_model import restore
from models.catalog import find_use_case
from models.input import Transform
case, served, graph, pretrained, rows_file, out = sys.argv[1:]
network = find_use_case(case).load("model")
model = restore.restore_model(served, network, Transform(graph), pretrained)
with np.load(rows_file) as rows:
    np.save(out, np.asarray(model({name: rows[name] for name in network.INPUTS}, training=False)))
"""


def production_work(context: Context) -> list[Result]:
    """B1: counts of this run's work around the training, and the network's outputs on other Keras backends."""
    jobs = (
        ("values checked before training", "TFDV", _values(context), "values"),
        ("preprocessing inside the model", "Transform", _operations(context), "operations"),
        ("gates passed before the push", "TFMA and our components", _gates(context), "gates"),
        ("signatures in one SavedModel", "TensorFlow Serving", len(_signatures(context.served)), "signatures"),
        ("versions available for a rollback", "TensorFlow Serving", len(_versions(context)), "versions"),
        ("model file for phones and browsers", "LiteRT", (context.served / "model.tflite").stat().st_size, "bytes"),
        ("recorded artifacts of all runs", "ML Metadata", _artifacts(context), "artifacts"),
    )
    installed = [name for name, module in OTHERS.items() if importlib.util.find_spec(module)]
    table = Table("Work around the training in this run", ("job", "done by", "number", "unit"), jobs)
    if not installed:
        reason = "Neither JAX nor PyTorch is installed. To compare with JAX: `uv pip install jax`."
        return [table, NotHere("The served network on another Keras backend", reason)]
    return [table, compare_backends(context, installed)]


def library_dependencies(context: Context) -> list[Result]:
    """B25: the libraries of the run, their dependencies on each other, and which of them do not need TensorFlow."""
    jobs, sizes = overview.nodes_by_library(overview.run_graph(context).nodes), overview.bytes_by_node(context)
    edges = requirements_between(jobs)
    dependents = dependents_of(TENSORFLOW, edges)
    needed = {name: "yes" if name in dependents else "no" for name in jobs} | {TENSORFLOW: "is TensorFlow"}
    rows = tuple(
        (name, version(name), needed[name], sum(sizes.get(node, 0) for node in jobs[name]), ", ".join(jobs[name]))
        for name in sorted(jobs)
    )
    independent = sum(name not in dependents and name != TENSORFLOW for name in jobs)
    return [
        Graph("Dependencies between the installed packages", tuple(Node(name, version(name)) for name in jobs), edges),
        Table(
            "Libraries used in this run",
            ("library", "version", "needs TensorFlow", "bytes written by its nodes", "nodes"),
            rows,
        ),
        Number("Libraries that do not need TensorFlow", independent, f"of {len(jobs)} libraries"),
    ]


def compare_backends(context: Context, backends: Iterable[str]) -> Table:
    """Compare the served network's outputs on other backends with those on TensorFlow, on rows of eval."""
    import numpy as np

    rows = context.rows("eval", context.network.INPUTS, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        rows_file = Path(folder, "rows.npz")
        np.savez(rows_file, allow_pickle=True, **rows)
        expected = compute_on_backend(context, TENSORFLOW, rows_file)
        differences = [
            (name, float(np.abs(compute_on_backend(context, name, rows_file) - expected).max())) for name in backends
        ]
    return Table(
        f"Outputs of the served network on {len(expected)} rows of eval, compared with TensorFlow",
        ("Keras backend", "largest difference"),
        tuple(differences),
    )


def compute_on_backend(context: Context, backend: str, rows_file: Path) -> Any:
    """Compute the network's outputs, ``[rows, outputs]``, on a Keras backend for the rows in a file of arrays.

    Raises:
        RuntimeError: if the network does not run on the backend.
    """
    import numpy as np

    outputs_file = rows_file.with_name(f"{backend}.npy")
    arguments = (
        context.case.name,
        context.served,
        context.artifact("transform_graph"),
        context.pretrained,
        rows_file,
        outputs_file,
    )
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ANSWER, *map(str, arguments)]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(
            f"The network does not run on Keras' backend {backend}: {process.stderr.strip().splitlines()[-1]}"
        )
    return np.load(outputs_file)


def requirements_between(names: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of these packages of which the first requires the second; optional extras are ignored."""
    dependencies = set()
    for name in names:
        for text in requires(name) or ():
            requirement = re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].lower().replace("_", "-")
            if requirement in names and requirement != name and "extra ==" not in text:
                dependencies.add((name, requirement))
    return tuple(sorted(dependencies))


def dependents_of(target: str, edges: Iterable[tuple[str, str]]) -> set[str]:
    """Packages that require the target, directly or through others."""
    edges, dependents = tuple(edges), {target}
    while more := {package for package, requirement in edges if requirement in dependents} - dependents:
        dependents |= more
    return dependents - {target}


def _values(context: Context) -> int:
    """Number of values in the statistics of all splits."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    count = 0
    for path in context.artifact("statistics").glob("Split-*/FeatureStats.pb"):
        for split in statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets:
            kinds = ((feature, feature.WhichOneof("stats")) for feature in split.features)
            count += sum(getattr(feature, kind).common_stats.tot_num_values for feature, kind in kinds if kind)
    return count


def _saved(path: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]


def _operations(context: Context) -> int:
    """Number of operations in the transform graph and its functions, without constants and placeholders."""
    graph = _saved(context.artifact("transform_graph") / "transform_fn").graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return sum(node.op not in ("Const", "Placeholder", "NoOp", "Identity") for node in nodes)


def _signatures(served: Path) -> Mapping[str, Any]:
    signatures = _saved(served).signature_def
    return {name: signature for name, signature in signatures.items() if not name.startswith("__saved_model")}


def _gates(context: Context) -> int:
    states = store.stage_states(context.metadata, context.run.id)
    return sum(states.get(name) in ("done", "cached") for name in GATES)


def _versions(context: Context) -> list[int]:
    return rollout.list_versions(Home(context.home).case(context.case.name).versions)


def _artifacts(context: Context) -> int:
    with store.open_for_reading(context.metadata) as metadata_store:
        return len(metadata_store.get_artifacts())
