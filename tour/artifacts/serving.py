"""Readers of what decides on serving: blessings, the edge's variants, pushes; and of what watches it: reports, decisions."""

from collections.abc import Iterator
from datetime import date, timedelta

from models.catalog import CASES
from tour.artifacts import charts
from tour.artifacts.parts import Chart, Part, Sight, loaded
from tour.evidence.result_types import Number, Table
from tour.trace import Artifact

SHOWN_FILES = 12


def blessing(one: Artifact, sight: Sight) -> Iterator[Part]:
    blessed = bool(one.facts.get("blessed"))
    yield Number("Verdict", "blessed" if blessed else "not blessed", "")
    if reason := sight.facts.get("reason", ""):
        yield Number("The run in one sentence", reason, "")
    if "baseline_model_id" in one.facts:
        yield Number("Compared with the model blessed before, artifact", one.facts["baseline_model_id"], "")


def infra(one: Artifact, sight: Sight) -> Iterator[Part]:
    verdict = "blessed" if one.facts.get("blessed") else "not blessed"
    yield Number("Loaded as a server loads it, in a process of its own", verdict, "")
    yield from files(one, sight)


def lite(one: Artifact, sight: Sight) -> Iterator[Part]:
    told = loaded(one.folder / "lite.json")
    variants = [*told["variants"], *([{"variant": "float32, one row"} | told["one_row"]] if "one_row" in told else [])]
    names = ("variant", "bytes", "latency_us", "difference", "metric", "metric_loss", "passed")
    rows = tuple(tuple(row.get(name, "") for name in names) for row in variants)
    shown = ("variant", "bytes", "µs a row", "largest difference", sight.metric or "metric", "loss", "passed")
    yield Number("Chosen: the smallest that passed", told["chosen"], "")
    yield Table("Variants against the SavedModel on held-out rows", shown, rows)
    made = [row["variant"] for row in variants]
    yield Chart(
        "Size", charts.bars("Bytes by variant", {"bytes": [row["bytes"] for row in variants]}, made), ", ".join(made)
    )
    gates = [(name, value) for name, value in sight.settings.get("gates", {}).items() if name.startswith("lite_")]
    if gates:
        yield Table("Bounds", ("bound", "value"), tuple(gates))


def pushed(one: Artifact, sight: Sight) -> Iterator[Part]:
    facts = [
        (name, one.facts[name]) for name in ("pushed", "pushed_version", "pushed_destination") if name in one.facts
    ]
    yield Table("What was pushed", ("fact", "value"), tuple(facts))


def files(one: Artifact, sight: Sight) -> Iterator[Part]:
    found = sorted(path for path in one.folder.rglob("*") if path.is_file())
    rows = tuple((path.relative_to(one.folder).as_posix(), path.stat().st_size) for path in found[:SHOWN_FILES])
    more = f", the first {SHOWN_FILES} of {len(found)}" if len(found) > SHOWN_FILES else ""
    yield Table(f"Files{more}", ("file", "bytes"), rows)


def told(one: Artifact, sight: Sight) -> Iterator[Part]:
    """Whatever scalars its JSON files have."""
    for path in sorted(one.folder.glob("*.json")):
        held = loaded(path)
        if isinstance(held, dict):
            rows = tuple((name, value) for name, value in held.items() if isinstance(value, str | int | float))
            if rows:
                yield Table(path.name, ("fact", "value"), rows)
    yield from files(one, sight)


def report(one: Artifact, sight: Sight) -> Iterator[Part]:
    told = loaded(one.folder / "report.json")
    windows = told["windows"]
    told_of = [row for row in windows if row.get("estimate")]
    metric = sight.metric or "metric"
    series = {
        "estimated": [(row["window"], row["estimate"]["value"]) for row in told_of],
        "usual": [(row["window"], row["usual"]["value"]) for row in told_of],
        "realised, once labels came": sorted((int(at), one["value"]) for at, one in told["realised"].items()),
    }
    title = f"{metric} by window"
    yield Chart(title, charts.lines(title, series, "window (a day since 1970, or a number)", metric))
    days = bool(CASES[sight.case].time)
    rows = tuple(
        (
            named(row["window"], days),
            row["rows"],
            row["version"],
            row["skipped"] or ", ".join(row["moved"]) or "nothing moved",
        )
        for row in reversed(windows)
    )
    yield Table("Windows, the newest first", ("window", "rows", "version", "what moved"), rows)
    seen = tuple(
        (
            row["id"],
            row["kind"],
            named(row["opened"], days),
            named(row["last"], days),
            row["state"],
            ", ".join(row["causes"]),
        )
        for row in told["incidents"]
    )
    yield Table("Incidents", ("id", "kind", "opened", "last seen", "state", "causes"), seen)


def decision(one: Artifact, sight: Sight) -> Iterator[Part]:
    told = loaded(one.folder / "decision.json")
    yield Number("Decision", told["action"], f"after {named(told['window'], bool(CASES[sight.case].time))}")
    yield Table("Because", ("reason",), tuple((reason,) for reason in told["reasons"]))
    loss = told.get("loss") or {}
    if loss:
        yield Table("The loss that it saw", ("fact", "value"), tuple(loss.items()))
    yield Table("The policy", ("rule", "value"), tuple((name, str(value)) for name, value in told["policy"].items()))


def named(window: int, days: bool) -> str:
    """A window for people: its date where windows are days since 1970, else its number."""
    return (date(1970, 1, 1) + timedelta(window)).isoformat() if days else f"window {window}"
