"""A home as a run leaves it, planted in a store without a run: stages, artifacts, what came of it, and a version."""

import json
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store

STEPS = ("SpanExampleGen", "StatisticsGen", "DataGate", "Trainer", "Pusher")
MADE = {"SpanExampleGen": "Examples", "StatisticsGen": "ExampleStatistics", "Trainer": "Model", "Pusher": "PushedModel"}
TOOK = {
    "StatisticsGen": ("SpanExampleGen",),
    "DataGate": ("StatisticsGen",),
    "Trainer": ("SpanExampleGen",),
    "Pusher": ("Trainer",),
}
COMPLETE, RUNNING = mlmd.Execution.COMPLETE, mlmd.Execution.RUNNING


def planted(
    home: Path, case: str = "fraud", run_id: str = "fraud-1", state: str = "pushed", reason: str = "version 1"
) -> store.Run:
    """A run of the case with all stages done, and version 1 beside it."""
    path = local_runtime(home).metadata
    with store.opened(path) as held:
        stages(held, run_id, dict.fromkeys(STEPS, COMPLETE))
    facts = {
        "started": "2026-01-02T03:04:05+00:00",
        "spans": "0:9",
        "commit": "abc",
        "headline": "pr_auc 0.5",
        "pushed": "/versions/1",
    }
    facts["stages"] = json.dumps({name: {"state": "done", "seconds": 1.5, "message": ""} for name in STEPS})
    run = store.Run(run_id, case, state, reason, "f", facts)
    store.save(path, run)
    Path(local_runtime(home).versions(case), "1").mkdir(parents=True, exist_ok=True)
    return run


def stages(held: MetadataStore, run_id: str, states: dict[str, int]) -> None:
    """Executions of a run, each taking what those before it made."""
    kind = held.put_context_type(mlmd.ContextType(name="pipeline_run"), can_add_fields=True)
    context = mlmd.Context(type_id=kind, name=run_id)
    known = held.get_context_by_type_and_name("pipeline_run", run_id)
    context.id = known.id if known else held.put_contexts([context])[0]
    made: dict[str, mlmd.Artifact] = {}
    for name, state in states.items():
        maker = held.put_execution_type(mlmd.ExecutionType(name=f"tfx.{name}"))
        pairs = [(made[one], _event(mlmd.Event.INPUT, one)) for one in TOOK.get(name, ()) if one in made]
        if name in MADE and state == COMPLETE:
            kind = held.put_artifact_type(mlmd.ArtifactType(name=MADE[name]))
            pairs.append((mlmd.Artifact(type_id=kind, uri=f"/{name}"), _event(mlmd.Event.OUTPUT, name)))
        execution = mlmd.Execution(type_id=maker, last_known_state=state)
        _, ids, _ = held.put_execution(execution, pairs, [context])
        if name in MADE and state == COMPLETE:
            made[name] = held.get_artifacts_by_id(ids[-1:])[0]


def _event(kind: int, name: str) -> mlmd.Event:
    path = mlmd.Event.Path(steps=[mlmd.Event.Path.Step(key=name.lower())])
    return mlmd.Event(type=kind, path=path)
