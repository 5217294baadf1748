"""What a model calls normal: days where there are enough, written and read back, refused where it is not there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.drift_case import FIRST, WATCHED, day, pushed, usual

from serving.drift.profiles.profile import Profile
from serving.drift.reference import reference_profile
from serving.drift.reference.day_variation import ANY
from serving.drift.reference.explained_columns import Expected
from serving.drift.reference.reference_profile import Normal


@pytest.fixture(scope="module")
def known() -> Normal:
    return usual()


def test_days_are_observations_of_their_kind(known: Normal) -> None:
    assert known.days == 21 and set(known.baseline.groups) == {"workday", "saturday", "sunday"}
    assert [column.name for column in known.layout] == ["amount", "amount_unexplained", "channel", "predicted", "score"]
    assert {known.kind(FIRST + n) for n in range(5)} == {"workday"}
    assert (known.kind(FIRST + 5), known.kind(FIRST + 6)) == ("saturday", "sunday")


def test_few_days_are_rows_with_more_noise_and_none_are_independent_rows() -> None:
    few = usual(days=6)
    assert list(few.baseline.groups) == [ANY] and few.kind(FIRST + 6) == ANY and few.days == 6
    frame, _ = WATCHED.frame(day(0), day(0)["score"])
    alone = reference_profile.fit(WATCHED, {}, frame, None, few.estimator, few.usual)
    wide = reference_profile.fit(WATCHED, {}, frame, np.full(len(frame), FIRST), few.estimator, few.usual)
    for key, noise in alone.baseline.noise.items():
        assert wide.baseline.noise[key].trace == pytest.approx(reference_profile.FEW_DAYS * noise.trace)


def test_written_and_read_back_it_counts_and_estimates_the_same(known: Normal, tmp_path: Path) -> None:
    again = reference_profile.of_version(pushed(tmp_path, known, 4), 4)
    rows = day(0)
    frame, scores = WATCHED.frame(rows, rows["score"])
    assert again.profile(frame).to_bytes() == known.profile(frame).to_bytes()
    assert again.estimator.estimate(scores[:, 0]) == known.estimator.estimate(scores[:, 0])
    assert again.baseline.to_bytes() == known.baseline.to_bytes() and again.version == 4
    assert (again.watched, again.expected, again.usual) == (known.watched, known.expected, known.usual)


def test_effects_of_many_values_are_read_back_too(known: Normal, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    shop = rng.integers(0, 200, 2000)
    rows = pl.DataFrame({"amount": np.exp(shop % 7 + rng.normal(0, 1, 2000)), "shop": [f"shop {one}" for one in shop]})
    expected = (Expected.fit(rows, "amount", ["shop"]),)
    assert len(expected[0].effects["shop"].known) > 150
    again = reference_profile.of_version(pushed(tmp_path, replace(known, expected=expected), 5), 5)
    assert again.expected == expected and (again.expected[0].left(rows) == expected[0].left(rows)).all()


def test_the_reference_is_the_sum_of_its_days(known: Normal) -> None:
    whole = pl.concat([WATCHED.frame(day(n), day(n)["score"])[0] for n in range(-21, 0)])
    assert Profile.of(known.layout, known.columns(whole)).to_bytes() == known.baseline.pooled.to_bytes()


def test_a_version_that_does_not_say_so_is_named(known: Normal, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="push a new version"):
        reference_profile.of_version(tmp_path, 9)
    folder = pushed(tmp_path, known, 2) / "2" / "assets.extra" / "normal"
    (folder / reference_profile.FACTS).write_text(json.dumps({"days": 1}))
    with pytest.raises(ValueError, match="push a new version"):
        reference_profile.of_version(tmp_path, 2)


def test_no_row_is_refused(known: Normal) -> None:
    frame, _ = WATCHED.frame(day(0), day(0)["score"])
    with pytest.raises(ValueError, match="no row"):
        reference_profile.fit(WATCHED, {}, frame.head(0), None, known.estimator, known.usual)
