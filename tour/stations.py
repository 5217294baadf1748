"""Steps of a lineage between data and a prediction: the recorded facts of each, or the reason why they are missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import spans
from models.errors import DataError
from pipeline.home import Home
from pipeline.monitoring import decisions
from pipeline.run import Run
from serving import rollout
from tour import logbook
from tour.logbook import LoggedPrediction
from tour.trace import Artifact

Facts = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class LineageStep:
    """A step of a lineage.

    Attributes:
        name: Name of the node in the graph.
        title: Title of the step.
        facts: ``(name, text, address)``; an empty address is no link.
        missing: Why facts are missing; empty if none is.
    """

    name: str
    title: str
    facts: Facts = ()
    missing: str = ""


@dataclass(frozen=True)
class Source:
    """A folder of spans that runs were trained on; ``number`` identifies it in URLs."""

    number: int
    folder: str
    spans: tuple[int, ...]


def artifact_name(artifact: Artifact) -> str:
    return f"{artifact.type} {artifact.id}"


def label_text(home: Path, case: str, logged: LoggedPrediction) -> str:
    try:
        return logbook.find_label(Home(home).case(case).online, logged.id) or "not known yet"
    except (OSError, ValueError) as error:
        return f"the labels cannot be read: {error}"


def prediction_facts(logged: LoggedPrediction, true_label: str) -> Facts:
    facts = (
        ("id", logged.id),
        ("answered", f"{logged.time} UTC"),
        ("client key", logged.key),
        ("score", f"{logged.score:.6g}"),
        ("decision", logged.decision),
        ("arm", logged.arm),
        ("label", true_label),
    )
    return tuple((name, value, "") for name, value in facts)


def version_facts(runtime: Any, case: str, number: int) -> tuple[Facts, str]:
    """Facts of a version and its current role; or why they are missing."""
    folder = runtime.case(case).versions
    if number not in rollout.list_versions(folder):
        return (), f"The folder of version {number} is not there any more."
    current = rollout.read(folder)
    arms = {
        current.shadow: "shadow: it scores copies of requests, but does not answer",
        current.canary: "canary: it answers a share of the requests",
    }
    role = (arms | {rollout.stable_version(folder, current): "stable: it answers"}).get(number, "not serving")
    return (("number", str(number), ""), ("role", role, ""), ("folder", str(folder / str(number)), "")), ""


def run_step(run: Run, name: str = "run") -> LineageStep:
    facts = [("run", run.id, f"/stages/{run.case}/Trainer?run={run.id}"), ("result", f"{run.state}: {run.reason}", "")]
    facts += [
        (name_, run.facts[key], "")
        for name_, key in (("started", "started"), ("ended", "ended"), ("metric", "headline"))
        if run.facts.get(key)
    ]
    if run.same_as:
        facts.append(("cached from", run.facts["same_as"], ""))
    return LineageStep(name, "The run" if name == "run" else "A run trained on it", tuple(facts))


def code_step(run: Run) -> LineageStep:
    commit = run.facts.get("commit", "")
    if not commit:
        return LineageStep("code", "The code", missing="The run was not made from a checkout, so no commit is known.")
    changed = " with uncommitted changes" if commit.endswith("+") else ""
    libraries = run.libraries
    facts = [("commit", commit.rstrip("+") + changed, ""), ("lock file", run.facts.get("lock", "")[:16], "")]
    facts += (
        [("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items()), "")] if libraries else []
    )
    return LineageStep("code", "The code", tuple(facts))


def data_step(run: Run) -> LineageStep:
    read, source = run_spans(run), run.facts.get("source", "")
    try:
        missing_count = len(set(read) - spans.find_spans(Path(source)).keys())
        missing = f"{missing_count} of {len(read)} spans are not there any more." if missing_count else ""
    except (DataError, OSError, ValueError):
        missing = f"The data at {source} are not there any more."
    facts = [
        ("folder", source, ""),
        ("spans", f"{read.start} to {read.stop - 1}", ""),
        ("digest of the data", run.facts.get("data_version", ""), ""),
    ]
    return LineageStep("spans", "The data", tuple(facts), missing)


def decision_step(runtime: Any, case: str, identity: str) -> LineageStep:
    matching = [decision for decision in decisions.list_decisions(runtime, case) if decision.id == identity]
    if not matching:
        return LineageStep(
            "decision", "The decision that requested the run", missing=f"{identity} is not in the store any more."
        )
    record = matching[-1].record
    facts = (("decision", identity, ""), ("action", record["action"], ""), ("because", " ".join(record["reasons"]), ""))
    return LineageStep("decision", "The decision that requested the run", facts)


def artifact_fact(artifact: Artifact) -> tuple[str, str, str]:
    """An artifact in one line, with the address of its lineage."""
    facts = [
        f"{name} {artifact.facts[name]}"
        for name in ("first_span", "span", "input_fingerprint", "blessed", "pushed_version")
        if artifact.facts.get(name)
    ]
    missing = "" if artifact.folder.exists() else "; its folder is not there any more"
    return (
        artifact_name(artifact),
        ", ".join([f"created {artifact.created} UTC", *facts]) + missing,
        f"/lineage/artifact/{artifact.id}",
    )


def span_facts(source: Source, span: int) -> Facts:
    folder = _find_folder(source, span)
    files: Sequence[Path] = sorted(folder.iterdir()) if folder and folder.is_dir() else ()
    facts = [("source", source.folder, "")]
    facts += (
        [("files", ", ".join(f"{file.name} ({file.stat().st_size:,} bytes)" for file in files[:4]), "")]
        if files
        else []
    )
    if any(file.name == "served.parquet" for file in files):
        facts.append(("collected", "from the prediction log, with the labels available then", ""))
    return tuple(facts)


def missing_span(source: Source, span: int) -> str:
    """Why a span has no more facts; empty if its folder exists."""
    folder = _find_folder(source, span)
    return "" if folder and folder.exists() else "The span's folder is not there any more."


def _find_folder(source: Source, span: int) -> Path | None:
    try:
        return spans.find_spans(Path(source.folder)).get(span)
    except (DataError, OSError, ValueError):
        return None


def run_spans(run: Run) -> range:
    first, _, last = run.facts.get("spans", "").partition(":")
    return range(int(first), int(last) + 1) if first.isdigit() and last.isdigit() else range(0)
