"""What the metadata store knows of runs, read and written without importing TFX, so that asking is quick."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ml_metadata import errors
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.metadata.store_address import MetadataAddress

RUN = "showcase_run"
EMPTY = mlmd.ConnectionConfig(fake_database=mlmd.FakeDatabaseConfig())
# What a call of a server ends with if the server is gone, silent, or something else.
NO_ANSWER = (errors.UnavailableError, errors.DeadlineExceededError, errors.UnimplementedError)
STATES = {mlmd.Execution.COMPLETE: "done", mlmd.Execution.CACHED: "cached", mlmd.Execution.FAILED: "failed"}


class BusyError(OSError):
    """Something of which there may be one at a time is under way elsewhere."""


@dataclass(frozen=True)
class Run:
    """One run of one case.

    Attributes:
        id: Name of the run, also its id in the pipeline.
        case: Use case.
        state: running, pushed, refused, failed, interrupted, or stopped (its process is gone).
        reason: One sentence: what was pushed, or which gate refused what.
        fingerprint: Hash of everything that decides the result.
        facts: Further text by name: start, end, spans, version, commit.
    """

    id: str
    case: str
    state: str
    reason: str
    fingerprint: str
    facts: dict[str, str] = field(default_factory=dict)


@contextmanager
def locked(file: Path | None) -> Iterator[None]:
    """One writer at a time over all processes; the kernel frees the lock of a killed one.

    Args:
        file: The SQLite file; None for a server, which keeps order itself.
    """
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Refuses to wait: for work of which there may be one at a time.

    Raises:
        BusyError: if another process is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"Another {what} is under way in this home; wait for it, or give another --home.") from None
        yield


@contextmanager
def opened(address: MetadataAddress) -> Iterator[MetadataStore]:
    """The store, under its lock; made if there is none.

    Raises:
        MetadataUnavailableError: if it cannot be opened, or its server does not answer.
    """
    address.exists()  # which says so within seconds where no server listens
    with _connected(address) as held:
        yield held


@contextmanager
def open_for_reading(address: MetadataAddress) -> Iterator[MetadataStore]:
    """The store, under its lock; an empty one in memory if there is none, so that to look makes no file.

    Raises:
        MetadataUnavailableError: if it cannot be opened, or its server does not answer.
    """
    if not address.exists():
        yield MetadataStore(EMPTY)
        return
    with _connected(address) as held:
        yield held


@contextmanager
def _connected(address: MetadataAddress) -> Iterator[MetadataStore]:
    with locked(address.file):
        try:
            held = MetadataStore(address.connection())
        except (errors.StatusError, RuntimeError) as error:  # the latter by the C++ code
            raise address.unavailable(error) from error
        try:
            yield held
        except NO_ANSWER as error:
            raise address.unavailable(error) from error


def runs(address: MetadataAddress, case: str | None = None) -> list[Run]:
    """All runs, the oldest first."""
    with open_for_reading(address) as held:
        try:
            contexts = held.get_contexts_by_type(RUN)
        except errors.NotFoundError:
            return []
    found = [_run(context) for context in sorted(contexts, key=lambda c: c.id)]
    return [run for run in found if case in (None, run.case)]


def save(address: MetadataAddress, run: Run) -> None:
    """Writes the run's record, anew or over the one of the same id."""
    with opened(address) as store:
        kind = mlmd.ContextType(name=RUN)
        for name in ("case", "state", "reason", "fingerprint"):
            kind.properties[name] = mlmd.STRING
        context = mlmd.Context(type_id=store.put_context_type(kind, can_add_fields=True), name=run.id)
        known = store.get_context_by_type_and_name(RUN, run.id)
        if known:
            context.id = known.id
        for name in ("case", "state", "reason", "fingerprint"):
            context.properties[name].string_value = getattr(run, name)
        for name, value in run.facts.items():
            context.custom_properties[name].string_value = value
        store.put_contexts([context])


def stage_states(address: MetadataAddress, run_id: str) -> dict[str, str]:
    """State of every stage of a run that has one: done, cached, failed or running."""
    with open_for_reading(address) as store:
        found = executions(store, run_id)
        types = {kind.id: kind.name for kind in store.get_execution_types()}
    return {_node(execution, types): STATES.get(execution.last_known_state, "running") for execution in found}


def copy_as_cached(address: MetadataAddress, source: str, run_id: str) -> list[str]:
    """Registers a run whose every stage is the source run's, cached: same inputs and outputs, a context of its own."""
    with opened(address) as store:
        types = {kind.id: kind.name for kind in store.get_execution_types()}
        run_type = store.get_context_type("pipeline_run")
        context_id = store.put_contexts([mlmd.Context(type_id=run_type.id, name=run_id)])[0]
        names = []
        for execution in executions(store, source):
            events = store.get_events_by_execution_ids([execution.id])
            others = [c.id for c in store.get_contexts_by_execution(execution.id) if c.type_id != run_type.id]
            names.append(_node(execution, types))
            copy = mlmd.Execution(type_id=execution.type_id, last_known_state=mlmd.Execution.CACHED)
            for name, value in execution.custom_properties.items():
                copy.custom_properties[name].CopyFrom(value)
            _put(store, copy, events, [context_id, *others])
    return names


def _put(store: MetadataStore, execution: mlmd.Execution, events: list[mlmd.Event], contexts: list[int]) -> None:
    pairs = []
    for event in events:
        copy = mlmd.Event(artifact_id=event.artifact_id, type=event.type, path=event.path)
        pairs.append((store.get_artifacts_by_id([event.artifact_id])[0], copy))
    store.put_execution(execution, pairs, [store.get_contexts_by_id([one])[0] for one in contexts])


def execution_state(address: MetadataAddress, execution_id: int) -> str:
    """State of one execution."""
    with open_for_reading(address) as store:
        return STATES.get(store.get_executions_by_id([execution_id])[0].last_known_state, "running")


def unfinished(address: MetadataAddress, run_id: str, node: str) -> list[int]:
    """Executions of a node in a run that began and never ended well."""
    with open_for_reading(address) as store:
        types = {kind.id: kind.name for kind in store.get_execution_types()}
        mine = [e for e in executions(store, run_id) if _node(e, types) == node]
    return [e.id for e in mine if e.last_known_state not in (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)]


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def executions(store: MetadataStore, run_id: str) -> list[mlmd.Execution]:
    """What has run in a run, in the order in which it began."""
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    return sorted(store.get_executions_by_context(context.id), key=lambda e: e.id) if context else []


def _node(execution: mlmd.Execution, types: dict[int, str]) -> str:
    return types[execution.type_id].rsplit(".", 1)[-1]


def _run(context: mlmd.Context) -> Run:
    values = {name: context.properties[name].string_value for name in ("case", "state", "reason", "fingerprint")}
    # By name: the store gives them in another order each time.
    facts = {name: value.string_value for name, value in sorted(context.custom_properties.items())}
    # A run whose stages are pods has no process of its own that could be gone.
    if values["state"] == "running" and "pid" in facts and not Path("/proc", facts["pid"]).exists():
        values |= {"state": "stopped", "reason": "Killed; the same command goes on from the last finished stage."}
    return Run(id=context.name, facts=facts, **values)


def outputs(address: MetadataAddress, run_id: str) -> dict[str, dict[str, mlmd.Artifact]]:
    """The last artifact of every output of every stage of a run."""
    found: dict[str, dict[str, mlmd.Artifact]] = {}
    with open_for_reading(address) as store:
        types = {kind.id: kind.name for kind in store.get_execution_types()}
        for execution in executions(store, run_id):
            events = [e for e in store.get_events_by_execution_ids([execution.id]) if e.type == mlmd.Event.OUTPUT]
            for event, artifact in zip(events, _artifacts(store, events), strict=True):
                found.setdefault(_node(execution, types), {})[event.path.steps[0].key] = artifact
    return found


def _artifacts(store: MetadataStore, events: list[mlmd.Event]) -> list[mlmd.Artifact]:
    by_id = {artifact.id: artifact for artifact in store.get_artifacts_by_id([e.artifact_id for e in events])}
    return [by_id[e.artifact_id] for e in events]
