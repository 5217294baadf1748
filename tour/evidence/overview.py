"""Evidence on the whole pipeline: the graph of the last run, its libraries, and the lineage of the served model."""

import ast
import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline import cache_key
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import Plan
from tour import trace
from tour.evidence.context import Context, count_bytes
from tour.evidence.result_types import Graph, Node, Number, Result, Table

# Libraries that a node can use: importable name to package name.
LIBRARIES = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "tensorflow_data_validation": "tensorflow-data-validation",
    "tensorflow_transform": "tensorflow-transform",
    "tensorflow_model_analysis": "tensorflow-model-analysis",
    "tensorflow_metadata": "tensorflow-metadata",
    "tensorflow_serving": "tensorflow-serving-api",
    "apache_beam": "apache-beam",
    "tfx_bsl": "tfx-bsl",
    "ml_metadata": "ml-metadata",
    "ai_edge_litert": "ai-edge-litert",
    "lightgbm": "lightgbm",
    "sklearn": "scikit-learn",
    "tfx": "tfx",
}


def libraries_of_run(context: Context) -> list[Result]:
    """A1: the graph of the last run, and the versions of the libraries that its nodes use."""
    graph = run_graph(context)
    jobs, sizes = nodes_by_library(graph.nodes), bytes_by_node(context)
    rows = tuple(
        (name, version(name), sum(sizes.get(node, 0) for node in jobs[name]), ", ".join(jobs[name]))
        for name in sorted(jobs)
    )
    return [
        graph,
        Table("Libraries used in this run", ("library", "version", "bytes written by its nodes", "nodes"), rows),
    ]


def pipeline_of_run(context: Context) -> list[Result]:
    """B17: the graph of the last run, the seconds of each stage, and the outcome of every run."""
    last = context.runs[-1]
    ran = trace.executions(context.metadata, last.id)
    seconds = tuple((execution.node, execution.state, execution.seconds) for execution in ran)
    history = tuple((run.id, run.state, run.reason) for run in context.runs)
    refused = sum(run.state == "refused" for run in context.runs)
    return [
        run_graph(context),
        Table("Stages of the last run", ("stage", "state", "seconds"), seconds),
        Table("All runs and their outcome", ("run", "state", "reason"), history),
        Number("Runs stopped by a gate", refused, f"of {len(history)} runs"),
    ]


def lineage_of_served(context: Context) -> list[Result]:
    """A15: the lineage of the served model back to its spans, from the metadata store, and the facts of its run."""
    pushed = next(o["pushed_model"] for o in context.outputs.values() if "pushed_model" in o)
    graph = lineage(context.metadata, pushed.id)
    names = ("source", "spans", "data_version", "commit", "started", "ended", "pushed", "headline")
    facts = [("run", context.run.id), *((name, context.run.facts.get(name, "")) for name in names)]
    return [graph, Table("Run that produced the served model", ("fact", "value"), tuple(facts))]


def run_graph(context: Context) -> Graph:
    """Graph built from the last run's plan; each node with its libraries and its recorded state."""
    last = context.runs[-1]
    states = store.stage_states(context.metadata, last.id)
    nodes, edges = build_graph(rebuild_plan(context))
    graph_nodes = tuple(Node(name, ", ".join(used), states.get(name, "not reached")) for name, used in nodes.items())
    return Graph(f"Run {last.id}", graph_nodes, edges)


def rebuild_plan(context: Context) -> Plan:
    """Rebuild the last run's plan from the facts in the metadata store."""
    run = context.runs[-1]
    first, last = run.window
    recorded = run.settings
    # A run of an older version lacks the settings that were added later: these get their defaults.
    settings = {group: {**values, **recorded.get(group, {})} for group, values in context.case.settings.items()}
    schema = context.artifact("schema") / "schema.pbtxt"
    return Plan(
        case=context.case,
        source=run.source,
        first=first,
        last=last,
        settings=settings,
        schema=schema.read_text(),
        versions=str(context.served.parent),
        data_version=run.facts["data_version"],
        space=run.space,
    )


def build_graph(plan: Plan) -> tuple[dict[str, list[str]], tuple[tuple[str, str], ...]]:
    """Build the plan's graph; return the libraries of each node by its name, and the edges."""
    from tfx.orchestration.pipeline import Pipeline

    from pipeline import graph

    stages = graph.build(plan)
    # TFX derives upstream nodes from the channels only when the nodes are put into a pipeline.
    Pipeline(plan.case.name, plan.versions, components=[stage.node for stage in stages])
    nodes = {stage.node.id: _libraries(stage.node, stage.modules) for stage in stages}
    edges = tuple((up.id, stage.node.id) for stage in stages for up in stage.node.upstream_nodes)
    return nodes, tuple(sorted(edges))


def lineage(metadata: MetadataAddress, artifact_id: int) -> Graph:
    """Artifacts and executions that an artifact descends from, at any depth, read from the metadata store alone."""
    nodes: dict[str, Node] = {}
    edges: set[tuple[str, str]] = set()
    with store.open_for_reading(metadata) as metadata_store:
        kinds = {kind.id: kind.name for kind in metadata_store.get_artifact_types()}
        execution_kinds = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in metadata_store.get_execution_types()}
        pending = [artifact_id]
        while pending:
            artifact = metadata_store.get_artifacts_by_id([pending.pop()])[0]
            name = f"{kinds[artifact.type_id]} {artifact.id}"
            if name in nodes:
                continue
            nodes[name] = Node(name, artifact.uri, _properties(artifact.custom_properties))
            # Only the execution that produced it, which has the lowest id; later ones took it from the cache.
            outputs = [
                e for e in metadata_store.get_events_by_artifact_ids([artifact.id]) if e.type == mlmd.Event.OUTPUT
            ]
            for execution in metadata_store.get_executions_by_id([e.execution_id for e in outputs])[:1]:
                execution_name = f"{execution_kinds[execution.type_id]} ({execution.id})"
                nodes.setdefault(execution_name, Node(execution_name, _properties(execution.custom_properties), "ran"))
                edges.add((execution_name, name))
                for event in metadata_store.get_events_by_execution_ids([execution.id]):
                    if event.type == mlmd.Event.INPUT:
                        source = metadata_store.get_artifacts_by_id([event.artifact_id])[0]
                        edges.add((f"{kinds[source.type_id]} {source.id}", execution_name))
                        pending.append(source.id)
    return Graph("Lineage of the served model", tuple(nodes.values()), tuple(sorted(edges)))


def nodes_by_library(nodes: Iterable[Node]) -> dict[str, list[str]]:
    """Names of the nodes that use each library, by library."""
    by_library: dict[str, list[str]] = {}
    for node in nodes:
        for name in filter(None, node.detail.split(", ")):
            by_library.setdefault(name, []).append(node.name)
    return by_library


def bytes_by_node(context: Context) -> dict[str, int]:
    """Bytes of the artifacts that each node of the run produced, by node."""
    return {
        node: sum(count_bytes(Path(artifact.uri)) for artifact in outputs.values())
        for node, outputs in context.outputs.items()
    }


def _properties(values: Mapping[str, mlmd.Value]) -> str:
    """Format the properties that identify data and version."""
    shown = ("span", "first_span", "input_fingerprint", "pushed_version", "blessed", "code_digest")
    present = {name: values[name] for name in shown if name in values}
    return ", ".join(f"{name} {value.string_value or value.int_value}" for name, value in present.items())


def _libraries(node: object, modules: Iterable[str]) -> list[str]:
    """Packages that are imported by the node's executor and by our modules that it runs."""
    executor = getattr(getattr(node, "executor_spec", None), "executor_class", type(node))
    files = [Path(inspect.getfile(import_module(executor.__module__)))]
    files += [path for path in cache_key.closure(*modules).values() if path.name != "catalog.py"]
    imported = {name for path in files for name in _imports(path)}
    return sorted({LIBRARIES[name] for name in imported if name in LIBRARIES})


def _imports(path: Path) -> set[str]:
    """Top-level names that a file imports, including imports inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names
