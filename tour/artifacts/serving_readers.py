"""Readers of artifacts around serving: blessings, LiteRT variants, pushes, drift reports, retraining decisions."""

from collections.abc import Iterator

from models.catalog import CASES
from serving.drift.profiles.windows import format_window
from tour import charts
from tour.artifacts.parts import Chart, Part, RunContext, load_json
from tour.evidence.result_types import Number, Table
from tour.trace import Artifact

SHOWN_FILES = 12


def blessing(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    blessed = bool(artifact.facts.get("blessed"))
    yield Number("Verdict", "blessed" if blessed else "not blessed", "")
    if reason := context.facts.get("reason", ""):
        yield Number("Result of the run", reason, "")
    if "baseline_model_id" in artifact.facts:
        yield Number("Baseline: artifact id of the previously blessed model", artifact.facts["baseline_model_id"], "")


def infra_blessing(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    verdict = "blessed" if artifact.facts.get("blessed") else "not blessed"
    yield Number("Loaded by a server in a separate process", verdict, "")
    yield from files(artifact, context)


def lite_model(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    record = load_json(artifact.folder / "lite.json")
    variants = [
        *record["variants"],
        *([{"variant": "float32, one row"} | record["one_row"]] if "one_row" in record else []),
    ]
    fields = ("variant", "bytes", "latency_us", "difference", "metric", "metric_loss", "passed")
    rows = tuple(tuple(row.get(name, "") for name in fields) for row in variants)
    shown = ("variant", "bytes", "µs per row", "largest difference", context.metric or "metric", "loss", "passed")
    yield Number("Chosen variant (smallest that passed)", record["chosen"], "")
    yield Table("Variants compared with the SavedModel on held-out rows", shown, rows)
    names = [row["variant"] for row in variants]
    yield Chart(
        "Size",
        charts.bar_chart("Bytes by variant", {"bytes": [row["bytes"] for row in variants]}, names),
        ", ".join(names),
    )
    gates = [(name, value) for name, value in context.settings.get("gates", {}).items() if name.startswith("lite_")]
    if gates:
        yield Table("Bounds", ("bound", "value"), tuple(gates))


def pushed_model(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    facts = [
        (name, artifact.facts[name])
        for name in ("pushed", "pushed_version", "pushed_destination")
        if name in artifact.facts
    ]
    yield Table("Push", ("fact", "value"), tuple(facts))


def files(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    paths = sorted(path for path in artifact.folder.rglob("*") if path.is_file())
    rows = tuple((path.relative_to(artifact.folder).as_posix(), path.stat().st_size) for path in paths[:SHOWN_FILES])
    more = f", the first {SHOWN_FILES} of {len(paths)}" if len(paths) > SHOWN_FILES else ""
    yield Table(f"Files{more}", ("file", "bytes"), rows)


def json_values(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    """Scalar values in the JSON files of an artifact, and its files."""
    for path in sorted(artifact.folder.glob("*.json")):
        values = load_json(path)
        if isinstance(values, dict):
            rows = tuple((name, value) for name, value in values.items() if isinstance(value, str | int | float))
            if rows:
                yield Table(path.name, ("fact", "value"), rows)
    yield from files(artifact, context)


def drift_report(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    record = load_json(artifact.folder / "report.json")
    windows = record["windows"]
    estimated = [row for row in windows if row.get("estimate")]
    metric = context.metric or "metric"
    series = {
        "estimated": [(row["window"], row["estimate"]["value"]) for row in estimated],
        "reference": [(row["window"], row["usual"]["value"]) for row in estimated],
        "measured with labels": sorted(
            (int(number), measured["value"]) for number, measured in record["realised"].items()
        ),
    }
    title = f"{metric} by window"
    yield Chart(title, charts.line_chart(title, series, "window (days since 1970, or a running number)", metric))
    days = bool(CASES[context.case].time)
    rows = tuple(
        (
            format_window(row["window"], days),
            row["rows"],
            row["version"],
            row["skipped"] or ", ".join(row["moved"]) or "no drift",
        )
        for row in reversed(windows)
    )
    yield Table("Windows, newest first", ("window", "rows", "version", "drift"), rows)
    incidents = tuple(
        (
            row["id"],
            row["kind"],
            format_window(row["opened"], days),
            format_window(row["last"], days),
            row["state"],
            ", ".join(row["causes"]),
        )
        for row in record["incidents"]
    )
    yield Table("Incidents", ("id", "kind", "opened", "last seen", "state", "causes"), incidents)


def decision(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    record = load_json(artifact.folder / "decision.json")
    yield Number(
        "Decision", record["action"], f"after {format_window(record['window'], bool(CASES[context.case].time))}"
    )
    yield Table("Reasons", ("reason",), tuple((reason,) for reason in record["reasons"]))
    loss = record.get("loss") or {}
    if loss:
        yield Table("Drop of the metric", ("fact", "value"), tuple(loss.items()))
    yield Table("Policy", ("rule", "value"), tuple((name, str(value)) for name, value in record["policy"].items()))
