"""What a drift monitor does on a world's days: false alarms on clean ones, power and delay on drifted ones."""

from collections import deque
from typing import Any

import numpy as np
import polars as pl

from benchmarks.drift_days import AGES, DAY, REFERENCE, Days, reports
from serving.drift import estimate, labels, quality, statistics
from serving.drift.alarm import Monitor, Rule, judge
from serving.drift.calibration import Baseline
from serving.drift.profile import Profile

SPAN = 8
FAULTS = {"units": 0.02, "nulls": 0.02, "unseen": 0.02, "encoding": 0.02}
COVARIATE = (("online", 0.3), ("amount", 1.2))
FORTNIGHT = 14
SURE = 1e-3
Windows = list[tuple[str, Profile]]


def clean(days: Days, windows: Windows) -> dict[str, list[bool]]:
    """Whether each undrifted window alarms: by our rule, and by the same tests if rows counted as independent."""
    rows = Baseline.of_rows(days.baseline.pooled)
    monitor, naive = Monitor(days.baseline), Monitor(rows)
    return {
        name: [one.observe(place, kind, profile).alarm for place, (kind, profile) in enumerate(windows)]
        for name, one in (("ours", monitor), ("rows as independent", naive))
    }


def incidents(days: Days, windows: Windows) -> int:
    """Alerts that people would have heard over the undrifted windows."""
    monitor = Monitor(days.baseline)
    return sum(
        news == "alert"
        for place, (kind, profile) in enumerate(windows)
        for news, _ in monitor.observe(place, kind, profile).news
    )


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
                for one in quality.check(days.baseline.pooled, days.drifted(kind, size, days.first + place, 1)[0][1])
            )
            for place in range(0, days.judged, every)
        ]
        for kind, size in FAULTS.items()
    }


def fraud_rate(days: Days, size: float, every: int) -> dict[str, list[float]]:
    """p-values of the fraud-rate test on the first day with ripe labels, with the drift and without it."""
    from models.fraud.drift import Drift, inject

    usual = days.labels(days.between(days.first - REFERENCE, days.total))
    settled = range(days.first - REFERENCE, days.first - AGES)
    known = np.array([reports_of(usual, day) for day in settled])
    past = labels.Reports.of_days(known[:, 0], known[:, 1:])
    found: dict[str, list[float]] = {"drifted": [], "clean": []}
    for place in range(0, days.judged - AGES, every):
        start, today = days.first + place, days.first + place + AGES
        span = range(today - 1, today - 1 - AGES, -1)
        found["clean"].append(past.test(*reports(usual, span, today))[0])
        if place % (4 * every) == 0:
            rows, _ = inject(Drift("prior", size, start), days.rows, days.world, days.total, days.seed)
            found["drifted"].append(past.test(*reports(days.labels(rows), span, today))[0])
    return found


def reports_of(rows: dict[str, np.ndarray], day: int) -> list[int]:
    """Rows of a day, then customers with a fraud known at age 1 to ``AGES``."""
    there = rows["time"] // DAY == day
    customer, known = rows["customer"][there], rows["known"][there]
    return [int(there.sum()), *(len(np.unique(customer[known < day + age])) for age in range(1, AGES + 1))]


def concept(days: Days, size: float, every: int) -> dict[str, list[float]]:
    """Days from the start until the share of known frauds that the model stops has fallen, and clean p-values."""
    usual = days.labels(days.between(days.first - REFERENCE, days.first))
    caught = days.frame(usual)["decision"].to_numpy() == "stop"
    past_hits, past = _caught(usual, caught, days.first)
    found: dict[str, list[float]] = {"delay": [], "clean": []}
    for place in range(0, days.judged - AGES - 3, every):
        start = days.first + place
        for name, rows in (
            ("delay", days.drifted_rows("concept", size, start, AGES + 3)),
            ("clean", days.between(start, start + AGES + 3)),
        ):
            rows = days.labels(rows)
            stopped = days.frame(rows)["decision"].to_numpy() == "stop"
            p = [statistics.same_rate(*_caught(rows, stopped, start + age), past_hits, past) for age in range(1, AGES + 4)]
            wait = next((age for age, one in enumerate(p, 1) if one < SURE), AGES + 4)
            found[name].append(wait if name == "delay" else min(p))
    return found


def _caught(rows: dict[str, np.ndarray], stopped: np.ndarray, today: int) -> tuple[int, int]:
    """Of the customers with a fraud known by today's start, how many had one stopped, and how many there are."""
    known = rows["known"] < today
    return len(np.unique(rows["customer"][known & stopped])), len(np.unique(rows["customer"][known]))


def estimated(days: Days) -> list[dict[str, Any]]:
    """Metrics estimated without labels and then measured, on drifted fortnights."""
    held = days.labels(days.between(days.first - FORTNIGHT, days.first))
    found = []
    for metric in ("pr_auc", "roc_auc"):
        fitted = estimate.Estimator.fit(metric, days.scores(held), held["scenario"] > 0)
        for kind, size in COVARIATE:
            rows = days.drifted_rows(kind, size, days.first, FORTNIGHT)
            scores, truth = days.scores(rows), rows["scenario"] > 0
            guess = fitted.estimate(scores)
            real = estimate.METRICS[metric](scores, truth)
            found.append({"metric": metric, "kind": kind, "estimate": guess.value, "error": guess.error, "realised": real})
    return found


def images(pixels: np.ndarray, truth: np.ndarray, trials: int, seed: int = 0) -> dict[str, float]:
    """Share of windows of 500 pictures that alarm, clean and changed; each trial splits the held-out pictures anew."""
    from sklearn.linear_model import LogisticRegression

    from serving.drift import layout, pictures

    rng, n = np.random.default_rng(seed), len(pixels)
    train = rng.permutation(n)[: n // 3]
    held = np.setdiff1d(np.arange(n), train)
    model = LogisticRegression(max_iter=300).fit(pixels[train].reshape(len(train), -1), truth[train])
    names = [str(one) for one in model.classes_]

    def columns(shown: np.ndarray) -> pl.DataFrame:
        return pictures.columns(shown, model.predict_proba(shown.reshape(len(shown), -1)), names)

    def shifted(at: np.ndarray) -> np.ndarray:
        weights = np.where(truth[at] == model.classes_[3], 2.0, 1.0)
        return rng.choice(at, 500, replace=False, p=weights / weights.sum())

    changes = {
        "clean": lambda at: pixels[at[:500]],
        "subtle noise": lambda at: np.clip(pixels[at[:500]] + rng.normal(0, 0.04, pixels[at[:500]].shape), 0, 1),
        "brightness": lambda at: np.clip(pixels[at[:500]] * 1.1, 0, 1),
        "prior shift": lambda at: pixels[shifted(at)],
    }
    alarms = dict.fromkeys(changes, 0)
    for _ in range(trials):
        held = rng.permutation(held)
        rest, window = held[: len(held) - 640], held[-640:]
        past = columns(pixels[rest])
        counted = layout.fit(past, bins=32)
        baseline = Baseline.of_rows(Profile.of(counted, past))
        for name, change in changes.items():
            now = Profile.of(counted, columns(change(window)))
            alarms[name] += any(one.moved for one in judge(baseline, [("any", now)]))
    return {name: count / trials for name, count in alarms.items()}
