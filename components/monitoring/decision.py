"""Decide on the last window: write the decision record with its reasons, and the drift page."""

import json
from pathlib import Path

import polars as pl
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import PushedModel

from components.monitoring import drift_page
from components.monitoring.drift_monitor import LABELLED, REPORT, DriftReport
from components.monitoring.policy_rules import RETRAINING_ACTIONS, DecisionInputs, apply_policy
from models.retraining_policy import RetrainingPolicy
from serving.drift.alarms.judge import WindowResult
from serving.drift.reference import reference_profile

DECISION, PAGE = "decision.json", "report.html"
ONGOING_ACTIONS = ("watch", "wait", "hold")


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
    """Apply the use case's retraining policy to a drift report.

    Args:
        report: The drift report.
        model: The model that is served now.
        config: JSON with ``policy``, ``unseen`` (spans that training holds out), ``versions`` (folder), ``served``
            (version number) and ``reading`` (the position up to which the log has been read).
        decision: Output: the record and the page.
        previous: The decision before, which lists earlier retrainings.
    """
    options, folder, output = json.loads(config), Path(report.uri), Path(decision.uri)
    findings = json.loads((folder / REPORT).read_text())
    last = json.loads(Path(previous.uri, DECISION).read_text()) if previous else {"retrained": []}
    windows = [WindowResult.read(stored) for stored in findings["windows"]]
    judged, policy = windows[-1], RetrainingPolicy(**options["policy"])
    versions, served = Path(options["versions"]), options["served"]
    profile = reference_profile.load_version(versions, judged.version) if judged.version else None
    metric = reference_profile.load_version(versions, served).estimator.metric
    labels = pl.read_parquet(folder / LABELLED)
    since = last["since"] if last.get("served") == served and last["action"] in ONGOING_ACTIONS else -1
    evidence = DecisionInputs(
        windows=windows,
        served=served,
        incidents=findings["incidents"],
        labels=labels,
        metric=metric,
        retrained=last["retrained"],
        unseen=options["unseen"],
        since=since,
        daily=bool(profile and profile.watched.time),
    )
    choice = apply_policy(policy, evidence)
    name = f"{findings['case']}-{judged.window}"
    retrained = [*last["retrained"], *([judged.window] if choice.action in RETRAINING_ACTIONS else [])]
    record = choice.plain() | {
        "id": name,
        "case": findings["case"],
        "window": judged.window,
        "version": judged.version,
        "served": served,
        "policy": options["policy"],
        "retrained": retrained,
        "reading": options["reading"],
        "report": report.uri,
        "model": model.uri,
        "metric": metric,
    }
    (output / DECISION).write_text(json.dumps(record, indent=1))
    (output / PAGE).write_text(drift_page.render_drift_page(record, findings, profile, folder / "parts"))
    for key in ("id", "case", "action"):
        decision.set_string_custom_property(key, record[key])
    decision.set_int_custom_property("window", judged.window)
