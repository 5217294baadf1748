"""What follows from what was seen: each rule of the policy on its both sides."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.monitoring.policy_rules import Choice, Evidence, choose
from models.retraining_policy import Policy
from serving.drift.alarms.drift_incidents import Incident
from serving.drift.alarms.judge import Judged
from serving.drift.reference.metric_estimate import Estimate

USUAL = Estimate(0.80, 0.01, 9000)
POLICY = Policy(loss=0.05, errors=2, insist=0, learn=3, full=0.2, cooldown=4, budget=2, per=30)
NONE = pl.DataFrame(schema={"window": pl.Int64, "version": pl.Int64, "confidence": pl.Float64, "right": pl.Float64})


def windows(count: int, value: float = 0.80, moved: int = 99, version: int = 1, error: float = 0.01) -> list[Judged]:
    """Verdicts of windows 0 to ``count`` - 1, drifted from ``moved`` on, each with an estimate."""
    told = {"estimate": asdict(Estimate(value, error, 1000)), "usual": asdict(USUAL)}
    return [Judged(n, 1000, version, moved=("amount",) if n >= moved else (), **told) for n in range(count)]


def incident(opened: int, last: int, kind: str = "drift", state: str = "open") -> dict[str, Any]:
    return asdict(Incident(1, kind, opened, last, ("amount",), state))


def labels(*numbers: int, value: float) -> pl.DataFrame:
    """Labelled rows of windows whose accuracy is ``value``."""
    right = (np.arange(1000) < 1000 * value).astype(float)
    parts = [
        pl.DataFrame({"window": [n] * 1000, "version": [1] * 1000, "confidence": right, "right": right})
        for n in numbers
    ]
    return pl.concat(parts)


def decided(seen: list[Judged], incidents: list[dict[str, Any]], policy: Policy = POLICY, **more: Any) -> Choice:
    told = {"served": seen[-1].version, "labels": NONE, "metric": "accuracy", "retrained": [], "unseen": 2} | more
    return choose(policy, Evidence(seen, incidents=incidents, **told))


def test_nothing_moved_nothing_done() -> None:
    assert decided(windows(9), []).action == "none"
    assert decided(windows(9, value=0.5), []).action == "none"  # estimates alone say nothing where no input moved


def test_drift_without_a_loss_is_watched_and_with_one_is_answered() -> None:
    drift = [incident(2, 8)]
    found = decided(windows(9, moved=2), drift)
    assert found.action == "watch" and found.since == 2 and "amount" in found.reasons[0]
    assert decided(windows(9, value=0.70, moved=2), drift).action == "refresh"
    assert decided(windows(9, value=0.60, moved=2), drift).action == "retrain"
    assert decided(windows(9, value=0.751, moved=2), drift).action == "watch"
    # A loss as large, and not sure.
    assert decided(windows(9, value=0.70, moved=2, error=0.06), drift).action == "watch"


def test_the_policy_can_insist() -> None:
    drift = [incident(2, 8)]
    assert decided(windows(9, moved=2), drift, replace(POLICY, insist=7)).action == "refresh"
    assert decided(windows(9, moved=2), drift, replace(POLICY, insist=8)).action == "watch"


def test_broken_data_are_mended_and_not_learnt() -> None:
    found = decided(windows(9, value=0.5, moved=2), [incident(2, 8), incident(7, 8, "quality")])
    assert found.action == "none" and "mend" in found.reasons[0]


def test_it_waits_until_training_can_see_the_drift() -> None:
    lossy = lambda count: decided(windows(count, value=0.6, moved=2), [incident(2, count - 1)])  # noqa: E731
    assert lossy(6).action == "wait" and "5 windows" in lossy(6).reasons[-1]
    assert lossy(7).action == "retrain"


def test_cooldown_and_budget() -> None:
    seen, drift = windows(20, value=0.6, moved=2), [incident(2, 19)]
    assert decided(seen, drift, retrained=[16]).action == "wait"
    assert decided(seen, drift, retrained=[15]).action == "retrain"
    assert decided(seen, drift, retrained=[1, 10]).action == "hold"
    assert decided(seen, drift, replace(POLICY, per=15), retrained=[1, 10]).action == "retrain"


def test_labels_come_before_estimates() -> None:
    drift, seen = [incident(2, 8)], windows(9, value=0.80, moved=2)
    known = labels(3, 4, 5, value=0.6)
    found = decided(seen, drift, labels=known)
    assert found.action == "retrain" and found.loss.how == "realised" and found.loss.value == pytest.approx(0.2)
    assert decided(windows(9, value=0.5, moved=2), drift, labels=labels(3, 4, value=0.8)).action == "watch"
    # One labelled window is too few to go by.
    assert decided(seen, drift, labels=labels(3, value=0.6)).loss.how == "estimated"


def test_few_outcomes_of_a_kind_say_nothing_and_more_windows_make_them_enough() -> None:
    few = pl.concat([labels(n, value=0.5)[:5].vstack(labels(n, value=0.0)[:90]) for n in range(9)])
    assert few.filter(pl.col("window") > 1)["right"].sum() == 35  # in the last seven windows
    assert decided(windows(9), [], labels=few).loss.since == 2
    assert decided(windows(9), [], labels=few.filter(pl.col("window") > 3)).loss is None
    rare = pl.concat([labels(n, value=0.5)[:4].vstack(labels(n, value=0.0)[:90]) for n in range(9)])
    assert decided(windows(9), [], labels=rare).loss.since == 1  # seven windows have 28 of them, eight have 32


def test_a_loss_that_only_labels_show_is_answered_too_and_remembers_when_it_began() -> None:
    seen = windows(9)
    found = decided(seen, [], labels=labels(6, 7, 8, value=0.6))
    assert found.action == "wait" and found.since == 6 and "No input has moved" in found.reasons[0]
    later = decided(windows(12), [], labels=labels(*range(6, 12), value=0.6), since=6)
    assert later.action == "retrain" and later.since == 6
    assert decided(seen, [], labels=labels(6, 7, 8, value=0.79)).action == "none"


def test_a_new_version_is_not_blamed_for_what_came_before_it() -> None:
    seen = [
        *windows(9, value=0.6, moved=2),
        *(replace(one, window=9 + n, version=2) for n, one in enumerate(windows(3))),
    ]
    assert decided(seen, [incident(2, 8)]).action == "none"
    # Nor is a version that has been put in its place since: nothing of it is known.
    assert decided(seen[:9], [incident(2, 8)]).action == "retrain"
    found = decided(seen[:9], [incident(2, 8)], served=2)
    assert found.action == "none" and "No window of version 2" in found.reasons[0]
    moved = [*seen[:9], *(replace(one, moved=("amount",)) for one in seen[9:])]
    found = decided(moved, [incident(2, 11)])
    assert found.action == "watch" and found.since == 9
