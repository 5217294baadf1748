"""What was decided about a case, and what became of it, as the metadata store has it; TFX is not imported."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.metadata import store
from pipeline.runtime import Runtime

TYPE, FILE, PAGE = "Decision", "decision.json", "report.html"
ACTS = ("refresh", "retrain")
ENDED = ("pushed", "refused", "failed")


@dataclass(frozen=True)
class Decided:
    """A decision.

    Attributes:
        folder: Of the artifact.
        record: What is written in it.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its name, by which a run that follows from it knows it."""
        return self.record["id"]


def all_of(runtime: Runtime, case: str) -> list[Decided]:
    """Every decision about a case, the oldest first."""
    with store.open_for_reading(runtime.metadata) as held:
        try:
            found = held.get_artifacts_by_type(TYPE)
        except errors.NotFoundError:
            return []
    mine = [
        one for one in found if one.state == mlmd.Artifact.LIVE and one.custom_properties["case"].string_value == case
    ]
    folders = [
        Path(one.uri) for one in sorted(mine, key=lambda one: (one.custom_properties["window"].int_value, one.id))
    ]
    return [Decided(folder, json.loads((folder / FILE).read_text())) for folder in folders]


def undone(runtime: Runtime, case: str) -> Decided | None:
    """The last decision, if it says to train and no run has ended for it: none was begun, or it was stopped."""
    last = next(reversed(all_of(runtime, case)), None)
    if last is None or last.record["action"] not in ACTS:
        return None
    ended = [
        run for run in store.runs(runtime.metadata, case) if run.facts.get("decision") == last.id and run.state in ENDED
    ]
    return None if ended else last


def line(runtime: Runtime, case: str) -> str:
    """The last decision in one line, and what came of it; empty where there is none."""
    last = next(reversed(all_of(runtime, case)), None)
    if last is None:
        return ""
    runs = [run for run in store.runs(runtime.metadata, case) if run.facts.get("decision") == last.id]
    after = f"; {runs[-1].id}: {runs[-1].state}" if runs else ""
    return f"{last.record['action']} after window {last.record['window']}: {' '.join(last.record['reasons'])}{after}"
