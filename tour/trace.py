"""Executions and artifacts of runs, from the metadata store."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress

NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
INPUTS = (mlmd.Event.INPUT, mlmd.Event.DECLARED_INPUT)
OUTPUTS = (mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT)


@dataclass(frozen=True)
class Artifact:
    """An artifact of a stage.

    Attributes:
        id: Id in the store.
        key: Output key of its producer.
        type: For example Examples.
        folder: Folder of its files.
        facts: Its properties, as text or numbers.
        made: Time of creation, UTC.
    """

    id: int
    key: str
    type: str
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True)
class Execution:
    """An execution of a stage with its inputs and outputs; ``seconds`` is the time from its creation to its last update."""

    id: int
    node: str
    state: str
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...]
    seconds: float = 0.0


def executions(address: MetadataAddress, run_id: str) -> list[Execution]:
    """Executions of a run, ordered by start; for a retried stage only the last try."""
    with store.open_for_reading(address) as metadata:
        context = metadata.get_context_by_type_and_name("pipeline_run", run_id)
        stored = metadata.get_executions_by_context(context.id) if context else []
        stored = sorted(stored, key=lambda execution: execution.id)
        return list({execution.node: execution for execution in _read_executions(metadata, stored)}.values())


def find_producer(address: MetadataAddress, artifact_id: int) -> tuple[str, Execution] | None:
    """The run and the execution that created an artifact; None if it does not exist or no run created it.

    Runs that reuse a cached artifact have it as an output too; the first execution created it.
    """
    with store.open_for_reading(address) as metadata:
        if not metadata.get_artifacts_by_id([artifact_id]):
            return None
        events = [event for event in metadata.get_events_by_artifact_ids([artifact_id]) if event.type in OUTPUTS]
        if not events:
            return None
        first = min(event.execution_id for event in events)
        run = [
            context
            for context in metadata.get_contexts_by_execution(first)
            if context.type_id == metadata.get_context_type("pipeline_run").id
        ]
        producers = list(_read_executions(metadata, metadata.get_executions_by_id([first])))
        return (run[0].name if run else "", producers[0])


def run_ids(address: MetadataAddress, prefix: str) -> list[str]:
    """Ids of the runs in the store that begin with the prefix, oldest first."""
    with store.open_for_reading(address) as metadata:
        kinds = {kind.name for kind in metadata.get_context_types()}
        runs = metadata.get_contexts_by_type("pipeline_run") if "pipeline_run" in kinds else []
    return [run.name for run in sorted(runs, key=lambda run: run.id) if run.name.startswith(prefix)]


def _read_executions(metadata: MetadataStore, stored: list[mlmd.Execution]) -> Iterator[Execution]:
    if not stored:
        return
    nodes = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in metadata.get_execution_types()}
    types = {kind.id: kind.name for kind in metadata.get_artifact_types()}
    events = metadata.get_events_by_execution_ids([execution.id for execution in stored])
    artifacts = metadata.get_artifacts_by_id(sorted({event.artifact_id for event in events})) if events else []
    by_id = {artifact.id: artifact for artifact in artifacts}
    for execution in stored:
        own = [event for event in events if event.execution_id == execution.id and event.artifact_id in by_id]
        inputs, outputs = (
            tuple(_to_artifact(by_id[event.artifact_id], event, types) for event in own if event.type in kinds)
            for kinds in (INPUTS, OUTPUTS)
        )
        state = store.STATES.get(execution.last_known_state, "running")
        seconds = (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000
        yield Execution(execution.id, nodes[execution.type_id], state, inputs, outputs, seconds)


def _to_artifact(stored: mlmd.Artifact, event: mlmd.Event, types: Mapping[int, str]) -> Artifact:
    key = event.path.steps[0].key if event.path.steps else ""
    properties = (stored.properties, stored.custom_properties)
    facts = {name: _value(value) for values in properties for name, value in values.items()}
    created = datetime.fromtimestamp(stored.create_time_since_epoch / 1000, UTC)
    created_at = created.isoformat(sep=" ", timespec="seconds")
    return Artifact(
        id=stored.id, key=key, type=types[stored.type_id], folder=Path(stored.uri), facts=facts, created=created_at[:19]
    )


def _value(value: mlmd.Value) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
