"""Retraining policy: maps drift findings to no action, waiting, or a retraining, with the reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from models.retraining_policy import RetrainingPolicy
from serving.drift.alarms.judge import WindowResult
from serving.drift.profiles.windows import format_window
from serving.drift.reference.metric_estimate import Metric, MetricEstimate, measure_metric

Action = Literal["none", "watch", "wait", "hold", "refresh", "retrain"]
RETRAINING_ACTIONS: tuple[Action, ...] = ("refresh", "retrain")
RECENT_WINDOWS = 7  # labelled windows over which a loss is computed, if no input has drifted
MIN_LABELLED_WINDOWS = 2  # minimum number of labelled windows
MIN_OUTCOMES = (
    30  # minimum of right and of wrong answers: with fewer frauds the bootstrap error of a low metric is too small
)


@dataclass(frozen=True)
class Loss:
    """Drop of the metric since a window.

    Attributes:
        how: ``realised``, measured with labels, or ``estimated`` from scores.
        since: First window that it covers.
        value, error: The drop and its standard error.
        now, usual: The metric in those windows, and in the reference.
    """

    how: Literal["realised", "estimated"]
    since: int
    value: float
    error: float
    now: float
    usual: float

    def __str__(self) -> str:
        sign = f"{self.how} {self.now:.3f} against {self.usual:.3f} before"
        return f"{sign}, a loss of {self.value:.3f} ± {self.error:.3f}"


@dataclass(frozen=True)
class PolicyDecision:
    """The policy's answer.

    Attributes:
        action: ``none``; ``watch``: drift without a loss; ``wait``: for data or for the cooldown; ``hold``: until a
            person decides; ``refresh``: fine-tune with LoRA; ``retrain``: train from scratch.
        reasons: Sentences, in the order of the rules.
        since: First window of the drift or loss; -1 for none.
        loss: The loss of the metric, if one was measured or estimated.
    """

    action: Action
    reasons: tuple[str, ...]
    since: int = -1
    loss: Loss | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"reasons": list(self.reasons)}


@dataclass(frozen=True)
class DecisionInputs:
    """Inputs of a decision.

    Attributes:
        windows: Verdicts, the oldest first.
        served: The version that is served now; drift of another version is no reason to retrain.
        incidents: All incidents so far, as JSON values.
        labels: Labelled predictions: window, version, confidence, right.
        metric: The use case's metric.
        retrained: Windows after which a retraining was decided.
        unseen: Number of last spans of a training window that training holds out.
        since: First window of the drift or loss in the decision before, for the same version; -1 for none.
        daily: Whether windows are days.
    """

    windows: Sequence[WindowResult]
    served: int
    incidents: Sequence[Mapping[str, Any]]
    labels: pl.DataFrame
    metric: Metric
    retrained: Sequence[int]
    unseen: int
    since: int = -1
    daily: bool = False

    def name(self, window: int) -> str:
        """Return a window's name for a sentence."""
        return format_window(window, self.daily)


def apply_policy(policy: RetrainingPolicy, evidence: DecisionInputs) -> PolicyDecision:
    opened = {incident["kind"]: incident for incident in evidence.incidents if incident["state"] == "open"}
    if fault := opened.get("quality"):
        reason = (
            f"Data fault ({', '.join(fault['causes'])}): repair the source first; retraining would learn the fault."
        )
        return PolicyDecision("none", (reason,), fault["opened"])
    verdicts = [verdict for verdict in evidence.windows if verdict.version == evidence.served and not verdict.skipped]
    if not verdicts:
        return PolicyDecision(
            "none", (f"No window of version {evidence.served}, the one served now, has been judged yet.",)
        )
    incident = _find_current(opened.get("drift"), verdicts)
    since = max(incident["opened"], verdicts[0].window) if incident else -1
    loss = measure_loss(evidence, verdicts, since if incident else evidence.since)
    if not incident:
        if not (loss and _is_significant(policy, loss)):
            return PolicyDecision(
                "none", ("No drift and no measured loss since this version began to serve.",), loss=loss
            )
        since = evidence.since if evidence.since >= 0 else loss.since
    reasons = [
        _describe_incident(incident, evidence),
        f"{evidence.metric}: {loss}." if loss else f"{evidence.metric} cannot be measured or estimated yet.",
    ]
    return _weigh_drift(policy, evidence, verdicts, PolicyDecision("watch", tuple(reasons), since, loss))


def _find_current(incident: Mapping[str, Any] | None, verdicts: Sequence[WindowResult]) -> Mapping[str, Any] | None:
    """The open drift incident, if it was last seen while this version served."""
    return incident if incident and incident["last"] >= verdicts[0].window else None


def _describe_incident(incident: Mapping[str, Any] | None, evidence: DecisionInputs) -> str:
    if incident is None:
        return "No input has drifted; the relation of inputs to labels has changed (concept drift)."
    since = evidence.name(incident["opened"])
    return f"Incident {incident['id']} has been open since {since}: {', '.join(incident['causes'])}."


def _weigh_drift(
    policy: RetrainingPolicy, evidence: DecisionInputs, verdicts: Sequence[WindowResult], draft: PolicyDecision
) -> PolicyDecision:
    """Decide between watching the drift and retraining, unless data, cooldown or budget forbid that now."""
    drifting = sum(bool(verdict.moved) and verdict.window >= draft.since for verdict in verdicts)
    loss = draft.loss
    action: Action = "watch"
    if loss and _is_significant(policy, loss):
        reason = f"The loss is at least {policy.loss:g} and at least {policy.errors:g} standard errors."
        action = "retrain"
    elif policy.insist and drifting >= policy.insist:
        reason = (
            f"{drifting} windows have drifted; from {policy.insist} on the policy retrains without a measured loss."
        )
        action = "retrain"
    else:
        reason = f"No loss of at least {policy.loss:g} and at least {policy.errors:g} standard errors: keep watching."
    reasons = [*draft.reasons, reason]
    if action == "retrain" and (obstacle := _find_obstacle(policy, evidence, verdicts[-1].window, draft.since)):
        action, reason = obstacle
        reasons.append(reason)
    elif action == "retrain":
        action = "retrain" if loss is None or loss.value >= policy.full else "refresh"
        reasons.append(f"A loss of {policy.full:g} or more retrains from scratch; a smaller one refreshes with LoRA.")
    return replace(draft, action=action, reasons=tuple(reasons))


def measure_loss(evidence: DecisionInputs, verdicts: Sequence[WindowResult], since: int) -> Loss | None:
    """Return the loss since a window: realised if there are enough labels, else estimated; None if neither is possible.

    With ``since`` -1 it covers the last labelled windows.
    """
    windows = [verdict for verdict in verdicts if verdict.window >= since]
    if not windows:
        return None
    assert windows[-1].usual is not None, "every judged window has a reference estimate"
    reference = MetricEstimate(**windows[-1].usual)
    numbers = [verdict.window for verdict in windows]
    labels = evidence.labels.filter(pl.col("window").is_in(numbers), version=windows[-1].version)
    if (rows := _select_labelled(labels)) is not None:
        current = measure_metric(evidence.metric, rows["confidence"].to_numpy(), rows["right"].to_numpy())
        return _build_loss("realised", min(rows["window"].to_list()), current, reference)
    estimated = [verdict.estimate for verdict in windows if verdict.estimate]
    estimates = [MetricEstimate(**estimate) for estimate in estimated if np.isfinite(estimate["value"])]
    return _build_loss("estimated", since, _pool_estimates(estimates), reference) if since >= 0 and estimates else None


def _select_labelled(labels: pl.DataFrame) -> pl.DataFrame | None:
    """Labelled rows of as many of the last windows as the metric needs; None where all together are too few."""
    numbers = sorted(set(labels["window"].to_list()))
    for count in range(min(RECENT_WINDOWS, len(numbers)), len(numbers) + 1):
        rows = labels.filter(pl.col("window").is_in(numbers[-count:]))
        right = int(rows["right"].sum())
        if count >= MIN_LABELLED_WINDOWS and min(right, len(rows) - right) >= MIN_OUTCOMES:
            return rows
    return None


def _pool_estimates(estimates: Sequence[MetricEstimate]) -> MetricEstimate:
    """Mean of estimates weighted by rows; the error too, since windows share the calibration error."""
    rows = np.array([estimate.rows for estimate in estimates], np.float64)
    value, error = (
        float(np.average([getattr(estimate, name) for estimate in estimates], weights=rows))
        for name in ("value", "error")
    )
    return MetricEstimate(value, error, int(rows.sum()))


def _build_loss(
    how: Literal["realised", "estimated"], since: int, current: MetricEstimate, reference: MetricEstimate
) -> Loss:
    return Loss(
        how=how,
        since=since,
        value=reference.value - current.value,
        error=float(np.hypot(reference.error, current.error)),
        now=current.value,
        usual=reference.value,
    )


def _is_significant(policy: RetrainingPolicy, loss: Loss) -> bool:
    return loss.value >= policy.loss and loss.value >= policy.errors * loss.error


def _find_obstacle(
    policy: RetrainingPolicy, evidence: DecisionInputs, window: int, since: int
) -> tuple[Action, str] | None:
    """Return the action in place of a retraining that is not allowed now, and the reason; None where it is allowed."""
    available, needed = window - since + 1, evidence.unseen + policy.learn
    if available < needed:
        parts = f"{policy.learn} to train on, {evidence.unseen} that training holds out"
        return "wait", f"Training needs {needed} windows since the change began ({parts}); there are {available}."
    last = evidence.retrained[-1] if evidence.retrained else None
    if last is not None and window - last < policy.cooldown:
        return (
            "wait",
            f"The last retraining was decided after {evidence.name(last)}; the cooldown is {policy.cooldown} windows.",
        )
    spent = sum(window - retraining < policy.per for retraining in evidence.retrained)
    if spent >= policy.budget:
        return "hold", f"{spent} retrainings in {policy.per} windows use up the budget; a person has to decide."
    return None
