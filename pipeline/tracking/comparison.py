"""Runs, listed and compared: from the metadata store, or from MLflow, where other machines' runs are too."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from models.catalog import CASES
from pipeline.metadata import store
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
class Row:
    """One run in a list.

    Attributes:
        id: Name of the run.
        case: Use case.
        state: pushed, refused, failed, interrupted, stopped or running.
        headline: The metric asked for first; empty if there is none.
        strategy: Distribution strategy of the training.
        spans: Window of the data.
        data: Content digest of that window.
        commit: Code, with + where it was changed.
        time: End, or start if it has none; UTC.
        same_as: The run whose result this one found done; empty if it did the work itself.
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
class Comparison:
    """Two runs side by side; every row is a name and the two values, metrics with second minus first.

    Attributes:
        first: Id of the one.
        second: Id of the other.
        facts: State, data, code, model of both.
        params: Parameters that are not equal; an empty text where a run has none of that name.
        metrics: Metrics of either; None where one has none.
    """

    first: str
    second: str
    facts: tuple[tuple[str, str, str], ...]
    params: tuple[tuple[str, str, str], ...]
    metrics: tuple[tuple[str, float | None, float | None, float | None], ...]


def listed(runtime: Runtime, case: str | None = None) -> list[Row]:
    """The runs in the metadata store, the oldest first."""
    return [_row(run) for run in store.runs(runtime.metadata, case)]


def recorded(runtime: Runtime, case: str | None = None) -> list[Row]:
    """The runs in MLflow, the oldest first."""
    return [_of_record(record, name) for name in ([case] if case else CASES) for record in _records(runtime, name)]


def pick(rows: Sequence[Row], words: Sequence[str]) -> tuple[Row, Row]:
    """The two runs to compare: those that two words name, the one of one word and the run before it, or the last two.

    A run that found its result done is no second of its own, unless it is named.

    Raises:
        ValueError: for a word that names no run or several, and where there are not two.
    """
    named = [_named(rows, word) for word in words]
    if len(named) > 2:
        raise ValueError(f"runs compares two runs, not {len(named)}.")
    if len(named) == 2:
        return named[0], named[1]
    end = rows.index(named[0]) if named else len(rows)
    own = [row for row in rows[:end] if not row.same_as and (not named or row.case == named[0].case)]
    found = [*own, *named]
    if not named and own:
        found = [row for row in own if row.case == own[-1].case]
    if len(found) < 2:
        raise ValueError("There are no two runs of one case to compare; `showcase runs` lists what there is.")
    return found[-2], found[-1]


def compare(runtime: Runtime, pair: tuple[Row, Row], from_mlflow: bool = False) -> Comparison:
    """Two runs side by side."""
    records = [_record(runtime, row, from_mlflow) for row in pair]
    return compared(*records)


def compared(a: Mapping[str, Any], b: Mapping[str, Any]) -> Comparison:
    """Two records as :func:`pipeline.tracking.recording.record` makes them, or as they come back from MLflow, side by side."""
    params = [{name: str(value) for name, value in one["params"].items()} for one in (a, b)]
    names = sorted(params[0].keys() | params[1].keys())
    rows = ((name, params[0].get(name, ""), params[1].get(name, "")) for name in names)
    # The last point of a curve is no result: the kept epoch's is, and that is among the metrics.
    metrics = [{n: v for n, v in one["metrics"].items() if not n.startswith("epoch/")} for one in (a, b)]
    return Comparison(
        first=a["run"],
        second=b["run"],
        facts=tuple((name, a["tags"].get(name, ""), b["tags"].get(name, "")) for name in FACTS),
        params=tuple(row for row in rows if row[1] != row[2]),
        metrics=tuple(_metric(name, *metrics) for name in sorted(metrics[0].keys() | metrics[1].keys())),
    )


def where(runtime: Runtime) -> str:
    """One line on where MLflow's records are, and how to see them in its own pages."""
    address = recording.shown(recording.address(runtime))
    if runtime.tracking == recording.OFF:
        return "MLflow is off."
    if address.startswith("http"):
        return f"MLflow: {address}"
    if _full():
        return f"MLflow: {address}; `mlflow ui --backend-store-uri {address}` shows it."
    return (
        f"MLflow: {address}; `mlflow ui --backend-store-uri {address}` shows it where the full mlflow is installed: "
        "mlflow-skinny, which is here, has no pages."
    )


def _full() -> bool:
    try:
        return bool(version("mlflow"))
    except PackageNotFoundError:
        return False


def _row(run: store.Run) -> Row:
    facts = run.facts
    training = json.loads(facts.get("settings", "{}")).get("training", {})
    return Row(
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


def _of_record(record: Mapping[str, Any], case: str) -> Row:
    tags = record["tags"]
    ended = datetime.fromtimestamp((record["ended"] or record["started"]) / 1000, UTC)
    return Row(
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


def _records(runtime: Runtime, case: str) -> list[dict[str, Any]]:
    from pipeline.tracking import mlflow_process

    return mlflow_process.recorded(recording.address(runtime), case)


def _record(runtime: Runtime, row: Row, from_mlflow: bool) -> dict[str, Any]:
    if from_mlflow:
        return next(one for one in _records(runtime, row.case) if one["run"] == row.id)
    return recording.record(runtime, next(one for one in store.runs(runtime.metadata, row.case) if one.id == row.id))


def _named(rows: Sequence[Row], word: str) -> Row:
    found = [row for row in rows if row.id == word] or [row for row in rows if row.id.endswith(word)]
    if not found:
        raise ValueError(f"There is no run '{word}'; `showcase runs` lists all, and the end of an id is enough.")
    if len(found) > 1:
        names = ", ".join(row.id for row in found[:4])
        raise ValueError(f"'{word}' is the end of {len(found)} runs ({names}); give more of it.")
    return found[0]


def _metric(name: str, a: Mapping[str, float], b: Mapping[str, float]) -> tuple[str, Any, Any, Any]:
    first, second = a.get(name), b.get(name)
    return name, first, second, None if first is None or second is None else second - first
