"""Faults of the data: each named as what it is in its first window, and honest change not called a fault."""

import numpy as np
import polars as pl
import pytest

from serving.drift.alarms import data_faults
from serving.drift.profiles import bins
from serving.drift.profiles.profile import Profile

NAMES = ["grocery", "fuel", "café", "travel"]
N = 9000


def rows(seed: int, factor: float = 1.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    amount = np.round(rng.lognormal(3.3, 1.1, N) * factor, 2)
    pieces = rng.poisson(4, N).astype(float)
    return pl.DataFrame(
        {
            "amount": amount,
            "change": rng.normal(0, 5, N),
            "pieces": pieces,
            "kind": np.array(NAMES)[rng.integers(0, 4, N)],
        }
    )


REFERENCE = pl.concat([rows(seed) for seed in range(5)])
LAYOUT = bins.fit(REFERENCE)
USUAL = Profile.of(LAYOUT, REFERENCE)


def faults(table: pl.DataFrame) -> list[tuple[str, str]]:
    return [(one.column, one.kind) for one in data_faults.check(USUAL, Profile.of(LAYOUT, table))]


def part(table: pl.DataFrame, share: float, column: str, value: pl.Expr) -> pl.DataFrame:
    """That share of a column's rows replaced."""
    chosen = pl.Series(np.random.default_rng(99).random(len(table)) < share)
    return table.with_columns(pl.when(chosen).then(value).otherwise(pl.col(column)).alias(column))


@pytest.mark.parametrize("seed", range(20, 40))
def test_clean_windows_have_no_fault(seed: int) -> None:
    assert faults(rows(seed)) == []


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.05, 1.5, 2.0])
def test_prices_that_change_for_all_are_no_wrong_unit(factor: float) -> None:
    assert ("amount", "units") not in faults(rows(7, factor))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 1.0])
def test_cents_are_found_with_their_share(share: float) -> None:
    broken = part(rows(8), share, "amount", (pl.col("amount") * 100).round())
    found = data_faults.check(USUAL, Profile.of(LAYOUT, broken))
    assert [(one.column, one.kind) for one in found] == [("amount", "units")]
    assert found[0].share == pytest.approx(share, rel=0.35) and "multiplied by 100" in found[0].says


def test_hundredths_and_whole_columns_are_found_too() -> None:
    assert ("amount", "units") in faults(part(rows(9), 0.1, "amount", pl.col("amount") / 100))
    assert ("pieces", "units") in faults(part(rows(9), 0.1, "pieces", pl.col("pieces") * 100))


@pytest.mark.parametrize(
    ("name", "factor", "found"),
    [
        ("sent", 3.0, ["range"]),
        ("confidence", 3.0, []),  # unusual, and possible
        ("confidence", 255.0, ["range"]),
        ("brightness", 3.0, []),
        ("brightness", 255.0, ["range"]),  # pixels that nobody divided
        ("entropy", 255.0, []),
        ("entropy", np.inf, ["infinite", "range"]),  # no value is finite
    ],
)
def test_what_nobody_sends_is_a_fault_only_where_it_is_impossible(name: str, factor: float, found: list[str]) -> None:
    usual = pl.DataFrame({name: np.random.default_rng(1).uniform(0.2, 0.3, N)})
    counted = bins.fit(usual)
    now = Profile.of(counted, usual * factor)
    assert [one.kind for one in data_faults.check(Profile.of(counted, usual), now)] == found


def test_large_values_with_decimals_are_out_of_range_and_no_cents() -> None:
    broken = part(rows(10), 0.02, "change", pl.col("change") + 1e4)
    assert faults(broken) == [("change", "range")]


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("kind", pl.lit(None), "nulls"),
        ("amount", pl.lit(None), "nulls"),
        ("amount", pl.lit(float("nan")), "nulls"),
        ("amount", pl.lit(float("inf")), "infinite"),
        ("kind", pl.lit("crypto"), "unseen"),
        ("kind", pl.col("kind").str.to_uppercase(), "encoding"),
        ("kind", pl.col("kind") + "Â\u00a0", "encoding"),
    ],
)
def test_each_fault_is_named_from_two_per_cent_on(column: str, value: pl.Expr, kind: str) -> None:
    assert (column, kind) in faults(part(rows(11), 0.02, column, value))
    assert faults(part(rows(11), 0.001, column, value)) == []


def test_garbled_and_new_names_in_one_window_are_both_said() -> None:
    broken = part(rows(12), 0.04, "kind", pl.lit("FUEL"))
    broken = broken.with_columns(kind=pl.when(pl.int_range(pl.len()) < 300).then(pl.lit("crypto")).otherwise("kind"))
    found = data_faults.check(USUAL, Profile.of(LAYOUT, broken))
    assert {one.kind for one in found} == {"encoding", "unseen"}
    assert "'FUEL'" in found[0].says and "'crypto'" in found[1].says


def test_a_column_without_values_is_empty_and_no_rows_are_no_fault() -> None:
    assert faults(rows(13).with_columns(amount=pl.lit(None, pl.Float64))) == [("amount", "empty")]
    assert data_faults.check(USUAL, Profile.empty(LAYOUT)) == []


def test_new_names_among_many_known_shares_are_drift_only() -> None:
    skewed = rows(14).with_columns(kind=pl.lit("fuel"))
    assert faults(skewed) == []


def test_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="another layout"):
        data_faults.check(USUAL, Profile.empty(LAYOUT[:2]))
