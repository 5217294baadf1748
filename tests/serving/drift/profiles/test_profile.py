"""Profiles: parts add up exactly to the whole, bytes are canonical, and every row is counted once."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.drift.profiles import bins
from serving.drift.profiles.bins import MAX_CATEGORIES, MAX_NAME_BYTES
from serving.drift.profiles.profile import CHUNK, MAX_UNSEEN, MIN_TABLE_ROWS, Profile

REFERENCE = {"x": np.random.default_rng(0).lognormal(3, 1, 4000).round(2), "c": ["a", "b", "b", "é"] * 1000}
LAYOUT = bins.fit_layout(REFERENCE)
ROWS = st.lists(
    st.tuples(
        st.floats(allow_nan=True, allow_infinity=True) | st.none() | st.sampled_from([0.0, -0.0, 1e300, 20.0]),
        st.sampled_from(["a", "b", "é", "new", "A"]) | st.text(max_size=90) | st.none(),
    ),
    max_size=40,
)


def frame(rows: list[tuple]) -> pl.DataFrame:
    texts = [None if c is None else c.encode("utf-8", "ignore").decode() for _, c in rows]
    return pl.DataFrame(
        {"x": pl.Series([x for x, _ in rows], dtype=pl.Float64), "c": pl.Series(texts, dtype=pl.String)}
    )


def profile(rows: list[tuple]) -> Profile:
    return Profile.of(LAYOUT, frame(rows))


@given(ROWS, ROWS, ROWS)
@settings(max_examples=150, deadline=None)
def test_merging_parts_in_any_order_gives_the_bytes_of_the_whole(first, second, third) -> None:
    whole = profile(first + second + third).to_bytes()
    assert profile(first).merge(profile(second)).merge(profile(third)).to_bytes() == whole
    assert profile(third).merge(profile(first).merge(profile(second))).to_bytes() == whole
    assert Profile.empty(LAYOUT).merge(profile(first + second + third)).to_bytes() == whole


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_bytes_round_trip_and_every_row_is_counted_once(rows) -> None:
    counted = profile(rows)
    assert Profile.from_bytes(counted.to_bytes()).to_bytes() == counted.to_bytes()
    for column in ("x", "c"):
        assert counted[column].rows + counted[column].nulls == len(rows) == counted.rows


@pytest.mark.parametrize("count", [MIN_TABLE_ROWS - 1, MIN_TABLE_ROWS, CHUNK + 5])
def test_bins_equal_a_binary_search_among_the_edges_for_every_batch_size(count: int) -> None:
    rng = np.random.default_rng(count)
    values = np.concatenate([rng.lognormal(3, 1.5, count - 4), [np.inf, -np.inf, -1e9, 1e9]])
    column = next(column for column in LAYOUT if column.name == "x")
    expected = np.bincount(column.bins(values), minlength=column.size)
    counted = Profile.of(LAYOUT, {"x": values, "c": ["a"] * count})["x"]
    np.testing.assert_array_equal(counted.bins, expected)
    assert counted.infinite == 2


def test_ranks_ascend_with_values_and_bins_have_equal_shares() -> None:
    column = next(column for column in LAYOUT if column.name == "x")
    values = np.sort(np.random.default_rng(1).normal(0, 500, 5000))
    assert (np.diff(column.ranks(values)) >= 0).all()
    inner = Profile.of(LAYOUT, REFERENCE)["x"].bins[1:-2]
    # 64 quantile bins of 4,000 rows; the last two hold the uppermost thousandth and values above.
    assert abs(inner[:-1] / 4000 - 1 / 64).max() < 0.01


def test_values_outside_the_reference_fall_into_the_outer_bins() -> None:
    reference = Profile.of(LAYOUT, REFERENCE)["x"]
    assert reference.bins[0] == reference.bins[-1] == 0
    out = Profile.of(LAYOUT, {"x": [-5.0, 1e7, 1e8], "c": ["a"] * 3})["x"]
    assert (out.bins[0], out.bins[-1]) == (1, 2)


def test_mean_whole_numbers_and_extremes_equal_those_of_the_values() -> None:
    values = np.array([1.0, 2.5, 20.0, np.nan, 7.25])
    counted = Profile.of(LAYOUT, {"x": values, "c": [None] * 5})
    assert counted.mean("x") == pytest.approx(np.nanmean(values), rel=1e-6)
    assert (counted["x"].whole, counted["x"].least, counted["x"].most, counted["x"].nulls) == (2, 1.0, 20.0, 1)
    assert counted["c"].nulls == 5
    assert np.isnan(Profile.empty(LAYOUT).mean("x"))


def test_stream_equals_the_whole_and_booleans_and_bytes_are_accepted() -> None:
    table = pl.DataFrame({"x": REFERENCE["x"], "c": REFERENCE["c"]})
    parts = Profile.stream(LAYOUT, (table[at : at + 700] for at in range(0, 4000, 700)))
    assert parts.to_bytes() == Profile.of(LAYOUT, table).to_bytes()
    flags = bins.fit_layout({"f": [True, False, True], "b": [b"p", b"q", None]})
    counted = Profile.of(flags, {"f": [True, True], "b": [b"q", b"z"]})
    assert counted["b"].unseen == {"z": 1} and counted["f"].rows == 2


def test_serialized_column_stays_below_its_size_limit() -> None:
    rng = np.random.default_rng(2)
    names = ["".join(map(chr, rng.choice([1, 34, 92, 233, 0x4E2D, 65], 80))) for _ in range(3000)]
    counted = bins.fit_layout({"c": names, "x": rng.normal(size=3000)})
    column = next(column for column in counted if column.name == "c")
    whole = Profile.of(
        counted, {"c": [f"{name[:40]}{i}" for i, name in enumerate(names)], "x": rng.normal(size=3000) * 1e30}
    )
    assert 20 < len(column.values) <= MAX_CATEGORIES and all(
        len(value.encode()) <= MAX_NAME_BYTES for value in column.values
    )
    assert len(whole["c"].unseen) == MAX_UNSEEN
    for fields in json.loads(whole.to_bytes())["columns"]:
        assert len(json.dumps(fields, ensure_ascii=False).encode()) <= 64 << 10


def test_invalid_rows_and_bytes_raise() -> None:
    with pytest.raises(ValueError, match="no column 'c'"):
        Profile.of(LAYOUT, {"x": [1.0]})
    with pytest.raises(ValueError, match="differ in length"):
        Profile.of(LAYOUT, {"x": [1.0], "c": ["a", "b"]})
    with pytest.raises(ValueError, match="has type String"):
        Profile.of(LAYOUT, {"x": ["1"], "c": ["a"]})
    with pytest.raises(ValueError, match="no finite value"):
        bins.fit_layout({"x": [np.nan, np.nan]})
    with pytest.raises(ValueError, match="different layouts"):
        Profile.empty(LAYOUT).merge(Profile.empty(LAYOUT[:1]))
    with pytest.raises(ValueError, match="not a profile"):
        Profile.from_bytes(b"{}")
