"""Runs in the metadata store, read and written without importing TFX, so that queries are fast."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ml_metadata import errors
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.metadata import local_file
from pipeline.metadata.store_address import MetadataAddress
from pipeline.metadata.uri_store import UriStore
from pipeline.run import Run

RUN_CONTEXT = "showcase_run"
EMPTY = mlmd.ConnectionConfig(fake_database=mlmd.FakeDatabaseConfig())
# Errors of a call if the server is down, does not answer in time, or is not a metadata server.
NO_ANSWER = (errors.UnavailableError, errors.DeadlineExceededError, errors.UnimplementedError)
STORE_ERRORS = (errors.StatusError, RuntimeError, sqlite3.Error)  # the C++ code raises RuntimeError
STATES = {mlmd.Execution.COMPLETE: "done", mlmd.Execution.CACHED: "cached", mlmd.Execution.FAILED: "failed"}


class BusyError(OSError):
    """Another process holds the lock for work that must not run twice at the same time."""


@contextmanager
def write_lock(file: Path | None) -> Iterator[None]:
    """Hold a lock that allows one writer over all processes; the kernel releases the lock of a killed process.

    Args:
        file: The SQLite file; None for a server, which orders writes itself.
    """
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock without waiting for it, for work that must not run twice at the same time.

    Args:
        path: Lock file.
        what: Name of the work for the error message.

    Raises:
        BusyError: if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"Another {what} is under way in this home; wait for it, or give another --home.") from None
        yield


@contextmanager
def open_for_writing(address: MetadataAddress) -> Iterator[MetadataStore]:
    """Open the store for writing, under its lock; create it if it does not exist.

    Raises:
        MetadataUnavailableError: if it cannot be opened, or its server does not answer.
    """
    address.exists()  # raises within seconds if no server listens
    with _connect(address) as connection:
        yield connection


@contextmanager
def open_for_reading(address: MetadataAddress) -> Iterator[MetadataStore]:
    """Open the store for reading, under its lock; an empty store in memory if there is none, so that no file is created.

    Raises:
        MetadataUnavailableError: if it cannot be opened, or its server does not answer.
    """
    if not address.exists():
        yield MetadataStore(EMPTY)
    elif address.file and not local_file.is_writable(address.file):
        with _connect_to_copy(address, address.file) as connection:
            yield connection
    else:
        with _connect(address) as connection:
            yield connection


@contextmanager
def _connect(address: MetadataAddress) -> Iterator[MetadataStore]:
    with write_lock(address.file):
        is_new = address.file is not None and not address.file.exists()
        try:
            if address.file and not is_new:
                local_file.follow_home(address.file)
            connection = UriStore(MetadataStore(address.connection()))
            if address.file and is_new:
                local_file.record_home(address.file)
        except STORE_ERRORS as error:
            raise address.unavailable(error) from error
        try:
            yield connection
        except NO_ANSWER as error:
            raise address.unavailable(error) from error


@contextmanager
def _connect_to_copy(address: MetadataAddress, file: Path) -> Iterator[MetadataStore]:
    with ExitStack() as opened:
        try:
            copy = opened.enter_context(local_file.copy_store(file))
            connection = UriStore(MetadataStore(MetadataAddress(copy).connection()))
        except STORE_ERRORS as error:
            raise address.unavailable(error) from error
        yield connection


def runs(address: MetadataAddress, case: str | None = None) -> list[Run]:
    """Return all runs, or those of a case, the oldest first."""
    with open_for_reading(address) as connection:
        try:
            contexts = connection.get_contexts_by_type(RUN_CONTEXT)
        except errors.NotFoundError:
            return []
    all_runs = [_parse_run(context) for context in sorted(contexts, key=lambda c: c.id)]
    return [run for run in all_runs if case in (None, run.case)]


def pushed_runs(address: MetadataAddress, case: str) -> list[Run]:
    """Return the runs of a case that pushed a version, the oldest first."""
    return [run for run in runs(address, case) if run.state == "pushed"]


def save(address: MetadataAddress, run: Run) -> None:
    """Write the run's record; replace an existing record with the same id."""
    with open_for_writing(address) as store:
        kind = mlmd.ContextType(name=RUN_CONTEXT)
        for name in ("case", "state", "reason", "fingerprint"):
            kind.properties[name] = mlmd.STRING
        context = mlmd.Context(type_id=store.put_context_type(kind, can_add_fields=True), name=run.id)
        existing = store.get_context_by_type_and_name(RUN_CONTEXT, run.id)
        if existing:
            context.id = existing.id
        for name in ("case", "state", "reason", "fingerprint"):
            context.properties[name].string_value = getattr(run, name)
        for name, value in run.facts.items():
            context.custom_properties[name].string_value = value
        store.put_contexts([context])


def stage_states(address: MetadataAddress, run_id: str) -> dict[str, str]:
    """Return the state of every stage that the run has started: done, cached, failed or running."""
    with open_for_reading(address) as store:
        run_executions = executions(store, run_id)
        types = {kind.id: kind.name for kind in store.get_execution_types()}
    return {
        _node_name(execution, types): STATES.get(execution.last_known_state, "running") for execution in run_executions
    }


def copy_as_cached(address: MetadataAddress, source: str, run_id: str) -> list[str]:
    """Register a run whose stages are cached executions with the inputs and outputs of the source run's stages.

    Returns:
        The names of the stages.
    """
    with open_for_writing(address) as store:
        types = {kind.id: kind.name for kind in store.get_execution_types()}
        run_type = store.get_context_type("pipeline_run")
        context_id = store.put_contexts([mlmd.Context(type_id=run_type.id, name=run_id)])[0]
        names = []
        for execution in executions(store, source):
            events = store.get_events_by_execution_ids([execution.id])
            others = [c.id for c in store.get_contexts_by_execution(execution.id) if c.type_id != run_type.id]
            names.append(_node_name(execution, types))
            copy = mlmd.Execution(type_id=execution.type_id, last_known_state=mlmd.Execution.CACHED)
            for name, value in execution.custom_properties.items():
                copy.custom_properties[name].CopyFrom(value)
            _put_execution(store, copy, events, [context_id, *others])
    return names


def _put_execution(
    store: MetadataStore, execution: mlmd.Execution, events: list[mlmd.Event], contexts: list[int]
) -> None:
    pairs = []
    for event in events:
        copy = mlmd.Event(artifact_id=event.artifact_id, type=event.type, path=event.path)
        pairs.append((store.get_artifacts_by_id([event.artifact_id])[0], copy))
    store.put_execution(execution, pairs, [store.get_contexts_by_id([context_id])[0] for context_id in contexts])


def execution_state(address: MetadataAddress, execution_id: int) -> str:
    """Return the state of one execution: done, cached, failed or running."""
    with open_for_reading(address) as store:
        return STATES.get(store.get_executions_by_id([execution_id])[0].last_known_state, "running")


def find_unfinished_executions(address: MetadataAddress, run_id: str, node: str) -> list[int]:
    """Return the ids of a node's executions in a run that started and did not succeed."""
    with open_for_reading(address) as store:
        types = {kind.id: kind.name for kind in store.get_execution_types()}
        node_executions = [e for e in executions(store, run_id) if _node_name(e, types) == node]
    return [e.id for e in node_executions if e.last_known_state not in (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)]


def utc_now() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def executions(store: MetadataStore, run_id: str) -> list[mlmd.Execution]:
    """Return the executions of a run in the order in which they started."""
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    return sorted(store.get_executions_by_context(context.id), key=lambda e: e.id) if context else []


def _node_name(execution: mlmd.Execution, types: dict[int, str]) -> str:
    return types[execution.type_id].rsplit(".", 1)[-1]


def _parse_run(context: mlmd.Context) -> Run:
    values = {name: context.properties[name].string_value for name in ("case", "state", "reason", "fingerprint")}
    # Sorted by name, because the store returns them in a different order each time.
    facts = {name: value.string_value for name, value in sorted(context.custom_properties.items())}
    # A run whose stages are pods has no process id to check.
    if values["state"] == "running" and "pid" in facts and not Path("/proc", facts["pid"]).exists():
        values |= {"state": "stopped", "reason": "Killed; the same command resumes it after the last finished stage."}
    return Run(id=context.name, facts=facts, **values)


def outputs(address: MetadataAddress, run_id: str) -> dict[str, dict[str, mlmd.Artifact]]:
    """Return the latest artifact of every output of a run: stage name to output key to artifact."""
    artifacts_by_stage: dict[str, dict[str, mlmd.Artifact]] = {}
    with open_for_reading(address) as store:
        types = {kind.id: kind.name for kind in store.get_execution_types()}
        for execution in executions(store, run_id):
            events = [e for e in store.get_events_by_execution_ids([execution.id]) if e.type == mlmd.Event.OUTPUT]
            for event, artifact in zip(events, _load_artifacts(store, events), strict=True):
                artifacts_by_stage.setdefault(_node_name(execution, types), {})[event.path.steps[0].key] = artifact
    return artifacts_by_stage


def _load_artifacts(store: MetadataStore, events: list[mlmd.Event]) -> list[mlmd.Artifact]:
    by_id = {artifact.id: artifact for artifact in store.get_artifacts_by_id([e.artifact_id for e in events])}
    return [by_id[e.artifact_id] for e in events]
