"""The retraining policy: each rule on both sides of its threshold."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.monitoring.policy_rules import DecisionInputs, PolicyDecision, apply_policy
from models.retraining_policy import RetrainingPolicy
from serving.drift.alarms.drift_incidents import DriftIncident
from serving.drift.alarms.judge import WindowResult
from serving.drift.reference.metric_estimate import MetricEstimate

USUAL = MetricEstimate(0.80, 0.01, 9000)
POLICY = RetrainingPolicy(loss=0.05, errors=2, insist=0, learn=3, full=0.2, cooldown=4, budget=2, per=30)
NONE = pl.DataFrame(schema={"window": pl.Int64, "version": pl.Int64, "confidence": pl.Float64, "right": pl.Float64})


def windows(
    count: int, value: float = 0.80, moved: int = 99, version: int = 1, error: float = 0.01
) -> list[WindowResult]:
    """Verdicts of windows 0 to ``count`` - 1, with drift from window ``moved`` on, each with an estimate."""
    estimates = {"estimate": asdict(MetricEstimate(value, error, 1000)), "usual": asdict(USUAL)}
    return [WindowResult(n, 1000, version, moved=("amount",) if n >= moved else (), **estimates) for n in range(count)]


def incident(opened: int, last: int, kind: str = "drift", state: str = "open") -> dict[str, Any]:
    return asdict(DriftIncident(1, kind, opened, last, ("amount",), state))


def labels(*numbers: int, value: float) -> pl.DataFrame:
    """Labelled rows of windows whose accuracy is ``value``."""
    right = (np.arange(1000) < 1000 * value).astype(float)
    parts = [
        pl.DataFrame({"window": [n] * 1000, "version": [1] * 1000, "confidence": right, "right": right})
        for n in numbers
    ]
    return pl.concat(parts)


def decide(
    verdicts: list[WindowResult], incidents: list[dict[str, Any]], policy: RetrainingPolicy = POLICY, **more: Any
) -> PolicyDecision:
    inputs = {"served": verdicts[-1].version, "labels": NONE, "metric": "accuracy", "retrained": [], "unseen": 2} | more
    return apply_policy(policy, DecisionInputs(verdicts, incidents=incidents, **inputs))


def test_no_drift_gives_no_action() -> None:
    assert decide(windows(9), []).action == "none"
    assert decide(windows(9, value=0.5), []).action == "none"  # estimates alone say nothing where no input moved


def test_drift_is_watched_without_a_loss_and_retrained_with_one() -> None:
    drift = [incident(2, 8)]
    choice = decide(windows(9, moved=2), drift)
    assert choice.action == "watch" and choice.since == 2 and "amount" in choice.reasons[0]
    assert decide(windows(9, value=0.70, moved=2), drift).action == "refresh"
    assert decide(windows(9, value=0.60, moved=2), drift).action == "retrain"
    assert decide(windows(9, value=0.751, moved=2), drift).action == "watch"
    # An equal loss with a large standard error.
    assert decide(windows(9, value=0.70, moved=2, error=0.06), drift).action == "watch"


def test_long_drift_retrains_without_a_loss() -> None:
    drift = [incident(2, 8)]
    assert decide(windows(9, moved=2), drift, replace(POLICY, insist=7)).action == "refresh"
    assert decide(windows(9, moved=2), drift, replace(POLICY, insist=8)).action == "watch"


def test_data_fault_blocks_retraining() -> None:
    choice = decide(windows(9, value=0.5, moved=2), [incident(2, 8), incident(7, 8, "quality")])
    assert choice.action == "none" and "repair the source" in choice.reasons[0]


def test_retraining_waits_for_enough_windows_since_the_drift() -> None:
    lossy = lambda count: decide(windows(count, value=0.6, moved=2), [incident(2, count - 1)])  # noqa: E731
    assert lossy(6).action == "wait" and "5 windows" in lossy(6).reasons[-1]
    assert lossy(7).action == "retrain"


def test_cooldown_waits_and_exhausted_budget_holds() -> None:
    verdicts, drift = windows(20, value=0.6, moved=2), [incident(2, 19)]
    assert decide(verdicts, drift, retrained=[16]).action == "wait"
    assert decide(verdicts, drift, retrained=[15]).action == "retrain"
    assert decide(verdicts, drift, retrained=[1, 10]).action == "hold"
    assert decide(verdicts, drift, replace(POLICY, per=15), retrained=[1, 10]).action == "retrain"


def test_realised_loss_takes_precedence_over_estimates() -> None:
    drift, verdicts = [incident(2, 8)], windows(9, value=0.80, moved=2)
    labelled = labels(3, 4, 5, value=0.6)
    choice = decide(verdicts, drift, labels=labelled)
    assert choice.action == "retrain" and choice.loss.how == "realised" and choice.loss.value == pytest.approx(0.2)
    assert decide(windows(9, value=0.5, moved=2), drift, labels=labels(3, 4, value=0.8)).action == "watch"
    # One labelled window is too few.
    assert decide(verdicts, drift, labels=labels(3, value=0.6)).loss.how == "estimated"


def test_too_few_outcomes_widen_the_labelled_windows() -> None:
    few = pl.concat([labels(n, value=0.5)[:5].vstack(labels(n, value=0.0)[:90]) for n in range(9)])
    assert few.filter(pl.col("window") > 1)["right"].sum() == 35  # in the last seven windows
    assert decide(windows(9), [], labels=few).loss.since == 2
    assert decide(windows(9), [], labels=few.filter(pl.col("window") > 3)).loss is None
    rare = pl.concat([labels(n, value=0.5)[:4].vstack(labels(n, value=0.0)[:90]) for n in range(9)])
    assert decide(windows(9), [], labels=rare).loss.since == 1  # seven windows have 28 of them, eight have 32


def test_realised_loss_without_drift_is_answered_and_keeps_its_start() -> None:
    verdicts = windows(9)
    choice = decide(verdicts, [], labels=labels(6, 7, 8, value=0.6))
    assert choice.action == "wait" and choice.since == 6 and "No input has drifted" in choice.reasons[0]
    later = decide(windows(12), [], labels=labels(*range(6, 12), value=0.6), since=6)
    assert later.action == "retrain" and later.since == 6
    assert decide(verdicts, [], labels=labels(6, 7, 8, value=0.79)).action == "none"


def test_new_version_ignores_earlier_drift() -> None:
    verdicts = [
        *windows(9, value=0.6, moved=2),
        *(replace(verdict, window=9 + n, version=2) for n, verdict in enumerate(windows(3))),
    ]
    assert decide(verdicts, [incident(2, 8)]).action == "none"
    # Nor is there a retraining for a version that was served since: none of its windows has been judged.
    assert decide(verdicts[:9], [incident(2, 8)]).action == "retrain"
    choice = decide(verdicts[:9], [incident(2, 8)], served=2)
    assert choice.action == "none" and "No window of version 2" in choice.reasons[0]
    moved = [*verdicts[:9], *(replace(verdict, moved=("amount",)) for verdict in verdicts[9:])]
    choice = decide(moved, [incident(2, 11)])
    assert choice.action == "watch" and choice.since == 9
