"""What is known of each station between data and a prediction, and what is missing, in words for people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import spans
from models.errors import DataError
from pipeline.metadata import store
from pipeline.monitoring import decisions
from serving import rollout
from tour import logbook
from tour.logbook import Logged
from tour.trace import Artifact

Facts = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Step:
    """A station on the way.

    Attributes:
        name: Of the node in the graph.
        title: What kind of thing it is.
        facts: What is known, ``(name, text, address)``; an empty address is no link.
        missing: Why nothing is known; empty if something is.
    """

    name: str
    title: str
    facts: Facts = ()
    missing: str = ""


@dataclass(frozen=True)
class Source:
    """A folder of spans that runs have learnt from; ``number`` names it in addresses."""

    number: int
    folder: str
    spans: tuple[int, ...]


def named(one: Artifact) -> str:
    """An artifact's name in a graph."""
    return f"{one.type} {one.id}"


def label(home: Path, case: str, one: Logged) -> str:
    """What the prediction turned out to be, in words."""
    try:
        return logbook.label(home / case / "online", one.id) or "not known yet"
    except (OSError, ValueError) as error:
        return f"the labels cannot be read: {error}"


def prediction(one: Logged, told: str) -> Facts:
    """What the log says of it."""
    facts = (
        ("id", one.id),
        ("answered", f"{one.time} UTC"),
        ("the client's key", one.key),
        ("score", f"{one.score:.6g}"),
        ("decision", one.decision),
        ("arm", one.arm),
        ("what it turned out to be", told),
    )
    return tuple((name, value, "") for name, value in facts)


def version(runtime: Any, case: str, number: int) -> tuple[Facts, str]:
    """A version's folder and what it does now; or why nothing is known."""
    folder = Path(runtime.versions(case))
    if number not in rollout.versions(folder):
        return (), f"The folder of version {number} is not there any more."
    now = rollout.read(folder)
    arms = {now.shadow: "shadow: it is asked and never answers", now.canary: "canary: it answers a share"}
    role = (arms | {rollout.stable(folder, now): "stable: it answers"}).get(number, "it does not answer")
    return (("number", str(number), ""), ("now", role, ""), ("folder", str(folder / str(number)), "")), ""


def run(run: store.Run, name: str = "run") -> Step:
    """A run by its record."""
    facts = [("run", run.id, f"/stages/{run.case}/Trainer?run={run.id}"), ("came to", f"{run.state}: {run.reason}", "")]
    facts += [
        (name_, run.facts[key], "")
        for name_, key in (("started", "started"), ("ended", "ended"), ("metric", "headline"))
        if run.facts.get(key)
    ]
    if run.facts.get("same_as"):
        facts.append(("found done", f"the result of {run.facts['same_as']}", ""))
    return Step(name, "The run" if name == "run" else "A run that learnt from it", tuple(facts))


def code(run: store.Run) -> Step:
    """The code that ran."""
    commit = run.facts.get("commit", "")
    if not commit:
        return Step("code", "The code", missing="The run was not made from a checkout, so no commit is known.")
    changed = " with files that differed from it" if commit.endswith("+") else ""
    libraries = json.loads(run.facts.get("libraries") or "{}")
    facts = [("commit", commit.rstrip("+") + changed, ""), ("lock file", run.facts.get("lock", "")[:16], "")]
    facts += (
        [("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items()), "")] if libraries else []
    )
    return Step("code", "The code", tuple(facts))


def data(run: store.Run) -> Step:
    """The spans that were read."""
    seen, source = window(run), run.facts.get("source", "")
    try:
        gone = len(set(seen) - spans.find(Path(source)).keys())
        missing = f"{gone} of {len(seen)} spans are not there any more." if gone else ""
    except (DataError, OSError, ValueError):
        missing = f"The data at {source} are not there any more."
    facts = [
        ("folder", source, ""),
        ("spans", f"{seen.start} to {seen.stop - 1}", ""),
        ("digest of what was read", run.facts.get("data_version", ""), ""),
    ]
    return Step("spans", "The data", tuple(facts), missing)


def decided(runtime: Any, case: str, identity: str) -> Step:
    """Why the run was asked for."""
    found = [one for one in decisions.all_of(runtime, case) if one.id == identity]
    if not found:
        return Step(
            "decision", "The decision that asked for the run", missing=f"{identity} is not in the store any more."
        )
    record = found[-1].record
    facts = (("decision", identity, ""), ("action", record["action"], ""), ("because", " ".join(record["reasons"]), ""))
    return Step("decision", "The decision that asked for the run", facts)


def artifact(one: Artifact) -> tuple[str, str, str]:
    """An artifact in one line, and where all that it comes from is shown."""
    known = [
        f"{name} {one.facts[name]}"
        for name in ("first_span", "span", "input_fingerprint", "blessed", "pushed_version")
        if one.facts.get(name)
    ]
    gone = "" if one.folder.exists() else "; its folder is not there any more"
    return named(one), ", ".join([f"made {one.made} UTC", *known]) + gone, f"/lineage/artifact/{one.id}"


def of_span(source: Source, span: int) -> Facts:
    """A span's files."""
    folder = _folder(source, span)
    files: Sequence[Path] = sorted(folder.iterdir()) if folder and folder.is_dir() else ()
    facts = [("of", source.folder, "")]
    facts += (
        [("files", ", ".join(f"{file.name} ({file.stat().st_size:,} bytes)" for file in files[:4]), "")]
        if files
        else []
    )
    if any(file.name == "served.parquet" for file in files):
        facts.append(("collected", "from the prediction log, with the labels that had come", ""))
    return tuple(facts)


def gone(source: Source, span: int) -> str:
    """Why nothing more is known of a span; empty if it is there."""
    folder = _folder(source, span)
    return "" if folder and folder.exists() else "The span's folder is not there any more."


def _folder(source: Source, span: int) -> Path | None:
    try:
        return spans.find(Path(source.folder)).get(span)
    except (DataError, OSError, ValueError):
        return None


def window(run: store.Run) -> range:
    """The spans that a run read."""
    first, _, last = run.facts.get("spans", "").partition(":")
    return range(int(first), int(last) + 1) if first.isdigit() and last.isdigit() else range(0)
