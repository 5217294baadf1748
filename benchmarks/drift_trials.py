"""What a drift monitor does on a world's days: false alarms on clean ones, power and delay on drifted ones."""

from collections import deque
from typing import Any

import numpy as np

from benchmarks.drift_days import AGES, REFERENCE, Days, reports, selected
from models.fraud.generator.drift import Drift, inject
from serving.drift.alarms import data_faults, distribution_distances, label_rate
from serving.drift.alarms.alarm import Monitor, Rule, judge
from serving.drift.profiles.profile import Profile
from serving.drift.reference import metric_estimate
from serving.drift.reference.day_variation import Baseline

SPAN = 8
FAULTS = {"units": 0.02, "nulls": 0.02, "unseen": 0.02, "encoding": 0.02}
WEEKS = 56  # days that a metric is measured on: of fewer it would itself be known to .02 only
SURE = 0.01  # of a look; eleven in a row are much alike
LOOKS = AGES + 3
LATE = LOOKS + 1  # stands for a drift that was not seen
Windows = list[tuple[str, Profile]]


def clean(days: Days, windows: Windows) -> dict[str, list[bool]]:
    """Whether each undrifted window alarms, by our rule and by the same tests if rows counted as independent; and alerts.

    ``alerts`` are what people hear of our rule: one an incident.
    """
    monitor, naive = Monitor(days.baseline), Monitor(Baseline.of_rows(days.baseline.pooled))
    found: dict[str, list[bool]] = {"ours": [], "alerts": [], "rows as independent": []}
    for place, (kind, profile) in enumerate(windows):
        verdict = monitor.observe(place, kind, profile)
        found["ours"].append(verdict.alarm)
        found["alerts"].append(any(news == "alert" for news, _ in verdict.news))
        found["rows as independent"].append(naive.observe(place, kind, profile).alarm)
    return found


def delay(days: Days, windows: Windows, kind: str, size: float, every: int, length: int) -> list[int]:
    """Windows until the alarm, 1 for the first; ``length`` + 1 where none came. A trial each ``every`` days."""
    found = []
    for place in range(SPAN, days.judged - length + 1, every):
        drifted = days.drifted(kind, size, days.first + place, length)
        past = deque(windows[place - SPAN + 1 : place], SPAN)
        wait = length + 1
        for step, window in enumerate(drifted, 1):
            past.append(window)
            if any(one.moved for one in judge(days.baseline, list(past), Rule())):
                wait = step
                break
        found.append(wait)
    return found


def faults(days: Days, every: int) -> dict[str, list[bool]]:
    """Whether each kind of fault is named as such in its first window."""
    return {
        kind: [
            any(
                one.kind == kind
                for one in data_faults.check(
                    days.baseline.pooled, days.drifted(kind, size, days.first + place, 1)[0][1]
                )
            )
            for place in range(0, days.judged, every)
        ]
        for kind, size in FAULTS.items()
    }


def fraud_rate(days: Days, size: float, every: int) -> dict[str, list[float]]:
    """p-values of the fraud-rate test on the first day with ripe labels, with the drift and without it."""
    usual = days.labels(days.purchases)
    counts, found_ = zip(*(reports(usual, day) for day in days.settled), strict=True)
    past = label_rate.Reports.of_windows(counts, found_, overlap=AGES)
    found: dict[str, list[float]] = {"drifted": [], "clean": []}
    for place in range(0, days.judged - AGES, every):
        start, today = days.first + place, days.first + place + AGES
        found["clean"].append(past.test(*reports(usual, today))[0])
        if place % (4 * every) == 0:
            rows, _ = inject(Drift("prior", size, start), days.purchases, days.world, days.total, days.seed)
            found["drifted"].append(past.test(*reports(days.labels(rows), today))[0])
    return found


def concept(days: Days, size: float, every: int) -> dict[str, list[list[float]]]:
    """p-values that known frauds have scores as high as before, each day from the start on, with the drift and without."""
    past = days.first - REFERENCE, days.first
    usual = _scored(days.labels(days.between(*past)), days, past[1])
    found: dict[str, list[list[float]]] = {"drifted": [], "clean": []}
    for place in range(0, days.judged - LOOKS, every):
        start = days.first + place
        for name, rows in (
            ("drifted", days.drifted_rows("concept", size, start, LOOKS)),
            ("clean", days.between(start, start + LOOKS)),
        ):
            rows = days.labels(rows)
            looks = [_scored(rows, days, start + age) for age in range(1, LOOKS + 1)]
            found[name].append(
                [distribution_distances.lower(scores, usual[0], parts, usual[1]) for scores, parts in looks]
            )
    return found


def _scored(rows: dict[str, np.ndarray], days: Days, today: int) -> tuple[np.ndarray, np.ndarray]:
    """Each customer's mean score of the frauds that are known by today's start, and its part of a source, ``[customers]``."""
    known = {name: column[rows["known"] < today] for name, column in rows.items()}
    if not len(known["id"]):
        return np.empty(0), np.empty(0)
    _, customer = np.unique(known["customer"], return_inverse=True)
    scores = np.bincount(customer, days.scores(known)) / np.bincount(customer)
    return scores, label_rate.sources(known["customer"], known["merchant"])


def estimated(days: Days) -> list[dict[str, Any]]:
    """Metrics estimated without labels and then measured, on weeks whose inputs have drifted and on usual ones."""
    held, weeks = days.between(days.first - REFERENCE, days.first), days.between(days.first, days.first + WEEKS)
    windows = {kind: selected(weeks, kind, days.seed) for kind in ("online", "large")} | {"usual": weeks}
    scored = {kind: (days.scores(rows), rows["scenario"] > 0) for kind, rows in windows.items()}
    found = []
    for metric in ("pr_auc", "roc_auc"):
        fitted = metric_estimate.Estimator.fit(metric, days.scores(held), held["scenario"] > 0)
        for kind, (scores, truth) in scored.items():
            guess, real = fitted.estimate(scores), metric_estimate.METRICS[metric](scores, truth)
            found.append(
                {"metric": metric, "kind": kind, "estimate": guess.value, "error": guess.error, "realised": real}
            )
    return found
