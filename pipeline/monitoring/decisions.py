"""Monitoring decisions of a case and the runs that followed, read from the metadata store without importing TFX."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2 as mlmd

from models.catalog import find_use_case
from pipeline.metadata import store
from pipeline.runtime import Runtime
from serving import bucket_folders
from serving.drift.profiles.windows import format_window

TYPE, FILE, PAGE = "Decision", "decision.json", "report.html"
TRAINING_ACTIONS = ("refresh", "retrain")
ENDED_STATES = ("pushed", "refused", "failed")


@dataclass(frozen=True)
class StoredDecision:
    """A monitoring decision.

    Attributes:
        folder: Folder of the decision's artifact.
        record: Content of its JSON file.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Id of the decision, which a run that it triggers has among its facts."""
        return self.record["id"]


def list_decisions(runtime: Runtime, case: str) -> list[StoredDecision]:
    """Return every decision about a case, the oldest first."""
    with store.open_for_reading(runtime.metadata) as connection:
        try:
            artifacts = connection.get_artifacts_by_type(TYPE)
        except errors.NotFoundError:
            return []
    decisions_of_case = [
        artifact
        for artifact in artifacts
        if artifact.state == mlmd.Artifact.LIVE and artifact.custom_properties["case"].string_value == case
    ]
    folders = [
        Path(artifact.uri)
        for artifact in sorted(
            decisions_of_case, key=lambda artifact: (artifact.custom_properties["window"].int_value, artifact.id)
        )
    ]
    for folder in folders:
        bucket_folders.pull(folder)
    return [StoredDecision(folder, json.loads((folder / FILE).read_text())) for folder in folders]


def find_pending_decision(runtime: Runtime, case: str) -> StoredDecision | None:
    """Return the last decision if it calls for training and no run has ended for it; None otherwise."""
    last = next(reversed(list_decisions(runtime, case)), None)
    if last is None or last.record["action"] not in TRAINING_ACTIONS:
        return None
    ended = [run for run in store.runs(runtime.metadata, case) if run.decision == last.id and run.state in ENDED_STATES]
    return None if ended else last


def describe_last_decision(runtime: Runtime, case: str) -> str:
    """Describe the last decision and the run that followed in one line; empty if there is no decision."""
    last = next(reversed(list_decisions(runtime, case)), None)
    if last is None:
        return ""
    runs = [run for run in store.runs(runtime.metadata, case) if run.decision == last.id]
    follow_up = f"; {runs[-1].id}: {runs[-1].state}" if runs else ""
    window = format_window(last.record["window"], bool(find_use_case(case).time))
    return f"{last.record['action']} after {window}: {' '.join(last.record['reasons'])}{follow_up}"
