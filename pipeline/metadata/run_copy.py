"""Copy a run into another metadata store, so that a scratch home reuses its finished stages."""

from collections.abc import Callable
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run


def copy_run(source: MetadataAddress, run: Run, target: MetadataAddress) -> None:
    """Copy a run's record, its executions with their contexts, and their input and output artifacts.

    Files are not copied: the artifacts of both stores lie in the same folders.

    Raises:
        MetadataUnavailableError: if one of the stores does not answer.
    """
    with store.open_for_reading(source) as old, store.open_for_writing(target) as new:
        copier = _Copier(old, new)
        for execution in store.executions(old, run.id):
            copier.copy_execution(execution)
    store.save(target, run)


class _Copier:
    """Copies contexts, executions and artifacts from one store into another, which assigns new ids."""

    def __init__(self, old: MetadataStore, new: MetadataStore) -> None:
        self._old, self._new = old, new
        self._types: dict[tuple[type, int], int] = {}
        self._artifacts: dict[int, int] = {}

    def copy_execution(self, execution: mlmd.Execution) -> None:
        """Copy an execution with its events, contexts and those artifacts that the target store lacks."""
        old, new = self._old, self._new
        events = old.get_events_by_execution_ids([execution.id])
        contexts = [self._context(context) for context in old.get_contexts_by_execution(execution.id)]
        pairs = [(self._artifact(event.artifact_id), mlmd.Event(type=event.type, path=event.path)) for event in events]
        copied = self._with_new_type(execution, old.get_execution_types, new.put_execution_type)
        _, ids, _ = new.put_execution(copied, pairs, contexts, reuse_context_if_already_exist=True)
        self._artifacts.update(zip((event.artifact_id for event in events), ids, strict=True))

    def _artifact(self, number: int) -> mlmd.Artifact:
        (artifact,) = self._old.get_artifacts_by_id([number])
        copied = self._with_new_type(artifact, self._old.get_artifact_types, self._new.put_artifact_type)
        if number in self._artifacts:
            copied.id = self._artifacts[number]
        return copied

    def _context(self, context: mlmd.Context) -> mlmd.Context:
        return self._with_new_type(context, self._old.get_context_types, self._new.put_context_type)

    def _with_new_type(self, message: Any, read: Callable[[], Any], put: Callable[[Any], int]) -> Any:
        """Return a copy without an id, whose type is the target store's."""
        key = type(message), message.type_id
        if key not in self._types:
            kind = next(kind for kind in read() if kind.id == message.type_id)
            kind.ClearField("id")
            self._types[key] = put(kind)
        copied = type(message)()
        copied.CopyFrom(message)
        copied.ClearField("id")
        copied.type_id = self._types[key]
        return copied
