"""Trials of the drift monitor on a world's days: false alarms on clean days, power and delay on drifted ones."""

from collections import deque
from typing import Any

import numpy as np

from benchmarks import label_rate
from benchmarks.drift_days import AGES, REFERENCE, GeneratedDays, count_reports, drop_half
from models.fraud.generator.drift import Drift, inject
from serving.drift.alarms import data_faults
from serving.drift.alarms.alarm import AlarmRule, WindowMonitor, find_drift
from serving.drift.profiles.profile import Profile
from serving.drift.reference import metric_estimate
from serving.drift.reference.day_variation import ReferenceBaseline

SPAN = 8
FAULTS = {"units": 0.02, "nulls": 0.02, "unseen": 0.02, "encoding": 0.02}
WEEKS = 56  # days that a metric is measured on; with fewer, its own error would be about 0.02
SURE = 0.01  # significance level of one test; the eleven tests in a row are highly correlated
LOOKS = AGES + 3
LATE = LOOKS + 1  # value for a drift that was not detected
Windows = list[tuple[str, Profile]]


def find_clean_alarms(days: GeneratedDays, windows: Windows) -> dict[str, list[bool]]:
    """Return whether each clean window alarms, by our rule and by the same tests on rows treated as independent.

    ``alerts`` marks the windows with a notification: one per incident.
    """
    monitor, naive = WindowMonitor(days.baseline), WindowMonitor(ReferenceBaseline.of_rows(days.baseline.pooled))
    alarms: dict[str, list[bool]] = {"ours": [], "alerts": [], "rows as independent": []}
    for place, (kind, profile) in enumerate(windows):
        verdict = monitor.observe(place, kind, profile)
        alarms["ours"].append(verdict.has_alarm)
        alarms["alerts"].append(any(news == "alert" for news, _ in verdict.news))
        alarms["rows as independent"].append(naive.observe(place, kind, profile).has_alarm)
    return alarms


def measure_delay(days: GeneratedDays, windows: Windows, kind: str, size: float, every: int, length: int) -> list[int]:
    """Return the windows until the alarm, 1 for the first, ``length`` + 1 for none; one trial every ``every`` days."""
    waits = []
    for place in range(SPAN, days.judged - length + 1, every):
        drifted = days.profile_drifted_days(kind, size, days.first + place, length)
        past = deque(windows[place - SPAN + 1 : place], SPAN)
        wait = length + 1
        for step, window in enumerate(drifted, 1):
            past.append(window)
            if any(result.moved for result in find_drift(days.baseline, list(past), AlarmRule())):
                wait = step
                break
        waits.append(wait)
    return waits


def detect_faults(days: GeneratedDays, every: int) -> dict[str, list[bool]]:
    """Return whether each kind of data fault is detected as that kind in its first window."""
    return {
        kind: [
            any(
                fault.kind == kind
                for fault in data_faults.find_faults(
                    days.baseline.pooled, days.profile_drifted_days(kind, size, days.first + place, 1)[0][1]
                )
            )
            for place in range(0, days.judged, every)
        ]
        for kind, size in FAULTS.items()
    }


def compute_fraud_rate_p_values(days: GeneratedDays, size: float, every: int) -> dict[str, list[float]]:
    """Return p-values of the fraud-rate test on the first day with mature labels, with and without drift."""
    labelled = days.add_label_days(days.purchases)
    counts, sources = zip(*(count_reports(labelled, day) for day in days.settled), strict=True)
    past = label_rate.PositiveRate.of_windows(counts, sources, overlap=AGES)
    p_values: dict[str, list[float]] = {"drifted": [], "clean": []}
    for place in range(0, days.judged - AGES, every):
        start, today = days.first + place, days.first + place + AGES
        p_values["clean"].append(past.test(*count_reports(labelled, today))[0])
        if place % (4 * every) == 0:
            rows, _ = inject(Drift("prior", size, start), days.purchases, days.world, days.total, days.seed)
            p_values["drifted"].append(past.test(*count_reports(days.add_label_days(rows), today))[0])
    return p_values


def compute_concept_p_values(days: GeneratedDays, size: float, every: int) -> dict[str, list[list[float]]]:
    """Return daily p-values of the test that known frauds score as high as before, with and without concept drift."""
    past = days.first - REFERENCE, days.first
    reference = _score_known_frauds(days.add_label_days(days.select_days(*past)), days, past[1])
    p_values: dict[str, list[list[float]]] = {"drifted": [], "clean": []}
    for place in range(0, days.judged - LOOKS, every):
        start = days.first + place
        for name, rows in (
            ("drifted", days.make_drifted_rows("concept", size, start, LOOKS)),
            ("clean", days.select_days(start, start + LOOKS)),
        ):
            rows = days.add_label_days(rows)
            scored_days = [_score_known_frauds(rows, days, start + age) for age in range(1, LOOKS + 1)]
            p_values[name].append(
                [
                    label_rate.mann_whitney_lower(scores, reference[0], parts, reference[1])
                    for scores, parts in scored_days
                ]
            )
    return p_values


def _score_known_frauds(rows: dict[str, np.ndarray], days: GeneratedDays, today: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each customer's mean score of known frauds, and its fraction of an independent source, ``[customers]``."""
    labelled = {name: column[rows["known"] < today] for name, column in rows.items()}
    if not len(labelled["id"]):
        return np.empty(0), np.empty(0)
    _, customer = np.unique(labelled["customer"], return_inverse=True)
    scores = np.bincount(customer, days.score(labelled)) / np.bincount(customer)
    return scores, label_rate.count_sources(labelled["customer"], labelled["merchant"])


def estimate_metrics(days: GeneratedDays) -> list[dict[str, Any]]:
    """Estimate metrics without labels and measure them, on weeks with covariate shift and on clean weeks."""
    reference, weeks = (
        days.select_days(days.first - REFERENCE, days.first),
        days.select_days(days.first, days.first + WEEKS),
    )
    windows = {kind: drop_half(weeks, kind, days.seed) for kind in ("online", "large")} | {"usual": weeks}
    scored = {kind: (days.score(rows), rows["scenario"] > 0) for kind, rows in windows.items()}
    estimates = []
    for metric in ("pr_auc", "roc_auc"):
        estimator = metric_estimate.MetricEstimator.fit(metric, days.score(reference), reference["scenario"] > 0)
        for kind, (scores, truth) in scored.items():
            estimate, realised = estimator.estimate(scores), metric_estimate.METRICS[metric](scores, truth)
            estimates.append(
                {
                    "metric": metric,
                    "kind": kind,
                    "estimate": estimate.value,
                    "error": estimate.error,
                    "realised": realised,
                }
            )
    return estimates
