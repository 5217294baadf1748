"""Data faults: each kind is detected in its first window, and real changes are not reported as faults."""

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
LAYOUT = bins.fit_layout(REFERENCE)
USUAL = Profile.of(LAYOUT, REFERENCE)


def faults(table: pl.DataFrame) -> list[tuple[str, str]]:
    return [(fault.column, fault.kind) for fault in data_faults.find_faults(USUAL, Profile.of(LAYOUT, table))]


def replace_share(table: pl.DataFrame, share: float, column: str, value: pl.Expr) -> pl.DataFrame:
    """Replace a share of a column's rows."""
    chosen = pl.Series(np.random.default_rng(99).random(len(table)) < share)
    return table.with_columns(pl.when(chosen).then(value).otherwise(pl.col(column)).alias(column))


@pytest.mark.parametrize("seed", range(20, 40))
def test_clean_windows_have_no_fault(seed: int) -> None:
    assert faults(rows(seed)) == []


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.05, 1.5, 2.0])
def test_price_change_of_all_rows_is_not_a_wrong_unit(factor: float) -> None:
    assert ("amount", "units") not in faults(rows(7, factor))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 1.0])
def test_amounts_in_cents_are_detected_with_their_share(share: float) -> None:
    broken = replace_share(rows(8), share, "amount", (pl.col("amount") * 100).round())
    detected = data_faults.find_faults(USUAL, Profile.of(LAYOUT, broken))
    assert [(fault.column, fault.kind) for fault in detected] == [("amount", "units")]
    assert detected[0].share == pytest.approx(share, rel=0.35) and "multiplied by 100" in detected[0].says


def test_wrong_units_are_detected_in_both_directions_and_in_integer_columns() -> None:
    assert ("amount", "units") in faults(replace_share(rows(9), 0.1, "amount", pl.col("amount") / 100))
    assert ("pieces", "units") in faults(replace_share(rows(9), 0.1, "pieces", pl.col("pieces") * 100))


@pytest.mark.parametrize(
    ("name", "factor", "kinds"),
    [
        ("sent", 3.0, ["range"]),
        ("confidence", 3.0, []),  # unusual, and possible
        ("confidence", 255.0, ["range"]),
        ("brightness", 3.0, []),
        ("brightness", 255.0, ["range"]),  # pixels in 0..255
        ("entropy", 255.0, []),
        ("entropy", np.inf, ["infinite", "range"]),  # no value is finite
    ],
)
def test_computed_column_has_a_fault_only_if_values_are_impossible(name: str, factor: float, kinds: list[str]) -> None:
    reference = pl.DataFrame({name: np.random.default_rng(1).uniform(0.2, 0.3, N)})
    counted = bins.fit_layout(reference)
    now = Profile.of(counted, reference * factor)
    assert [fault.kind for fault in data_faults.find_faults(Profile.of(counted, reference), now)] == kinds


def test_large_values_with_decimals_are_out_of_range_and_not_cents() -> None:
    broken = replace_share(rows(10), 0.02, "change", pl.col("change") + 1e4)
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
def test_each_kind_of_fault_is_detected_at_two_percent_and_not_at_a_tenth_of_a_percent(
    column: str, value: pl.Expr, kind: str
) -> None:
    assert (column, kind) in faults(replace_share(rows(11), 0.02, column, value))
    assert faults(replace_share(rows(11), 0.001, column, value)) == []


def test_garbled_and_unseen_names_in_one_window_are_both_reported() -> None:
    broken = replace_share(rows(12), 0.04, "kind", pl.lit("FUEL"))
    broken = broken.with_columns(kind=pl.when(pl.int_range(pl.len()) < 300).then(pl.lit("crypto")).otherwise("kind"))
    detected = data_faults.find_faults(USUAL, Profile.of(LAYOUT, broken))
    assert {fault.kind for fault in detected} == {"encoding", "unseen"}
    assert "'FUEL'" in detected[0].says and "'crypto'" in detected[1].says


def test_column_without_values_is_empty_and_a_window_without_rows_has_no_fault() -> None:
    assert faults(rows(13).with_columns(amount=pl.lit(None, pl.Float64))) == [("amount", "empty")]
    assert data_faults.find_faults(USUAL, Profile.empty(LAYOUT)) == []


def test_changed_shares_of_known_names_are_no_fault() -> None:
    skewed = rows(14).with_columns(kind=pl.lit("fuel"))
    assert faults(skewed) == []


def test_another_layout_raises() -> None:
    with pytest.raises(ValueError, match="another layout"):
        data_faults.find_faults(USUAL, Profile.empty(LAYOUT[:2]))
