"""Generated purchases: reproducible bytes, expected shares, and drift that changes only its own columns."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from models.fraud.generator.drift import CATEGORY_NAMES, KINDS, RAMP_DAYS, Drift
from models.fraud.generator.fraud_scenarios import SCENARIOS
from models.fraud.generator.span_generator import FRAUD_SHARE, NEVER_SHARE, Truth, generate
from models.fraud.generator.world import CATEGORIES, WEEK

ROWS, DAYS, AT = 40_000, 28, 14
START = date(2026, 1, 5)
CHANGES = {
    "amount": {"amount"},
    "amount-ramp": {"amount"},
    "units": {"amount"},
    "online": {"channel", "device"},
    "nulls": {"category"},
    "unseen": {"category"},
    "encoding": {"category"},
    "concept": {"merchant_id", "amount", "category", "channel", "device", "distance_km"},
    "prior": {"is_fraud", "label_time"},
}
SIZES = {"amount": 1.1, "amount-ramp": 1.5, "units": 0.2, "online": 0.3, "nulls": 0.2, "unseen": 0.1, "encoding": 0.1}
SIZES |= {"concept": 0.8, "prior": 2.0}


def read(folder: Path) -> pl.DataFrame:
    paths = sorted(folder.glob("span-*/transactions.parquet"))
    return pl.concat([pl.read_parquet(path).with_columns(span=pl.lit(i)) for i, path in enumerate(paths)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Truth]:
    folder = tmp_path_factory.mktemp("clean") / "data"
    truth = generate(folder, rows=ROWS, days=DAYS, seed=3)
    assert Truth.read(folder) == truth
    return read(folder), truth


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Truth]:
    folder = tmp_path_factory.mktemp("large") / "data"
    truth = generate(folder, rows=200_000, days=84, seed=5)
    return read(folder), truth


def twin(folder: Path, *drift: str) -> tuple[pl.DataFrame, Truth]:
    truth = generate(folder / "twin", rows=ROWS, days=DAYS, seed=3, drift=[Drift.parse(text) for text in drift])
    return read(folder / "twin"), truth


def test_same_seed_writes_same_bytes(tmp_path: Path) -> None:
    drift = [Drift.parse("amount:1.2@4"), Drift.parse("prior:2@3"), Drift.parse("nulls:0.1@2")]
    for name, seed, order in (("a", 1, drift), ("b", 1, drift[::-1]), ("c", 2, drift)):
        generate(tmp_path / name, rows=3000, days=7, seed=seed, drift=order)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "c").values())


def test_row_count_is_exact_and_rows_are_in_their_day(clean: tuple[pl.DataFrame, Truth]) -> None:
    data, truth = clean
    assert len(data) == truth.rows == ROWS and data["transaction_id"].n_unique() == ROWS
    day = (data["event_time"].dt.date() - START).dt.total_days()
    assert (day == data["span"]).all() and data["span"].n_unique() == DAYS
    assert data["event_time"].is_sorted()
    assert (data["amount"] >= 0.5).all() and ((data["amount"] * 100).round() / 100 - data["amount"]).abs().max() < 1e-9
    assert set(data["category"]) <= set(CATEGORIES) and data["distance_km"].is_between(0, 25_000).all()


def test_start_moves_the_calendar(tmp_path: Path) -> None:
    generate(tmp_path / "data", rows=100, days=3, seed=1, start=date(2025, 12, 31))
    assert read(tmp_path / "data")["event_time"].dt.date().min() >= date(2025, 12, 31)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["span-000", "span-001", "span-002", "truth.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_drift_changes_only_its_columns(kind: str, clean: tuple[pl.DataFrame, Truth], tmp_path: Path) -> None:
    data, _ = clean
    drifted, truth = twin(tmp_path, f"{kind}:{SIZES[kind]}@{AT}")
    assert drifted.filter(pl.col("span") < AT).equals(data.filter(pl.col("span") < AT))
    shared = drifted.join(data.select("transaction_id"), on="transaction_id", how="semi")
    assert len(shared) == len(data)
    for name in set(data.columns) - CHANGES[kind]:
        assert shared[name].equals(data[name]), name
    differs = np.zeros(len(data), bool)
    for name in CHANGES[kind]:
        differs |= shared[name].ne_missing(data[name]).to_numpy()
    assert differs.any()
    (entry,) = truth.drift
    assert (entry["kind"], entry["size"], entry["day"], entry["date"]) == (kind, SIZES[kind], AT, "2026-01-19")
    # A fraud's new amount may equal the old one, and a fraud by chance may have no label: neither is visible.
    added = len(drifted) - len(data)
    assert entry["rows"] >= differs.sum() + added >= 0.9 * entry["rows"] > 0


def test_drift_has_the_given_size(clean: tuple[pl.DataFrame, Truth], tmp_path: Path) -> None:
    data = clean[0].filter(pl.col("span") >= AT)
    ratio, after = {}, {}
    for kind in ("amount", "amount-ramp", "units", "online", "nulls", "unseen", "encoding"):
        after[kind] = twin(tmp_path / kind, f"{kind}:{SIZES[kind]}@{AT}")[0].filter(pl.col("span") >= AT)
        ratio[kind] = after[kind]["amount"] / data["amount"]
    assert ratio["amount"].median() == pytest.approx(1.1, rel=1e-3)
    assert (ratio["units"] > 50).mean() == pytest.approx(0.2, abs=0.02)
    half = ratio["amount-ramp"].filter(data["span"] == AT + RAMP_DAYS // 2).median()
    assert half == pytest.approx(1.5 - 0.5 * 6.5 / RAMP_DAYS, abs=0.02)
    till = data["channel"] != "online"
    assert (after["online"].filter(till)["channel"] == "online").mean() == pytest.approx(0.3, abs=0.02)
    assert after["nulls"]["category"].null_count() / len(data) == pytest.approx(0.2, abs=0.02)
    assert (after["unseen"]["category"] == "crypto").mean() == pytest.approx(0.1, abs=0.02)
    garbled = after["encoding"].filter(~pl.col("category").is_in(list(CATEGORIES)))["category"]
    assert len(garbled) / len(data) == pytest.approx(0.1, abs=0.02) and set(garbled) <= set(CATEGORY_NAMES)
    assert {"GROCERY", "groceryÂ\u00a0"} <= set(garbled)


@pytest.mark.parametrize("size", [0.25, 0.5, 3.0])
def test_prior_drift_scales_the_fraud_rate_and_keeps_honest_rows(
    size: float, clean: tuple[pl.DataFrame, Truth], tmp_path: Path
) -> None:
    data, drifted = clean[0], twin(tmp_path, f"prior:{size}@{AT}")[0]
    rate = [frame.filter(pl.col("span") >= AT)["is_fraud"].sum() for frame in (data, drifted)]
    assert rate[1] / rate[0] == pytest.approx(size, rel=0.2)
    honest = data.filter(pl.col("is_fraud") == 0).join(drifted, on="transaction_id", how="inner")
    assert len(honest) == (data["is_fraud"] == 0).sum()


def test_drifts_are_independent(tmp_path: Path) -> None:
    alone, _ = twin(tmp_path / "alone", f"nulls:0.2@{AT}")
    both, truth = twin(tmp_path / "both", f"nulls:0.2@{AT}", "prior:2@5", "amount:1.3@3")
    shared = both.join(alone.select("transaction_id"), on="transaction_id", how="semi")
    assert shared["category"].equals(alone["category"]) and len(truth.drift) == 3


def test_purchases_are_poisson_with_weekly_and_daily_rhythm(large: tuple[pl.DataFrame, Truth]) -> None:
    data, truth = large
    honest = data.filter(pl.col("is_fraud").fill_null(0) == 0)
    days = honest.group_by("span").len().sort("span")["len"].to_numpy().reshape(-1, 7)
    assert np.allclose(days.mean(axis=0) / days.mean(), WEEK / WEEK.mean(), rtol=0.03)
    # Sprees put several purchases on one day, so the variance slightly exceeds Poisson; twice the variance is too much.
    expected = np.broadcast_to(days.mean(axis=0), days.shape)
    chi = ((days - expected) ** 2 / expected).sum()
    assert stats.chi2.ppf(0.001, days.size - 7) < chi < 1.5 * stats.chi2.ppf(0.999, days.size - 7)
    # Counts of a customer in the two halves of the period: given their sum, Poisson counts are binomial.
    halves = honest.group_by("customer_id").agg(total=pl.len(), first=(pl.col("span") < 42).sum())
    z = (halves["first"] - halves["total"] / 2) / (halves["total"] ** 0.5 / 2)
    assert 0.9 < z.std() < 1.25 and abs(z.mean()) < 0.1
    hour = honest["event_time"].dt.hour()
    assert hour.is_between(9, 20).mean() > 3 * hour.is_between(0, 6).mean()


def test_scenarios_have_their_shares(large: tuple[pl.DataFrame, Truth]) -> None:
    data, truth = large
    assert truth.frauds == pytest.approx(len(data) * FRAUD_SHARE, abs=3) and 0.008 <= truth.fraud_share <= 0.015
    assert [s["id"] for s in truth.scenarios] == [s.name for s in SCENARIOS]
    for measured, scenario in zip(truth.scenarios, SCENARIOS, strict=True):
        assert measured["share"] == pytest.approx(scenario.share, abs=0.005)
        assert (measured["episodes"] > 5) == (scenario.behave is not None)
    assert sum(s["share"] for s in truth.scenarios) == pytest.approx(1)


def test_labels_arrive_late_or_never(large: tuple[pl.DataFrame, Truth]) -> None:
    data, truth = large
    assert (data["is_fraud"].is_null() == data["label_time"].is_null()).all()
    never = data["is_fraud"].null_count()
    assert stats.binomtest(never, len(data), NEVER_SHARE).pvalue > 0.001
    assert truth.labels["never_share"] == pytest.approx(never / len(data))
    delay = (data["label_time"] - data["event_time"]).dt.total_seconds() / 86_400
    assert (delay.filter(data["is_fraud"] == 0).drop_nulls() == 7).all()
    fraud = delay.filter(data["is_fraud"] == 1)
    assert fraud.min() >= 1 and fraud.max() <= 21 and (fraud > 7).mean() == pytest.approx(0.08, abs=0.02)


def test_smallest_data_is_generated(tmp_path: Path) -> None:
    steps = []
    truth = generate(tmp_path / "a", rows=3, days=3, seed=0, progress=lambda done, days: steps.append((done, days)))
    assert truth.rows == 3 and steps == [(1, 3), (2, 3), (3, 3)]
    every = [Drift(kind, 0.5, 0) for kind in KINDS]
    assert generate(tmp_path / "b", rows=300, days=1, seed=0, drift=every).rows <= 300


def test_failed_calls_leave_no_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="after the last day, 4"):
        generate(tmp_path / "a", rows=100, days=5, seed=1, drift=[Drift("amount", 1.1, 5)])
    with pytest.raises(ValueError, match="a row a day"):
        generate(tmp_path / "a", rows=3, days=5, seed=1)

    def stop(done: int, days: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "a", rows=100, days=5, seed=1, progress=stop)
    assert not list(tmp_path.iterdir())
    generate(tmp_path / "a", rows=100, days=5, seed=1)
    with pytest.raises(FileExistsError, match="not empty"):
        generate(tmp_path / "a", rows=100, days=5, seed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("amount", "KIND:SIZE@DAY.*amount-ramp"),
        ("amount:1.1", "KIND:SIZE@DAY"),
        ("amount:x@3", "KIND:SIZE@DAY"),
        ("amount:1.1@-3", "KIND:SIZE@DAY"),
        ("wind:1.1@3", "no drift 'wind'; there are prior, concept"),
        ("nulls:1.5@3", "share of categories missing, above 0 and at most 1"),
        ("amount:0@3", "factor on amounts, at once, above 0 and at most 100"),
    ],
)
def test_invalid_drift_names_the_allowed_values(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Drift.parse(text)


def test_drift_text_round_trip() -> None:
    assert Drift.parse("amount:1.05@30") == Drift("amount", 1.05, 30) == Drift.parse(str(Drift("amount", 1.05, 30)))
