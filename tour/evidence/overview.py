"""The whole pipeline: the graph that ran, the libraries under it, and how the served model came to be."""

import ast
import inspect
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline import code_digest
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import Plan
from tour.evidence.context import Context
from tour.evidence.result_types import Graph, Node, Number, Result, Table

# What a node can stand on: importable name to the name of the package.
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
    """A1: the graph of the last run, and the versions of what its nodes stand on."""
    graph = run_graph(context)
    jobs, sizes = jobs_of(graph.nodes), written(context)
    rows = tuple(
        (name, version(name), sum(sizes.get(node, 0) for node in jobs[name]), ", ".join(jobs[name]))
        for name in sorted(jobs)
    )
    return [graph, Table("Libraries in use", ("library", "version", "bytes that its nodes wrote", "nodes"), rows)]


def pipeline_of_run(context: Context) -> list[Result]:
    """B17: the graph of the last run, how long each stage took, and what the gates did over all runs."""
    last = context.runs[-1]
    seconds = Table(
        "Stages of the last run", ("stage", "state", "seconds"), tuple(stage_times(context.metadata, last.id))
    )
    history = tuple((run.id, run.state, run.reason) for run in context.runs)
    refused = sum(run.state == "refused" for run in context.runs)
    return [
        run_graph(context),
        seconds,
        Table("Every run, and what came of it", ("run", "state", "reason"), history),
        Number("Runs that a gate refused", refused, f"of {len(history)}"),
    ]


def lineage_of_served(context: Context) -> list[Result]:
    """A15: the served model walked back through the metadata store to the spans, and the facts of its run."""
    pushed = next(o["pushed_model"] for o in context.outputs.values() if "pushed_model" in o)
    graph = lineage(context.metadata, pushed.id)
    names = ("source", "spans", "data_version", "commit", "started", "ended", "pushed", "headline")
    facts = [("run", context.run.id), *((name, context.run.facts.get(name, "")) for name in names)]
    return [graph, Table("The run that made it", ("fact", "value"), tuple(facts))]


def run_graph(context: Context) -> Graph:
    """The graph as it is built from the last run's plan, each node with its libraries and its recorded state."""
    last = context.runs[-1]
    states = store.stage_states(context.metadata, last.id)
    nodes, edges = graph_of(plan_of(context))
    shown = tuple(Node(name, ", ".join(used), states.get(name, "not reached")) for name, used in nodes.items())
    return Graph(f"Run {last.id}", shown, edges)


def plan_of(context: Context) -> Plan:
    """The last run's plan, from what the store kept of it."""
    run = context.runs[-1]
    first, last = run.facts["spans"].split(":")
    kept = json.loads(run.facts["settings"])
    # A run of an older version has no word on settings that came later.
    settings = {group: {**values, **kept.get(group, {})} for group, values in context.case.settings.items()}
    schema = context.artifact("schema") / "schema.pbtxt"
    return Plan(
        case=context.case,
        source=run.facts["source"],
        first=int(first),
        last=int(last),
        settings=settings,
        schema=schema.read_text(),
        versions=str(context.served.parent),
        data_version=run.facts["data_version"],
        space=json.loads(run.facts.get("space", "{}")),
    )


def graph_of(plan: Plan) -> tuple[dict[str, list[str]], tuple[tuple[str, str], ...]]:
    """The libraries of every node of the plan's graph by the node's name, and the edges."""
    from tfx.orchestration.pipeline import Pipeline

    from pipeline import graph

    stages = graph.build(plan)
    # What flows between two nodes makes an edge once they are in a pipeline.
    Pipeline(plan.case.name, plan.versions, components=[stage.node for stage in stages])
    nodes = {stage.node.id: _libraries(stage.node, stage.modules) for stage in stages}
    edges = tuple((up.id, stage.node.id) for stage in stages for up in stage.node.upstream_nodes)
    return nodes, tuple(sorted(edges))


def lineage(metadata: MetadataAddress, artifact_id: int) -> Graph:
    """The artifacts and executions that an artifact comes from, at any depth, from the store alone."""
    nodes: dict[str, Node] = {}
    edges: set[tuple[str, str]] = set()
    with store.open_for_reading(metadata) as opened:
        kinds = {kind.id: kind.name for kind in opened.get_artifact_types()}
        makers = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in opened.get_execution_types()}
        waiting = [artifact_id]
        while waiting:
            one = opened.get_artifacts_by_id([waiting.pop()])[0]
            name = f"{kinds[one.type_id]} {one.id}"
            if name in nodes:
                continue
            nodes[name] = Node(name, one.uri, _properties(one.custom_properties))
            # The execution that made it, and not the later ones that found it cached: the lowest id.
            made = [e for e in opened.get_events_by_artifact_ids([one.id]) if e.type == mlmd.Event.OUTPUT]
            for execution in opened.get_executions_by_id([e.execution_id for e in made])[:1]:
                maker = f"{makers[execution.type_id]} ({execution.id})"
                nodes.setdefault(maker, Node(maker, _properties(execution.custom_properties), "ran"))
                edges.add((maker, name))
                for event in opened.get_events_by_execution_ids([execution.id]):
                    if event.type == mlmd.Event.INPUT:
                        source = opened.get_artifacts_by_id([event.artifact_id])[0]
                        edges.add((f"{kinds[source.type_id]} {source.id}", maker))
                        waiting.append(source.id)
    return Graph("Lineage of the served model", tuple(nodes.values()), tuple(sorted(edges)))


def jobs_of(nodes: Iterable[Node]) -> dict[str, list[str]]:
    """Names of nodes by the libraries that they stand on."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        for name in filter(None, node.detail.split(", ")):
            found.setdefault(name, []).append(node.name)
    return found


def written(context: Context) -> dict[str, int]:
    """Bytes of the artifacts that each node of the run gave out."""
    return {
        node: sum(
            path.stat().st_size for one in outputs.values() for path in Path(one.uri).rglob("*") if path.is_file()
        )
        for node, outputs in context.outputs.items()
    }


def stage_times(metadata: MetadataAddress, run_id: str) -> list[tuple[str, str, float]]:
    """Stage, state and seconds from first to last write of its execution, in the order they ran."""
    states = store.stage_states(metadata, run_id)
    with store.open_for_reading(metadata) as opened:
        run = opened.get_context_by_type_and_name("pipeline_run", run_id)
        kinds = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in opened.get_execution_types()}
        executions = sorted(opened.get_executions_by_context(run.id), key=lambda one: one.id)
    spent = {
        kinds[one.type_id]: (one.last_update_time_since_epoch - one.create_time_since_epoch) / 1000
        for one in executions
    }
    return [(name, states[name], seconds) for name, seconds in spent.items()]


def _properties(values: Mapping[str, mlmd.Value]) -> str:
    """The properties that say which data and version it was."""
    shown = ("span", "first_span", "input_fingerprint", "pushed_version", "blessed", "code_digest")
    found = {name: values[name] for name in shown if name in values}
    return ", ".join(f"{name} {value.string_value or value.int_value}" for name, value in found.items())


def _libraries(node: object, modules: Iterable[str]) -> list[str]:
    """Packages imported by the module of the node's executor and by our modules behind the node."""
    executor = getattr(getattr(node, "executor_spec", None), "executor_class", type(node))
    files = [Path(inspect.getfile(import_module(executor.__module__)))]
    files += [path for path in code_digest.closure(*modules).values() if path.name != "catalog.py"]
    imported = {name for path in files for name in _imports(path)}
    return sorted({LIBRARIES[name] for name in imported if name in LIBRARIES})


def _imports(path: Path) -> set[str]:
    """Top names of all that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found
