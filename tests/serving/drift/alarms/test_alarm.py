"""Drift alarms: false alarm rate on undrifted days, power on drifted ones, and one alert per incident."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from serving.drift.alarms.alarm import AlarmRule, WindowMonitor, find_drift
from serving.drift.alarms.drift_incidents import DriftIncidents
from serving.drift.profiles import bins, image_columns
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_noise import Noise
from serving.drift.reference.day_variation import ReferenceBaseline, kind_of_day
from serving.drift.reference.explained_columns import ExplainedColumn

START, ROWS, PEOPLE, REFERENCE = date(2026, 1, 5), 2000, 400, 42
HOLIDAYS = frozenset(START + timedelta(day) for day in (10, 33, 50, 60))


def rows_of(day: int, seed: int = 0, factor: float = 1.0, online: float = 0.2) -> pl.DataFrame:
    """A day on which few customers buy often, so that rows are not independent; weekends and holidays differ."""
    rng, kind = np.random.default_rng([seed, day]), kind_of_day(START + timedelta(day), HOLIDAYS)
    habit = np.random.default_rng(seed).normal(0, 0.8, 50_000)
    customer = rng.choice(len(habit), PEOPLE)[rng.integers(0, PEOPLE, ROWS)]
    effect = {"saturday": 0.1, "sunday": -0.1, "holiday": 0.3}.get(kind, 0.0)
    amount = np.exp(3 + habit[customer] + effect + rng.normal(0, 0.5, ROWS)) * factor
    channel = np.where(rng.random(ROWS) < online + effect / 5, "online", "till")
    return pl.DataFrame({"amount": amount, "usual": np.exp(3 + habit[customer]), "channel": channel})


def kind(day: int) -> str:
    return kind_of_day(START + timedelta(day), HOLIDAYS)


@pytest.fixture(scope="module")
def whole() -> pl.DataFrame:
    return pl.concat([rows_of(day) for day in range(REFERENCE)])


@pytest.fixture(scope="module")
def explained(whole: pl.DataFrame) -> ExplainedColumn:
    return ExplainedColumn.fit(whole, "amount", ["usual"])


@pytest.fixture(scope="module")
def counted(whole: pl.DataFrame, explained: ExplainedColumn) -> bins.Layout:
    return bins.fit_layout(explained.with_residuals(whole).drop("usual"))


@pytest.fixture(scope="module")
def window(counted, explained):
    return lambda day, **change: (kind(day), Profile.of(counted, explained.with_residuals(rows_of(day, **change))))


@pytest.fixture(scope="module")
def baseline(window) -> ReferenceBaseline:
    return ReferenceBaseline.of_days([window(day) for day in range(REFERENCE)])


def moved(baseline: ReferenceBaseline, windows: list, rule: AlarmRule | None = None) -> list[str]:
    return [finding.column for finding in find_drift(baseline, windows, rule) if finding.moved]


def test_shifted_column_alarms_on_its_first_day_and_a_clean_one_does_not(baseline, window) -> None:
    clean = [bool(moved(baseline, [window(day)])) for day in range(REFERENCE, REFERENCE + 60)]
    assert sum(clean) <= 3
    shifted = [moved(baseline, [window(day, factor=1.08)]) for day in range(REFERENCE, REFERENCE + 20)]
    assert all("amount_unexplained" in columns for columns in shifted)


def test_clustered_rows_inflate_false_alarms_of_a_test_for_independent_rows(baseline, window) -> None:
    naive = ReferenceBaseline.of_rows(baseline.pooled)
    days = [window(day) for day in range(REFERENCE, REFERENCE + 40)]
    assert sum(bool(moved(naive, [day])) for day in days) > 10 > sum(bool(moved(baseline, [day])) for day in days)
    key = ("amount", "location")
    assert baseline.noise[key].trace > 2 * naive.noise[key].trace
    assert (
        baseline.noise["amount_unexplained", "location"].trace
        < 1.6 * naive.noise["amount_unexplained", "location"].trace
    )


def test_p_values_of_clean_days_are_uniform(baseline, window) -> None:
    from scipy import stats

    part = next(part for part in baseline.components if (part.column, part.name) == ("amount", "location"))
    p = [baseline.test(part, [window(day)]).p for day in range(REFERENCE, REFERENCE + 120)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_holiday_is_compared_with_holidays_and_an_unknown_kind_is_not_judged(baseline, window) -> None:
    assert not moved(baseline, [window(50)]) and kind(50) == "holiday"
    assert "channel" in moved(baseline, [("workday", window(50)[1])])
    monitor = WindowMonitor(baseline)
    verdict = monitor.observe(0, "strike", window(50)[1])
    assert not verdict.judged and not verdict.findings and not monitor.past


def test_significant_but_small_change_raises_no_alarm(baseline, window) -> None:
    day = window(REFERENCE, factor=1.08)
    assert moved(baseline, [day])
    high = AlarmRule(location=1.0, spread=1.0, shape=1.0)
    findings = find_drift(baseline, [day], high)
    assert findings[0].adjusted <= high.alpha and not any(finding.moved for finding in findings)


def test_large_but_insignificant_change_raises_no_alarm(counted, baseline, explained) -> None:
    few = Profile.of(counted, explained.with_residuals(rows_of(REFERENCE, factor=1.2)[:25]))
    findings = find_drift(baseline, [(kind(REFERENCE), few)])
    assert max(finding.effect for finding in findings) > AlarmRule().location
    assert not any(finding.moved for finding in findings)


def test_slow_drift_is_detected_by_longer_spans_and_not_by_single_days(baseline, window) -> None:
    days = [window(day, factor=1.022) for day in range(REFERENCE, REFERENCE + 8)]
    single = AlarmRule(spans=(1,), parts=(1.0,))
    assert sum(bool(moved(baseline, [day], single)) for day in days) <= 3
    findings = [finding for finding in find_drift(baseline, days) if finding.moved]
    assert {finding.column for finding in findings} == {"amount_unexplained"}
    assert min(finding.span for finding in findings) > 1


def test_benjamini_hochberg_rejects_at_least_what_holm_rejects(baseline, window) -> None:
    day = [window(REFERENCE, factor=1.1, online=0.24)]
    holm, bh = (set(moved(baseline, day, AlarmRule(correction=name))) for name in ("holm", "benjamini-hochberg"))
    assert "channel" in bh and holm <= bh


def test_deserialized_baseline_gives_equal_findings(baseline, window) -> None:
    again = ReferenceBaseline.from_bytes(baseline.to_bytes())
    assert again.to_bytes() == baseline.to_bytes()
    days = [window(REFERENCE, factor=1.05)]
    assert find_drift(again, days) == find_drift(baseline, days)


def test_too_few_days_and_no_window_raise(baseline, window) -> None:
    with pytest.raises(ValueError, match="too few to estimate the variation"):
        ReferenceBaseline.of_days([window(day) for day in range(12)])
    with pytest.raises(ValueError, match="at least one window"):
        find_drift(baseline, [])


def test_an_incident_sends_one_alert_and_a_later_one_another(baseline, window) -> None:
    monitor, reported = WindowMonitor(baseline), []
    factors = [1, 1.3, 1.3, 1.3] + [1] * 22 + [1.3]
    for index, factor in enumerate(factors):
        verdict = monitor.observe(index, *window(REFERENCE + index, factor=factor))
        reported += [(index, news, incident.id) for news, incident in verdict.news]
    assert [(news, number) for _, news, number in reported] == [("alert", 1), ("resolved", 1), ("alert", 2)]
    assert reported[0][0] == 1 and reported[2][0] == 26
    assert monitor.incidents.seen[0].causes[0] in ("amount", "amount_unexplained")


def test_reverted_drift_raises_no_further_alarm(baseline, window) -> None:
    monitor, alarms, reported = WindowMonitor(baseline), [], []
    for index, factor in enumerate([1.3] * 8 + [1] * 8):
        verdict = monitor.observe(index, *window(REFERENCE + index, factor=factor))
        alarms.append(verdict.has_alarm)
        reported += [(index, news) for news, _ in verdict.news]
    assert alarms == [True] * 8 + [False] * 8
    assert reported == [(0, "alert"), (7 + monitor.incidents.quiet, "resolved")]


def test_change_of_one_of_many_values_is_detected_more_often_by_its_share_than_by_the_shape() -> None:
    rng = np.random.default_rng(11)

    def draw_rows(n: int, first: float) -> pl.DataFrame:
        rest = np.full(9, (1 - first) / 9)
        return pl.DataFrame({"class": rng.choice([f"c{i}" for i in range(10)], n, p=[first, *rest])})

    reference = draw_rows(2000, 0.1)
    counted = bins.fit_layout(reference)
    baseline = ReferenceBaseline.of_rows(Profile.of(counted, reference))
    days = [find_drift(baseline, [("any", Profile.of(counted, draw_rows(500, 0.17)))]) for _ in range(60)]
    hit = {
        name: [any(x.moved and x.component == name for x in day) for day in days] for name in ("share of c0", "shape")
    }
    assert sum(hit["share of c0"]) > 40 and sum(hit["share of c0"]) > sum(hit["shape"]) + 5


def test_windows_as_large_as_the_reference_keep_the_false_alarm_rate() -> None:
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(300):
        both = pl.DataFrame({"x": rng.lognormal(0, 1, 1000), "y": 1 - rng.beta(1, 40, 1000)})
        counted = bins.fit_layout(both[:500], bins=32)
        baseline = ReferenceBaseline.of_rows(Profile.of(counted, both[:500]))
        alarms += bool(moved(baseline, [("any", Profile.of(counted, both[500:]))]))
    assert alarms <= 9  # 3 are expected; more than 9 have a probability of 0.001


def test_autocorrelated_days_inflate_the_variance_of_a_mean_over_days() -> None:
    rng = np.random.default_rng(13)

    def noise(share: float) -> Noise:
        """Noise estimated from 60 days whose mean is autocorrelated by ``share`` from day to day."""
        mean, days = 0.0, []
        for _ in range(60):
            mean = share * mean + rng.normal(0, 0.2 * np.sqrt(1 - share**2))
            days.append(("workday", pl.DataFrame({"x": rng.normal(mean, 1, 1000)})))
        counted = bins.fit_layout(pl.concat([rows for _, rows in days]))
        fitted = ReferenceBaseline.of_days([(kind, Profile.of(counted, rows)) for kind, rows in days])
        assert ReferenceBaseline.from_bytes(fitted.to_bytes()).noise == fitted.noise
        return fitted.noise["x", "location"]

    assert noise(0.8).variance_inflation(8) > 1.8 and noise(0.0).variance_inflation(8) < 1.6
    assert noise(0.8).variance_inflation(1) == 1.0


def test_data_fault_is_not_reported_as_drift(baseline, window, counted, explained) -> None:
    broken = rows_of(REFERENCE).with_columns(channel=pl.lit("TILL"))
    monitor = WindowMonitor(baseline)
    verdict = monitor.observe(0, kind(REFERENCE), Profile.of(counted, explained.with_residuals(broken)))
    assert verdict.has_alarm and not verdict.findings and not monitor.past
    assert [(news, incident.kind) for news, incident in verdict.news] == [("alert", "quality")]


def test_incidents_deduplicate_cool_down_and_deserialize() -> None:
    incidents, reported = DriftIncidents(quiet=2, cooldown=4), []
    for window, causes in enumerate([["a"], ["a", "b"], [], [], ["c"], [], [], [], [], [], ["a"]]):
        incidents, news = incidents.update(window, {"drift": causes})
        reported += [(window, what) for what, _ in news]
        assert DriftIncidents.from_json(incidents.to_json()) == incidents
    assert reported == [(0, "alert"), (3, "resolved"), (6, "resolved"), (10, "alert")]
    assert incidents.seen[0].causes == ("a", "b", "c") and (incidents.seen[0].opened, incidents.seen[0].last) == (0, 4)
    again, news = incidents.update(10, {"drift": ["a"]})
    assert again == incidents and not news
    assert [incident.id for incident in incidents.open] == [2]


def test_image_drift_is_detected_in_pixels_and_predicted_classes() -> None:
    rng = np.random.default_rng(5)
    base = np.linspace(0.2, 0.6, 64).reshape(1, 8, 8, 1)

    def draw_rows(n: int, noise: float = 0.0, light: float = 1.0, prior: float = 0.5) -> pl.DataFrame:
        pixels = np.clip(
            base * rng.uniform(0.8, 1.2, (n, 1, 1, 1)) * light + rng.normal(0, 0.02 + noise, (n, 8, 8, 1)), 0, 1
        )
        first = np.clip(np.where(rng.random(n) < prior, 0.9, 0.1) + rng.normal(0, 0.03, n), 0, 1)
        return image_columns.columns(pixels, np.column_stack([first, 1 - first]), ["cat", "dog"])

    reference = draw_rows(3000)
    counted = bins.fit_layout(reference, bins=32)
    baseline = ReferenceBaseline.of_rows(Profile.of(counted, reference))

    def drifted(**change: float) -> set[str]:
        return set(moved(baseline, [("any", Profile.of(counted, draw_rows(500, **change)))]))

    assert sum(bool(drifted()) for _ in range(40)) <= 3
    assert "roughness" in drifted(noise=0.01)
    assert "brightness" in drifted(light=1.1)
    assert drifted(prior=0.65) == {"predicted"}
    # Pixels, softmax outputs and predicted classes get a third of alpha each, however many columns each family has.
    first = find_drift(baseline, [("any", Profile.of(counted, draw_rows(500, prior=0.65)))])[0]
    assert first.column == "predicted" and first.adjusted == pytest.approx(3 * first.p)
