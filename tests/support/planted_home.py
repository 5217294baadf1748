"""A home as after a run, written to the store without a run: stages, artifacts, the run's record and a version."""

import json
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.home import Home
from pipeline.metadata import store
from pipeline.run import Run

STEPS = ("SpanExampleGen", "StatisticsGen", "DataGate", "Trainer", "Pusher")
OUTPUT_TYPES = {
    "SpanExampleGen": "Examples",
    "StatisticsGen": "ExampleStatistics",
    "Trainer": "Model",
    "Pusher": "PushedModel",
}
INPUT_STAGES = {
    "StatisticsGen": ("SpanExampleGen",),
    "DataGate": ("StatisticsGen",),
    "Trainer": ("SpanExampleGen",),
    "Pusher": ("Trainer",),
}
COMPLETE, RUNNING = mlmd.Execution.COMPLETE, mlmd.Execution.RUNNING


def plant_run(
    home: Path, case: str = "fraud", run_id: str = "fraud-1", state: str = "pushed", reason: str = "version 1"
) -> Run:
    """Write a run of the case with all stages complete, and version 1."""
    path = Home(home).metadata
    with store.open_for_writing(path) as connection:
        plant_stages(connection, run_id, dict.fromkeys(STEPS, COMPLETE))
    facts = {
        "started": "2026-01-02T03:04:05+00:00",
        "spans": "0:9",
        "commit": "abc",
        "headline": "pr_auc 0.5",
        "pushed": "/versions/1",
    }
    facts["stages"] = json.dumps({name: {"state": "done", "seconds": 1.5, "message": ""} for name in STEPS})
    run = Run(run_id, case, state, reason, "f", facts)
    store.save(path, run)
    (Home(home).case(case).versions / "1").mkdir(parents=True, exist_ok=True)
    return run


def plant_stages(connection: MetadataStore, run_id: str, states: dict[str, int]) -> None:
    """Write executions of a run; each reads the artifacts of earlier ones."""
    kind = connection.put_context_type(mlmd.ContextType(name="pipeline_run"), can_add_fields=True)
    context = mlmd.Context(type_id=kind, name=run_id)
    existing = connection.get_context_by_type_and_name("pipeline_run", run_id)
    context.id = existing.id if existing else connection.put_contexts([context])[0]
    artifacts: dict[str, mlmd.Artifact] = {}
    for name, state in states.items():
        type_id = connection.put_execution_type(mlmd.ExecutionType(name=f"tfx.{name}"))
        sources = [source for source in INPUT_STAGES.get(name, ()) if source in artifacts]
        pairs = [(artifacts[source], _event(mlmd.Event.INPUT, source)) for source in sources]
        if name in OUTPUT_TYPES and state == COMPLETE:
            kind = connection.put_artifact_type(mlmd.ArtifactType(name=OUTPUT_TYPES[name]))
            pairs.append((mlmd.Artifact(type_id=kind, uri=f"/{name}"), _event(mlmd.Event.OUTPUT, name)))
        execution = mlmd.Execution(type_id=type_id, last_known_state=state)
        _, ids, _ = connection.put_execution(execution, pairs, [context])
        if name in OUTPUT_TYPES and state == COMPLETE:
            artifacts[name] = connection.get_artifacts_by_id(ids[-1:])[0]


def _event(kind: int, name: str) -> mlmd.Event:
    path = mlmd.Event.Path(steps=[mlmd.Event.Path.Step(key=name.lower())])
    return mlmd.Event(type=kind, path=path)
