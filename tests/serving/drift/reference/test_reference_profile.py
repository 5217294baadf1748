"""Reference profiles: days if there are enough, serialization, and errors for versions without one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.drift_case import FIRST, WATCHED, fit_reference_profile, generate_day, save_profiles

from serving.drift.profiles.profile import Profile
from serving.drift.reference import reference_profile
from serving.drift.reference.day_variation import ANY_KIND
from serving.drift.reference.explained_columns import ExplainedColumn
from serving.drift.reference.reference_profile import ReferenceProfile


def test_enough_days_are_grouped_by_kind(drift_profile: ReferenceProfile) -> None:
    assert drift_profile.days == 21 and set(drift_profile.baseline.groups) == {"workday", "saturday", "sunday"}
    assert [column.name for column in drift_profile.layout] == [
        "amount",
        "amount_unexplained",
        "channel",
        "predicted",
        "score",
    ]
    assert {drift_profile.kind(FIRST + n) for n in range(5)} == {"workday"}
    assert (drift_profile.kind(FIRST + 5), drift_profile.kind(FIRST + 6)) == ("saturday", "sunday")


def test_few_days_give_overdispersed_rows_and_none_give_independent_rows() -> None:
    few = fit_reference_profile(days=6)
    assert list(few.baseline.groups) == [ANY_KIND] and few.kind(FIRST + 6) == ANY_KIND and few.days == 6
    frame, _ = WATCHED.frame(generate_day(0), generate_day(0)["score"])
    alone = reference_profile.fit(WATCHED, {}, frame, None, few.estimator, few.usual)
    wide = reference_profile.fit(WATCHED, {}, frame, np.full(len(frame), FIRST), few.estimator, few.usual)
    for key, noise in alone.baseline.noise.items():
        assert wide.baseline.noise[key].trace == pytest.approx(reference_profile.FEW_DAYS_OVERDISPERSION * noise.trace)


def test_loaded_profile_counts_and_estimates_the_same(drift_profile: ReferenceProfile, tmp_path: Path) -> None:
    again = reference_profile.load_version(save_profiles(tmp_path, drift_profile, 4), 4)
    rows = generate_day(0)
    frame, scores = WATCHED.frame(rows, rows["score"])
    assert again.profile(frame).to_bytes() == drift_profile.profile(frame).to_bytes()
    assert again.estimator.estimate(scores[:, 0]) == drift_profile.estimator.estimate(scores[:, 0])
    assert again.baseline.to_bytes() == drift_profile.baseline.to_bytes() and again.version == 4
    assert (again.watched, again.expected, again.usual) == (
        drift_profile.watched,
        drift_profile.expected,
        drift_profile.usual,
    )


def test_random_effects_are_loaded(drift_profile: ReferenceProfile, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    shop = rng.integers(0, 200, 2000)
    rows = pl.DataFrame(
        {"amount": np.exp(shop % 7 + rng.normal(0, 1, 2000)), "shop": [f"shop {number}" for number in shop]}
    )
    expected = (ExplainedColumn.fit(rows, "amount", ["shop"]),)
    assert len(expected[0].effects["shop"].known) > 150
    again = reference_profile.load_version(save_profiles(tmp_path, replace(drift_profile, expected=expected), 5), 5)
    assert again.expected == expected and (again.expected[0].left(rows) == expected[0].left(rows)).all()


def test_pooled_reference_is_the_sum_of_its_days(drift_profile: ReferenceProfile) -> None:
    whole = pl.concat([WATCHED.frame(generate_day(n), generate_day(n)["score"])[0] for n in range(-21, 0)])
    assert (
        Profile.of(drift_profile.layout, drift_profile.columns(whole)).to_bytes()
        == drift_profile.baseline.pooled.to_bytes()
    )


def test_version_without_a_profile_raises(drift_profile: ReferenceProfile, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="push a new version"):
        reference_profile.load_version(tmp_path, 9)
    folder = save_profiles(tmp_path, drift_profile, 2) / "2" / "assets.extra" / "normal"
    (folder / reference_profile.FACTS_FILE).write_text(json.dumps({"days": 1}))
    with pytest.raises(ValueError, match="push a new version"):
        reference_profile.load_version(tmp_path, 2)


def test_empty_split_raises(drift_profile: ReferenceProfile) -> None:
    frame, _ = WATCHED.frame(generate_day(0), generate_day(0)["score"])
    with pytest.raises(ValueError, match="at least one row"):
        reference_profile.fit(WATCHED, {}, frame.head(0), None, drift_profile.estimator, drift_profile.usual)
