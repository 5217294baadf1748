"""List and compare runs, from the metadata store or from MLflow, which may also hold runs of other machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from models.catalog import CASES
from pipeline.metadata import store
from pipeline.run import Run
from pipeline.runtime import Runtime
from pipeline.tracking import recording

FACTS = (
    "state",
    "data.source",
    "data.spans",
    "data.version",
    "commit",
    "lock",
    "strategy",
    "weights",
    "model",
    "reason",
)


@dataclass(frozen=True)
class RunRow:
    """One run in a list.

    Attributes:
        id: Name of the run.
        case: Use case.
        state: pushed, refused, failed, interrupted, stopped or running.
        headline: The case's main metric with its value; empty if there is none.
        strategy: Distribution strategy of the training.
        spans: Window of the data.
        data: Content digest of that window.
        commit: Commit of the code, with a + if files were changed.
        time: Time of the end, or of the start if the run has not ended; UTC.
        same_as: Id of the run whose result a cached run reuses; empty otherwise.
    """

    id: str
    case: str
    state: str
    headline: str
    strategy: str
    spans: str
    data: str
    commit: str
    time: str
    same_as: str = ""


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side: rows of a name and both values, for metrics also second minus first.

    Attributes:
        first: Id of the first run.
        second: Id of the second run.
        facts: State, data, code and model of both runs.
        params: Parameters that differ; an empty text if a run lacks the parameter.
        metrics: Metrics of either run; None if a run lacks the metric.
    """

    first: str
    second: str
    facts: tuple[tuple[str, str, str], ...]
    params: tuple[tuple[str, str, str], ...]
    metrics: tuple[tuple[str, float | None, float | None, float | None], ...]


def list_runs(runtime: Runtime, case: str | None = None) -> list[RunRow]:
    """Return the runs in the metadata store, the oldest first."""
    return [_row(run) for run in store.runs(runtime.metadata, case)]


def list_mlflow_runs(runtime: Runtime, case: str | None = None) -> list[RunRow]:
    """Return the runs in MLflow, the oldest first."""
    return [
        _row_from_record(record, name)
        for name in ([case] if case else CASES)
        for record in _mlflow_records(runtime, name)
    ]


def choose_runs(rows: Sequence[RunRow], words: Sequence[str]) -> tuple[RunRow, RunRow]:
    """Choose the two runs to compare: the two named ones, the named one and the one before it, or the last two.

    Cached runs are skipped unless they are named.

    Raises:
        ValueError: for a word that matches no run or several, more than two words, or fewer than two runs.
    """
    named = [_find_run(rows, word) for word in words]
    if len(named) > 2:
        raise ValueError(f"`showcase runs` compares two runs, not {len(named)}.")
    if len(named) == 2:
        return named[0], named[1]
    end = rows.index(named[0]) if named else len(rows)
    uncached = [row for row in rows[:end] if not row.same_as and (not named or row.case == named[0].case)]
    candidates = [*uncached, *named]
    if not named and uncached:
        candidates = [row for row in uncached if row.case == uncached[-1].case]
    if len(candidates) < 2:
        raise ValueError("There are no two runs of one case to compare; `showcase runs` lists all runs.")
    return candidates[-2], candidates[-1]


def compare_runs(runtime: Runtime, pair: tuple[RunRow, RunRow], from_mlflow: bool = False) -> RunComparison:
    """Compare two runs, read from the metadata store or from MLflow."""
    records = [_load_record(runtime, row, from_mlflow) for row in pair]
    return compare_records(*records)


def compare_records(a: Mapping[str, Any], b: Mapping[str, Any]) -> RunComparison:
    """Compare two records, made by :func:`pipeline.tracking.recording.build_record` or read from MLflow."""
    params = [{name: str(value) for name, value in record["params"].items()} for record in (a, b)]
    names = sorted(params[0].keys() | params[1].keys())
    rows = ((name, params[0].get(name, ""), params[1].get(name, "")) for name in names)
    # A curve's last point is not the result: the metrics of the restored best epoch are recorded separately.
    metrics = [{n: v for n, v in record["metrics"].items() if not n.startswith("epoch/")} for record in (a, b)]
    return RunComparison(
        first=a["run"],
        second=b["run"],
        facts=tuple((name, a["tags"].get(name, ""), b["tags"].get(name, "")) for name in FACTS),
        params=tuple(row for row in rows if row[1] != row[2]),
        metrics=tuple(_compare_metric(name, *metrics) for name in sorted(metrics[0].keys() | metrics[1].keys())),
    )


def describe_mlflow_store(runtime: Runtime) -> str:
    """Return one line with the address of MLflow's records and the command that opens its web UI."""
    address = recording.hide_credentials(recording.tracking_address(runtime))
    if runtime.tracking == recording.TRACKING_OFF:
        return "MLflow is off."
    if address.startswith("http"):
        return f"MLflow: {address}"
    if _has_full_mlflow():
        return f"MLflow: {address}; `mlflow ui --backend-store-uri {address}` shows it."
    return (
        f"MLflow: {address}; `mlflow ui --backend-store-uri {address}` shows it if the full mlflow package is installed: "
        "the installed mlflow-skinny has no web UI."
    )


def _has_full_mlflow() -> bool:
    try:
        return bool(version("mlflow"))
    except PackageNotFoundError:
        return False


def _row(run: Run) -> RunRow:
    facts = run.facts
    training = json.loads(facts.get("settings", "{}")).get("training", {})
    return RunRow(
        id=run.id,
        case=run.case,
        state=run.state,
        headline=facts.get("headline", ""),
        strategy=training.get("strategy", ""),
        spans=facts.get("spans", ""),
        data=facts.get("data_version", ""),
        commit=facts.get("commit", ""),
        time=facts.get("ended", facts.get("started", "")),
        same_as=facts.get("same_as", ""),
    )


def _row_from_record(record: Mapping[str, Any], case: str) -> RunRow:
    tags = record["tags"]
    ended = datetime.fromtimestamp((record["ended"] or record["started"]) / 1000, UTC)
    return RunRow(
        id=record["run"],
        case=case,
        state=tags.get("state", ""),
        headline=tags.get("headline", ""),
        strategy=tags.get("strategy", ""),
        spans=tags.get("data.spans", ""),
        data=tags.get("data.version", ""),
        commit=tags.get("commit", ""),
        time=ended.isoformat(timespec="seconds"),
    )


def _mlflow_records(runtime: Runtime, case: str) -> list[dict[str, Any]]:
    from pipeline.tracking import mlflow_process

    return mlflow_process.read_records(recording.tracking_address(runtime), case)


def _load_record(runtime: Runtime, row: RunRow, from_mlflow: bool) -> dict[str, Any]:
    if from_mlflow:
        return next(record for record in _mlflow_records(runtime, row.case) if record["run"] == row.id)
    return recording.build_record(
        runtime, next(record for record in store.runs(runtime.metadata, row.case) if record.id == row.id)
    )


def _find_run(rows: Sequence[RunRow], word: str) -> RunRow:
    matches = [row for row in rows if row.id == word] or [row for row in rows if row.id.endswith(word)]
    if not matches:
        raise ValueError(f"There is no run '{word}'; `showcase runs` lists all, and the end of an id is sufficient.")
    if len(matches) > 1:
        names = ", ".join(row.id for row in matches[:4])
        raise ValueError(f"'{word}' is the end of {len(matches)} runs ({names}); give more characters.")
    return matches[0]


def _compare_metric(name: str, a: Mapping[str, float], b: Mapping[str, float]) -> tuple[str, Any, Any, Any]:
    first, second = a.get(name), b.get(name)
    return name, first, second, None if first is None or second is None else second - first
