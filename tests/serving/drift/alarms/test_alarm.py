"""The alarm: held back where nothing happened, raised where something did, told once."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from serving.drift.alarms.alarm import Monitor, Rule, judge
from serving.drift.alarms.drift_incidents import Incidents
from serving.drift.profiles import bins, image_columns
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_variation import Baseline, Noise, kind_of_day
from serving.drift.reference.explained_columns import Expected

START, ROWS, PEOPLE, REFERENCE = date(2026, 1, 5), 2000, 400, 42
HOLIDAYS = frozenset(START + timedelta(day) for day in (10, 33, 50, 60))


def rows_of(day: int, seed: int = 0, factor: float = 1.0, online: float = 0.2) -> pl.DataFrame:
    """A day on which few customers buy often: rows are not independent. Weekends and holidays differ."""
    rng, kind = np.random.default_rng([seed, day]), kind_of_day(START + timedelta(day), HOLIDAYS)
    habit = np.random.default_rng(seed).normal(0, 0.8, 50_000)
    who = rng.choice(len(habit), PEOPLE)[rng.integers(0, PEOPLE, ROWS)]
    more = {"saturday": 0.1, "sunday": -0.1, "holiday": 0.3}.get(kind, 0.0)
    amount = np.exp(3 + habit[who] + more + rng.normal(0, 0.5, ROWS)) * factor
    channel = np.where(rng.random(ROWS) < online + more / 5, "online", "till")
    return pl.DataFrame({"amount": amount, "usual": np.exp(3 + habit[who]), "channel": channel})


def kind(day: int) -> str:
    return kind_of_day(START + timedelta(day), HOLIDAYS)


@pytest.fixture(scope="module")
def whole() -> pl.DataFrame:
    return pl.concat([rows_of(day) for day in range(REFERENCE)])


@pytest.fixture(scope="module")
def explained(whole: pl.DataFrame) -> Expected:
    return Expected.fit(whole, "amount", ["usual"])


@pytest.fixture(scope="module")
def counted(whole: pl.DataFrame, explained: Expected) -> bins.Layout:
    return bins.fit(explained.added(whole).drop("usual"))


@pytest.fixture(scope="module")
def window(counted, explained):
    return lambda day, **change: (kind(day), Profile.of(counted, explained.added(rows_of(day, **change))))


@pytest.fixture(scope="module")
def baseline(window) -> Baseline:
    return Baseline.of_days([window(day) for day in range(REFERENCE)])


def moved(baseline: Baseline, windows: list, rule: Rule | None = None) -> list[str]:
    return [one.column for one in judge(baseline, windows, rule) if one.moved]


def test_a_shifted_column_alarms_on_its_first_day_and_a_clean_one_does_not(baseline, window) -> None:
    clean = [bool(moved(baseline, [window(day)])) for day in range(REFERENCE, REFERENCE + 60)]
    assert sum(clean) <= 3
    shifted = [moved(baseline, [window(day, factor=1.08)]) for day in range(REFERENCE, REFERENCE + 20)]
    assert all("amount_unexplained" in columns for columns in shifted)


def test_rows_that_repeat_customers_fool_a_test_that_takes_them_for_independent(baseline, window) -> None:
    naive = Baseline.of_rows(baseline.pooled)
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

    part = next(one for one in baseline.components if (one.column, one.name) == ("amount", "location"))
    p = [baseline.test(part, [window(day)]).p for day in range(REFERENCE, REFERENCE + 120)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_holiday_is_compared_with_holidays_and_an_unknown_kind_is_not_judged(baseline, window) -> None:
    assert not moved(baseline, [window(50)]) and kind(50) == "holiday"
    assert "channel" in moved(baseline, [("workday", window(50)[1])])
    monitor = Monitor(baseline)
    verdict = monitor.observe(0, "strike", window(50)[1])
    assert not verdict.judged and not verdict.findings and not monitor.past


def test_what_is_significant_but_small_is_held_back(baseline, window) -> None:
    day = window(REFERENCE, factor=1.08)
    assert moved(baseline, [day])
    high = Rule(location=1.0, spread=1.0, shape=1.0)
    found = judge(baseline, [day], high)
    assert found[0].adjusted <= high.alpha and not any(one.moved for one in found)


def test_what_is_large_but_not_significant_is_held_back(counted, baseline, explained) -> None:
    few = Profile.of(counted, explained.added(rows_of(REFERENCE, factor=1.2)[:25]))
    found = judge(baseline, [(kind(REFERENCE), few)])
    assert max(one.effect for one in found) > Rule().location and not any(one.moved for one in found)


def test_a_slow_ramp_is_found_by_several_days_where_single_days_find_nothing(baseline, window) -> None:
    days = [window(day, factor=1.022) for day in range(REFERENCE, REFERENCE + 8)]
    single = Rule(spans=(1,), parts=(1.0,))
    assert sum(bool(moved(baseline, [day], single)) for day in days) <= 3
    found = [one for one in judge(baseline, days) if one.moved]
    assert {one.column for one in found} == {"amount_unexplained"} and min(one.span for one in found) > 1


def test_benjamini_hochberg_finds_at_least_what_holm_finds(baseline, window) -> None:
    day = [window(REFERENCE, factor=1.1, online=0.24)]
    holm, bh = (set(moved(baseline, day, Rule(correction=one))) for one in ("holm", "benjamini-hochberg"))
    assert "channel" in bh and holm <= bh


def test_a_baseline_reads_back_and_judges_the_same(baseline, window) -> None:
    again = Baseline.from_bytes(baseline.to_bytes())
    assert again.to_bytes() == baseline.to_bytes()
    days = [window(REFERENCE, factor=1.05)]
    assert judge(again, days) == judge(baseline, days)


def test_too_few_days_and_no_window_are_refused(baseline, window) -> None:
    with pytest.raises(ValueError, match="too few to know what is usual"):
        Baseline.of_days([window(day) for day in range(12)])
    with pytest.raises(ValueError, match="at least one window"):
        judge(baseline, [])


def test_one_alert_an_incident_through_open_resolved_and_again(baseline, window) -> None:
    monitor, told = Monitor(baseline), []
    factors = [1, 1.3, 1.3, 1.3] + [1] * 22 + [1.3]
    for place, factor in enumerate(factors):
        verdict = monitor.observe(place, *window(REFERENCE + place, factor=factor))
        told += [(place, news, one.id) for news, one in verdict.news]
    assert [(news, number) for _, news, number in told] == [("alert", 1), ("resolved", 1), ("alert", 2)]
    assert told[0][0] == 1 and told[2][0] == 26
    assert monitor.incidents.seen[0].causes[0] in ("amount", "amount_unexplained")


def test_after_a_drift_that_was_taken_back_usual_windows_are_quiet_at_once(baseline, window) -> None:
    monitor, alarms, told = Monitor(baseline), [], []
    for place, factor in enumerate([1.3] * 8 + [1] * 8):
        verdict = monitor.observe(place, *window(REFERENCE + place, factor=factor))
        alarms.append(verdict.alarm)
        told += [(place, news) for news, _ in verdict.news]
    assert alarms == [True] * 8 + [False] * 8
    assert told == [(0, "alert"), (7 + monitor.incidents.quiet, "resolved")]


def test_of_many_values_one_that_moves_is_found_by_its_own_share_before_all_together() -> None:
    rng = np.random.default_rng(11)

    def seen(n: int, first: float) -> pl.DataFrame:
        rest = np.full(9, (1 - first) / 9)
        return pl.DataFrame({"class": rng.choice([f"c{i}" for i in range(10)], n, p=[first, *rest])})

    reference = seen(2000, 0.1)
    counted = bins.fit(reference)
    baseline = Baseline.of_rows(Profile.of(counted, reference))
    days = [judge(baseline, [("any", Profile.of(counted, seen(500, 0.17)))]) for _ in range(60)]
    hit = {
        name: [any(x.moved and x.component == name for x in day) for day in days] for name in ("share of c0", "shape")
    }
    assert sum(hit["share of c0"]) > 40 and sum(hit["share of c0"]) > sum(hit["shape"]) + 5


def test_windows_as_large_as_their_reference_alarm_no_more_often_than_alpha() -> None:
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(300):
        both = pl.DataFrame({"x": rng.lognormal(0, 1, 1000), "y": 1 - rng.beta(1, 40, 1000)})
        counted = bins.fit(both[:500], bins=32)
        baseline = Baseline.of_rows(Profile.of(counted, both[:500]))
        alarms += bool(moved(baseline, [("any", Profile.of(counted, both[500:]))]))
    assert alarms <= 9  # 3 are expected, more than 9 come once in a thousand times


def test_moods_that_last_for_days_widen_what_several_days_may_differ_by() -> None:
    rng = np.random.default_rng(13)

    def noise(share: float) -> Noise:
        """Of 60 days on which so much of the day before goes on."""
        mood, days = 0.0, []
        for _ in range(60):
            mood = share * mood + rng.normal(0, 0.2 * np.sqrt(1 - share**2))
            days.append(("workday", pl.DataFrame({"x": rng.normal(mood, 1, 1000)})))
        counted = bins.fit(pl.concat([one for _, one in days]))
        found = Baseline.of_days([(kind, Profile.of(counted, one)) for kind, one in days])
        assert Baseline.from_bytes(found.to_bytes()).noise == found.noise
        return found.noise["x", "location"]

    assert noise(0.8).lasting(8) > 1.8 and noise(0.0).lasting(8) < 1.6
    assert noise(0.8).lasting(1) == 1.0


def test_broken_data_are_not_called_drift(baseline, window, counted, explained) -> None:
    broken = rows_of(REFERENCE).with_columns(channel=pl.lit("TILL"))
    monitor = Monitor(baseline)
    verdict = monitor.observe(0, kind(REFERENCE), Profile.of(counted, explained.added(broken)))
    assert verdict.alarm and not verdict.findings and not monitor.past
    assert [(news, one.kind) for news, one in verdict.news] == [("alert", "quality")]


def test_incidents_dedupe_cool_down_and_read_back() -> None:
    one, told = Incidents(quiet=2, cooldown=4), []
    for window, causes in enumerate([["a"], ["a", "b"], [], [], ["c"], [], [], [], [], [], ["a"]]):
        one, news = one.update(window, {"drift": causes})
        told += [(window, what) for what, _ in news]
        assert Incidents.from_json(one.to_json()) == one
    assert told == [(0, "alert"), (3, "resolved"), (6, "resolved"), (10, "alert")]
    assert one.seen[0].causes == ("a", "b", "c") and (one.seen[0].opened, one.seen[0].last) == (0, 4)
    again, news = one.update(10, {"drift": ["a"]})
    assert again == one and not news
    assert [incident.id for incident in one.open] == [2]


def test_pictures_are_watched_by_pixels_confidence_and_classes() -> None:
    rng = np.random.default_rng(5)
    base = np.linspace(0.2, 0.6, 64).reshape(1, 8, 8, 1)

    def seen(n: int, noise: float = 0.0, light: float = 1.0, prior: float = 0.5) -> pl.DataFrame:
        pixels = np.clip(
            base * rng.uniform(0.8, 1.2, (n, 1, 1, 1)) * light + rng.normal(0, 0.02 + noise, (n, 8, 8, 1)), 0, 1
        )
        first = np.clip(np.where(rng.random(n) < prior, 0.9, 0.1) + rng.normal(0, 0.03, n), 0, 1)
        return image_columns.columns(pixels, np.column_stack([first, 1 - first]), ["cat", "dog"])

    reference = seen(3000)
    counted = bins.fit(reference, bins=32)
    baseline = Baseline.of_rows(Profile.of(counted, reference))

    def found(**change: float) -> set[str]:
        return set(moved(baseline, [("any", Profile.of(counted, seen(500, **change)))]))

    assert sum(bool(found()) for _ in range(40)) <= 3
    assert "roughness" in found(noise=0.01)
    assert "brightness" in found(light=1.1)
    assert found(prior=0.65) == {"predicted"}
    # Pixels, softmax outputs and predicted classes have a third of alpha each, however many columns they are seen by.
    first = judge(baseline, [("any", Profile.of(counted, seen(500, prior=0.65)))])[0]
    assert first.column == "predicted" and first.adjusted == pytest.approx(3 * first.p)
