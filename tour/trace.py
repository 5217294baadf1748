"""Who came of what, from the metadata store and the prediction log alone: runs, artifacts, versions, logged predictions."""

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
    """What a stage made.

    Attributes:
        id: In the store.
        key: Under which its maker gives it.
        type: Such as Examples.
        folder: Where it lies.
        facts: Its properties, as text or numbers.
        made: When, UTC.
    """

    id: int
    key: str
    type: str
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    made: str = ""


@dataclass(frozen=True)
class Execution:
    """A stage as it ran: what it took and what it gave."""

    id: int
    node: str
    state: str
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...]


def executions(address: MetadataAddress, run_id: str) -> list[Execution]:
    """The stages of a run that have begun, in the order in which they did; of a stage that was tried again the last try."""
    with store.open_for_reading(address) as held:
        context = held.get_context_by_type_and_name("pipeline_run", run_id)
        found = sorted(held.get_executions_by_context(context.id), key=lambda one: one.id) if context else []
        return list({one.node: one for one in _read(held, found)}.values())


def maker(address: MetadataAddress, artifact_id: int) -> tuple[str, Execution] | None:
    """The run that made an artifact, and how; None for one that is not there or that no run made.

    Later runs that found it done have it as an output too: the first execution made it.
    """
    with store.open_for_reading(address) as held:
        if not held.get_artifacts_by_id([artifact_id]):
            return None
        events = [one for one in held.get_events_by_artifact_ids([artifact_id]) if one.type in OUTPUTS]
        if not events:
            return None
        first = min(one.execution_id for one in events)
        run = [
            one
            for one in held.get_contexts_by_execution(first)
            if one.type_id == held.get_context_type("pipeline_run").id
        ]
        made = list(_read(held, held.get_executions_by_id([first])))
        return (run[0].name if run else "", made[0])


def run_ids(address: MetadataAddress, prefix: str) -> list[str]:
    """Ids of everything that has run in the store and whose name begins so, the oldest first."""
    with store.open_for_reading(address) as held:
        kinds = {one.name for one in held.get_context_types()}
        found = held.get_contexts_by_type("pipeline_run") if "pipeline_run" in kinds else []
    return [one.name for one in sorted(found, key=lambda one: one.id) if one.name.startswith(prefix)]


def _read(held: MetadataStore, found: list[mlmd.Execution]) -> Iterator[Execution]:
    if not found:
        return
    nodes = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in held.get_execution_types()}
    types = {kind.id: kind.name for kind in held.get_artifact_types()}
    events = held.get_events_by_execution_ids([one.id for one in found])
    there = held.get_artifacts_by_id(sorted({one.artifact_id for one in events})) if events else []
    by_id = {one.id: one for one in there}
    for execution in found:
        mine = [one for one in events if one.execution_id == execution.id and one.artifact_id in by_id]
        taken, given = ([one for one in mine if one.type in kinds] for kinds in (INPUTS, OUTPUTS))
        ends = [tuple(_artifact(by_id[one.artifact_id], one, types) for one in side) for side in (taken, given)]
        state = store.STATES.get(execution.last_known_state, "running")
        yield Execution(execution.id, nodes[execution.type_id], state, *ends)


def _artifact(one: mlmd.Artifact, event: mlmd.Event, types: Mapping[int, str]) -> Artifact:
    key = event.path.steps[0].key if event.path.steps else ""
    facts = {name: _value(value) for held in (one.properties, one.custom_properties) for name, value in held.items()}
    made = datetime.fromtimestamp(one.create_time_since_epoch / 1000, UTC).isoformat(sep=" ", timespec="seconds")
    return Artifact(one.id, key, types[one.type_id], Path(one.uri), facts, made[:19])


def _value(value: mlmd.Value) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
