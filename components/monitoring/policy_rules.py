"""What follows from what was seen: nothing, waiting, or a retraining, each with its reasons in words and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from models.retraining_policy import Policy
from serving.drift.alarms.judge import Judged
from serving.drift.reference.metric_estimate import Estimate, Metric, realised

Action = Literal["none", "watch", "wait", "hold", "refresh", "retrain"]
ACTS: tuple[Action, ...] = ("refresh", "retrain")
RECENT = 7  # labelled windows that a loss without drift of the inputs is looked for in
LEAST = 2  # of them have to be there
OUTCOMES = 30  # of each kind: where frauds are fewer, the bootstrap of a low metric looks surer than it is


@dataclass(frozen=True)
class Loss:
    """How much worse the metric is.

    Attributes:
        how: Whether labels say so (``realised``) or scores (``estimated``).
        since: The first window it is about.
        value, error: The loss and one standard error of it.
        now, usual: The metric in those windows and before.
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
class Choice:
    """What is to be done.

    Attributes:
        action: ``none``; ``watch``, drift without a loss; ``wait``, for data, or for the cooldown; ``hold``, until people
            decide; ``refresh`` or ``retrain``.
        reasons: Sentences, in the order in which they were found.
        since: First window of what is wrong; -1 where nothing is.
        loss: Where one was measured.
    """

    action: Action
    reasons: tuple[str, ...]
    since: int = -1
    loss: Loss | None = None

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"reasons": list(self.reasons)}


@dataclass(frozen=True)
class Evidence:
    """What a decision is made from.

    Attributes:
        windows: Verdicts, the oldest first.
        served: The version that is served now: what another did is no reason to train again.
        incidents: All so far, as plain values.
        labels: Labelled predictions: window, version, confidence, right.
        metric: Of the case.
        retrained: Windows after which a retraining was decided.
        unseen: Last spans of a training window that training does not look at.
        since: First window of what the decision before was about, for the same version; -1 for nothing.
    """

    windows: Sequence[Judged]
    served: int
    incidents: Sequence[Mapping[str, Any]]
    labels: pl.DataFrame
    metric: Metric
    retrained: Sequence[int]
    unseen: int
    since: int = -1


def choose(policy: Policy, seen: Evidence) -> Choice:
    """Applies the policy to the last window."""
    opened = {one["kind"]: one for one in seen.incidents if one["state"] == "open"}
    if fault := opened.get("quality"):
        says = f"The data are broken ({', '.join(fault['causes'])}): mend their source; a model would learn the fault."
        return Choice("none", (says,), fault["opened"])
    mine = [one for one in seen.windows if one.version == seen.served and not one.skipped]
    if not mine:
        return Choice("none", (f"No window of version {seen.served}, which is served now, has been judged yet.",))
    incident = _current(opened.get("drift"), mine)
    since = max(incident["opened"], mine[0].window) if incident else -1
    loss = lost(seen, mine, since if incident else seen.since)
    if not incident:
        if not (loss and _matters(policy, loss)):
            return Choice("none", ("Nothing has moved, and no loss is known, since this version serves.",), loss=loss)
        since = seen.since if seen.since >= 0 else loss.since
    reasons = [_told(incident), f"{seen.metric}: {loss}." if loss else f"No {seen.metric} can be told yet."]
    return _weighed(policy, seen, mine, Choice("watch", tuple(reasons), since, loss))


def _current(incident: Mapping[str, Any] | None, mine: Sequence[Judged]) -> Mapping[str, Any] | None:
    """The open incident of drift, if it was seen in this version's time."""
    return incident if incident and incident["last"] >= mine[0].window else None


def _told(incident: Mapping[str, Any] | None) -> str:
    if incident is None:
        return "No input has moved: what the labels mean has."
    return f"Incident {incident['id']} is open since window {incident['opened']}: {', '.join(incident['causes'])}."


def _weighed(policy: Policy, seen: Evidence, mine: Sequence[Judged], found: Choice) -> Choice:
    """What a drift is worth: watching, or a retraining unless something forbids it now."""
    drifting = sum(bool(one.moved) and one.window >= found.since for one in mine)
    loss = found.loss
    action: Action = "watch"
    if loss and _matters(policy, loss):
        says = f"That is at least {policy.loss:g} and at least {policy.errors:g} standard errors."
        action = "retrain"
    elif policy.insist and drifting >= policy.insist:
        says, action = f"{drifting} windows have drifted, and from {policy.insist} on the policy insists.", "retrain"
    else:
        says = f"That is less than {policy.loss:g} or than {policy.errors:g} standard errors: it is watched on."
    reasons = [*found.reasons, says]
    if action == "retrain" and (held := _held(policy, seen, mine[-1].window, found.since)):
        action, says = held
        reasons.append(says)
    elif action == "retrain":
        action = "retrain" if loss is None or loss.value >= policy.full else "refresh"
        reasons.append(f"From a loss of {policy.full:g} on anew, below through adapters on the served model.")
    return replace(found, action=action, reasons=tuple(reasons))


def lost(seen: Evidence, mine: Sequence[Judged], since: int) -> Loss | None:
    """The loss since a window, -1 for one of the last that have labels: by labels where there are, else estimated."""
    windows = [one for one in mine if one.window >= since]
    if not windows:
        return None
    assert windows[-1].usual is not None, "every window that was judged has it"
    usual = Estimate(**windows[-1].usual)
    known = seen.labels.filter(pl.col("window").is_in([one.window for one in windows]), version=windows[-1].version)
    if (rows := _enough(known)) is not None:
        now = realised(seen.metric, rows["confidence"].to_numpy(), rows["right"].to_numpy())
        return _loss("realised", min(rows["window"].to_list()), now, usual)
    estimates = [Estimate(**one.estimate) for one in windows if one.estimate and np.isfinite(one.estimate["value"])]
    return _loss("estimated", since, _pooled(estimates), usual) if since >= 0 and estimates else None


def _enough(known: pl.DataFrame) -> pl.DataFrame | None:
    """Labelled rows of the last windows, as many windows as it takes to tell a metric; None where all are too few."""
    there = sorted(set(known["window"].to_list()))
    for count in range(min(RECENT, len(there)), len(there) + 1):
        rows = known.filter(pl.col("window").is_in(there[-count:]))
        right = int(rows["right"].sum())
        if count >= LEAST and min(right, len(rows) - right) >= OUTCOMES:
            return rows
    return None


def _pooled(estimates: Sequence[Estimate]) -> Estimate:
    """Their mean by rows; errors of calibration are the same in all, so that they do not average out."""
    rows = np.array([one.rows for one in estimates], np.float64)
    value, error = (
        float(np.average([getattr(one, name) for one in estimates], weights=rows)) for name in ("value", "error")
    )
    return Estimate(value, error, int(rows.sum()))


def _loss(how: Literal["realised", "estimated"], since: int, now: Estimate, usual: Estimate) -> Loss:
    return Loss(how, since, usual.value - now.value, float(np.hypot(usual.error, now.error)), now.value, usual.value)


def _matters(policy: Policy, loss: Loss) -> bool:
    return loss.value >= policy.loss and loss.value >= policy.errors * loss.error


def _held(policy: Policy, seen: Evidence, window: int, since: int) -> tuple[Action, str] | None:
    """What forbids a retraining now, and why."""
    there, needed = window - since + 1, seen.unseen + policy.learn
    if there < needed:
        parts = f"{policy.learn} to learn from and {seen.unseen} that training leaves out"
        return "wait", f"{needed} windows since it began are needed, {parts}; {there} are there."
    last = seen.retrained[-1] if seen.retrained else None
    if last is not None and window - last < policy.cooldown:
        return (
            "wait",
            f"The last retraining was decided after window {last}; the cooldown is {policy.cooldown} windows.",
        )
    spent = sum(window - one < policy.per for one in seen.retrained)
    if spent >= policy.budget:
        return "hold", f"{spent} retrainings in {policy.per} windows are the whole budget; people have to decide."
    return None
