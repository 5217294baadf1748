"""Graph of the monitoring pipeline, from the prediction log to a decision, in the metadata store of the training runs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfx.dsl.components.common.importer import Importer
from tfx.types import standard_artifacts

from components.monitoring import decision as decisions
from components.monitoring import drift_monitor, log_example_gen
from components.monitoring import window_statistics as counting
from models.use_case import UseCase
from pipeline.stages import Stage
from serving.drift.profiles.windows import Windowing


@dataclass(frozen=True)
class MonitoringPass:
    """Input of one pass of the monitoring pipeline over the unread part of a case's log.

    Attributes:
        case: The use case.
        log: Folder of the prediction log and the labels.
        stretch: The unread part of both; see ``components.monitoring.log_example_gen``.
        cut: How the log is divided into windows.
        versions: Folder of the case's pushed versions.
        model: Folder of the served version.
        served: Number of the served version.
        policy: The case's retraining policy as plain values.
        unseen: Number of last spans in a training window that training does not use.
        report: Folder of the previous drift report; empty for none.
        decision: Folder of the previous decision; empty for none.
    """

    case: UseCase
    log: str
    stretch: Mapping[str, Any]
    cut: Windowing
    versions: str
    model: str
    served: int
    policy: Mapping[str, Any]
    unseen: int
    report: str = ""
    decision: str = ""


def build(monitoring_pass: MonitoringPass) -> list[Stage]:
    """Return all stages of a pass, upstream before downstream."""
    model = import_artifact("ServedModel", monitoring_pass.model, standard_artifacts.PushedModel, "model")
    report = (
        import_artifact("LastReport", monitoring_pass.report, drift_monitor.DriftReport, "report")
        if monitoring_pass.report
        else None
    )
    decision = (
        import_artifact("LastDecision", monitoring_pass.decision, decisions.Decision, "decision")
        if monitoring_pass.decision
        else None
    )
    examples = log_examples(monitoring_pass)
    statistics = window_statistics(monitoring_pass, examples)
    monitor = drift(monitoring_pass, examples, statistics, model, report)
    stages = (model, report, decision, examples, statistics, monitor, decide(monitoring_pass, monitor, model, decision))
    return [stage for stage in stages if stage]


def import_artifact(name: str, folder: str, kind: type, key: str) -> Stage:
    """Import an artifact of an earlier run, so that the metadata store records the lineage."""
    return Stage(Importer(folder, kind, output_key=key).with_id(name))


def log_examples(monitoring_pass: MonitoringPass) -> Stage:
    """Copy the records of completed windows, one split per window."""
    stretch, cut = _to_json(monitoring_pass.stretch), _to_json(asdict(monitoring_pass.cut))
    return Stage(
        log_example_gen.LogExampleGen(log=monitoring_pass.log, stretch=stretch, cut=cut),
        ("components.monitoring.log_example_gen",),
    )


def window_statistics(monitoring_pass: MonitoringPass, examples: Stage) -> Stage:
    """Compute statistics of every monitored feature in every window."""
    node = counting.WindowStatistics(examples=examples["examples"], features=json.dumps(monitoring_pass.case.watch))
    return Stage(node, ("components.monitoring.window_statistics",))


def drift(
    monitoring_pass: MonitoringPass, examples: Stage, statistics: Stage, model: Stage, report: Stage | None
) -> Stage:
    """Compare the windows with the model's reference profile."""
    node = drift_monitor.DriftMonitor(
        examples=examples["examples"],
        statistics=statistics["statistics"],
        model=model["model"],
        config=_to_json(
            {
                "case": monitoring_pass.case.name,
                "cut": asdict(monitoring_pass.cut),
                "versions": monitoring_pass.versions,
            }
        ),
        **({"previous": report["report"]} if report else {}),
    )
    return Stage(node, ("components.monitoring.drift_monitor",))


def decide(monitoring_pass: MonitoringPass, monitor: Stage, model: Stage, decision: Stage | None) -> Stage:
    """Apply the retraining policy to the drift report."""
    config = {"policy": monitoring_pass.policy, "unseen": monitoring_pass.unseen, "served": monitoring_pass.served}
    config |= {"versions": monitoring_pass.versions, "reading": monitoring_pass.stretch}
    node = decisions.Decide(
        report=monitor["report"],
        model=model["model"],
        config=_to_json(config),
        **({"previous": decision["decision"]} if decision else {}),
    )
    return Stage(node, ("components.monitoring.decision",))


def _to_json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
