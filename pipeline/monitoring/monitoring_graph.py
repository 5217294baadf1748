"""The monitoring pipeline's graph: from the prediction log to a decision, in the same metadata store as the training's."""

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
from serving.drift.profiles.windows import Cut


@dataclass(frozen=True)
class Pass:
    """One look at what is new in a case's log.

    Attributes:
        case: The use case.
        log: Folder of the prediction log and the labels.
        stretch: Which part of both is new; see ``components.monitoring.log_example_gen``.
        cut: How it is cut into windows.
        versions: The case's pushed versions.
        model: Folder of the version that is served.
        served: Its number.
        policy: Of the case, as plain values.
        unseen: Last spans of a training window that training does not look at.
        report: Folder of the report before; empty for none.
        decision: Folder of the decision before; empty for none.
    """

    case: UseCase
    log: str
    stretch: Mapping[str, Any]
    cut: Cut
    versions: str
    model: str
    served: int
    policy: Mapping[str, Any]
    unseen: int
    report: str = ""
    decision: str = ""


def build(look: Pass) -> list[Stage]:
    """All stages of a pass, upstream before downstream."""
    model = imported("ServedModel", look.model, standard_artifacts.PushedModel, "model")
    report = imported("LastReport", look.report, drift_monitor.DriftReport, "report") if look.report else None
    decision = imported("LastDecision", look.decision, decisions.Decision, "decision") if look.decision else None
    examples = log_examples(look)
    statistics = window_statistics(look, examples)
    monitor = drift(look, examples, statistics, model, report)
    built = (model, report, decision, examples, statistics, monitor, decide(look, monitor, model, decision))
    return [stage for stage in built if stage]


def imported(name: str, folder: str, kind: type, key: str) -> Stage:
    """Brings what an earlier run left, so that the store knows what follows from it."""
    return Stage(Importer(folder, kind, output_key=key).with_id(name))


def log_examples(look: Pass) -> Stage:
    """Copies the records of windows that are over, a split a window."""
    stretch, cut = _text(look.stretch), _text(asdict(look.cut))
    return Stage(
        log_example_gen.LogExampleGen(log=look.log, stretch=stretch, cut=cut),
        ("components.monitoring.log_example_gen",),
    )


def window_statistics(look: Pass, examples: Stage) -> Stage:
    """Describes every watched feature of every window."""
    node = counting.WindowStatistics(examples=examples["examples"], features=json.dumps(look.case.watch))
    return Stage(node, ("components.monitoring.window_statistics",))


def drift(look: Pass, examples: Stage, statistics: Stage, model: Stage, report: Stage | None) -> Stage:
    """Judges the windows against what the model calls normal."""
    node = drift_monitor.DriftMonitor(
        examples=examples["examples"],
        statistics=statistics["statistics"],
        model=model["model"],
        config=_text({"case": look.case.name, "cut": asdict(look.cut), "versions": look.versions}),
        **({"previous": report["report"]} if report else {}),
    )
    return Stage(node, ("components.monitoring.drift_monitor",))


def decide(look: Pass, monitor: Stage, model: Stage, decision: Stage | None) -> Stage:
    """Decides what follows."""
    told = {"policy": look.policy, "unseen": look.unseen, "served": look.served}
    told |= {"versions": look.versions, "reading": look.stretch}
    node = decisions.Decide(
        report=monitor["report"],
        model=model["model"],
        config=_text(told),
        **({"previous": decision["decision"]} if decision else {}),
    )
    return Stage(node, ("components.monitoring.decision",))


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
