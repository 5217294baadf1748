"""Where TensorFlow stands: what this run used around the training, and which libraries need it."""

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
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from serving import rollout
from tour.evidence import overview
from tour.evidence.context import Context
from tour.evidence.result_types import Graph, Node, NotHere, Number, Result, Table

GATES = ("DataGate", "FitGate", "Evaluator", "LiteExporter", "ServingCheck")
OTHERS = {"jax": "jax", "torch": "torch"}  # Keras' name of a backend: the module that it needs
TENSORFLOW = "tensorflow"
ROWS = 64
# In a process of its own: a backend is chosen once, when Keras is imported.
ANSWER = """
import sys
import numpy as np
from models.saved_model import restore
from models.catalog import find
from models.input import Transform
case, served, graph, pretrained, held, out = sys.argv[1:]
network = find(case).load("model")
model = restore.model(served, network, Transform(graph), pretrained)
with np.load(held) as rows:
    np.save(out, np.asarray(model({name: rows[name] for name in network.INPUTS}, training=False)))
"""


def surface(context: Context) -> list[Result]:
    """B1: what production took beside a trained network, counted in this run; the network under another backend."""
    jobs = (
        ("values checked before training", "TFDV", _values(context), "values"),
        ("preparation that ships in the model", "Transform", _operations(context), "operations"),
        ("gates passed before the push", "TFMA and ours", _gates(context), "gates"),
        ("answers by one file", "TensorFlow Serving", len(_signatures(context.served)), "signatures"),
        ("to go back to", "TensorFlow Serving", len(_versions(context)), "versions"),
        ("on phones and in browsers", "LiteRT", (context.served / "model.tflite").stat().st_size, "bytes"),
        ("remembered of all runs", "ML Metadata", _artifacts(context), "artifacts"),
    )
    there = [name for name, module in OTHERS.items() if importlib.util.find_spec(module)]
    table = Table("Around the training, in this run", ("job", "by", "number", "of"), jobs)
    if not there:
        reason = "neither JAX nor PyTorch is installed; `uv pip install jax` brings one, and Keras runs on it"
        return [table, NotHere("The served network on another backend", reason)]
    return [table, agreement(context, there)]


def placed(context: Context) -> list[Result]:
    """B25: the libraries of the run with what they need of each other, and which of them stand without TensorFlow."""
    jobs, sizes = overview.jobs_of(overview.run_graph(context).nodes), overview.written(context)
    edges = needs(jobs)
    reached = reaching(TENSORFLOW, edges)
    said = {name: "yes" if name in reached else "no" for name in jobs} | {TENSORFLOW: "is it"}
    rows = tuple(
        (name, version(name), said[name], sum(sizes.get(node, 0) for node in jobs[name]), ", ".join(jobs[name]))
        for name in sorted(jobs)
    )
    apart = sum(name not in reached and name != TENSORFLOW for name in jobs)
    return [
        Graph(
            "What needs what, as the installed packages say", tuple(Node(name, version(name)) for name in jobs), edges
        ),
        Table(
            "Libraries of this run",
            ("library", "version", "needs TensorFlow", "bytes that its nodes wrote", "nodes"),
            rows,
        ),
        Number("Libraries that stand without TensorFlow", apart, f"of {len(jobs)}"),
    ]


def agreement(context: Context, backends: Iterable[str]) -> Table:
    """Largest difference of the served network's outputs between TensorFlow and other backends, on rows of eval."""
    import numpy as np

    rows = context.rows("eval", context.case.load("model").INPUTS, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "rows.npz")
        np.savez(held, allow_pickle=True, **rows)
        ours = answered(context, TENSORFLOW, held)
        found = [(name, float(np.abs(answered(context, name, held) - ours).max())) for name in backends]
    return Table(f"The served network on {len(ours)} rows", ("Keras backend", "largest difference"), tuple(found))


def answered(context: Context, backend: str, held: Path) -> Any:
    """The network's outputs under a Keras backend, ``[rows, outputs]``, for the rows in a file of arrays.

    Raises:
        RuntimeError: if the network does not run on it.
    """
    import numpy as np

    out = held.with_name(f"{backend}.npy")
    words = (context.case.name, context.served, context.artifact("transform_graph"), context.pretrained, held, out)
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ANSWER, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"The network does not run on Keras' backend {backend}: {done.stderr.strip().splitlines()[-1]}"
        )
    return np.load(out)


def needs(names: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of these packages of which the first asks for the second, optional extras left out."""
    pairs = set()
    for name in names:
        for text in requires(name) or ():
            wanted = re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].lower().replace("_", "-")
            if wanted in names and wanted != name and "extra ==" not in text:
                pairs.add((name, wanted))
    return tuple(sorted(pairs))


def reaching(target: str, edges: Iterable[tuple[str, str]]) -> set[str]:
    """Whatever needs the target, directly or through others."""
    edges, found = tuple(edges), {target}
    while more := {one for one, other in edges if other in found} - found:
        found |= more
    return found - {target}


def _values(context: Context) -> int:
    """Values that the statistics of all splits have counted."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    found = 0
    for path in context.artifact("statistics").glob("Split-*/FeatureStats.pb"):
        for split in statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets:
            kinds = ((one, one.WhichOneof("stats")) for one in split.features)
            found += sum(getattr(one, kind).common_stats.tot_num_values for one, kind in kinds if kind)
    return found


def _saved(path: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]


def _operations(context: Context) -> int:
    """Operations of the transform graph, its functions included; constants and arguments are none."""
    graph = _saved(context.artifact("transform_graph") / "transform_fn").graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return sum(node.op not in ("Const", "Placeholder", "NoOp", "Identity") for node in nodes)


def _signatures(served: Path) -> Mapping[str, Any]:
    found = _saved(served).signature_def
    return {name: one for name, one in found.items() if not name.startswith("__saved_model")}


def _gates(context: Context) -> int:
    states = store.stage_states(context.metadata, context.run.id)
    return sum(states.get(name) in ("done", "cached") for name in GATES)


def _versions(context: Context) -> list[int]:
    return rollout.versions(Path(local_runtime(context.home).versions(context.case.name)))


def _artifacts(context: Context) -> int:
    with store.open_for_reading(context.metadata) as opened:
        return len(opened.get_artifacts())
