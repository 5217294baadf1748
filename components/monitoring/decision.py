"""Decides on the last window, writes down why, and draws the page that people look at."""

import json
from pathlib import Path

import polars as pl
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import PushedModel

from components.monitoring import drift_page
from components.monitoring.drift_monitor import LABELLED, REPORT, DriftReport
from components.monitoring.policy_rules import ACTS, Evidence, choose
from models.retraining_policy import Policy
from serving.drift.alarms.judge import Judged
from serving.drift.reference import reference_profile as normals

DECISION, PAGE = "decision.json", "report.html"
GOING_ON = ("watch", "wait", "hold")


class Decision(Artifact):
    """A folder with ``decision.json``, the record, and ``report.html``, one page on the last window."""

    TYPE_NAME = "Decision"


@component
def Decide(
    report: InputArtifact[DriftReport],
    model: InputArtifact[PushedModel],
    config: Parameter[str],
    decision: OutputArtifact[Decision],
    previous: InputArtifact[Decision] = None,
) -> None:
    """Applies the case's policy to the report.

    Args:
        report: What was seen.
        model: What is served.
        config: As JSON: ``policy``, ``unseen``, ``versions``, ``served``, its number, and ``reading``, how far the log is read.
        decision: What is written.
        previous: The decision before, which knows of earlier retrainings.
    """
    told, folder, out = json.loads(config), Path(report.uri), Path(decision.uri)
    found = json.loads((folder / REPORT).read_text())
    before = json.loads(Path(previous.uri, DECISION).read_text()) if previous else {"retrained": []}
    windows = [Judged.read(one) for one in found["windows"]]
    last, policy = windows[-1], Policy(**told["policy"])
    versions, served = Path(told["versions"]), told["served"]
    normal = normals.of_version(versions, last.version) if last.version else None
    metric = normals.of_version(versions, served).estimator.metric
    labels = pl.read_parquet(folder / LABELLED)
    since = before["since"] if before.get("served") == served and before["action"] in GOING_ON else -1
    seen = Evidence(windows, served, found["incidents"], labels, metric, before["retrained"], told["unseen"], since)
    choice = choose(policy, seen)
    name = f"{found['case']}-{last.window}"
    retrained = [*before["retrained"], *([last.window] if choice.action in ACTS else [])]
    record = choice.plain() | {
        "id": name,
        "case": found["case"],
        "window": last.window,
        "version": last.version,
        "served": served,
        "policy": told["policy"],
        "retrained": retrained,
        "reading": told["reading"],
        "report": report.uri,
        "model": model.uri,
        "metric": metric,
    }
    (out / DECISION).write_text(json.dumps(record, indent=1))
    (out / PAGE).write_text(drift_page.drawn(record, found, normal, folder / "parts"))
    for key in ("id", "case", "action"):
        decision.set_string_custom_property(key, record[key])
    decision.set_int_custom_property("window", last.window)
