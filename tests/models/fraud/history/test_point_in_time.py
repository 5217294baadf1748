"""Features of a purchase's past against a brute-force oracle: in batch, merged, and replayed online."""

import functools
import pickle
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_purchases import SCHEMA, SEQUENCES, START, compute_features, draw_purchases

from models.fraud.history.online_history import OnlineHistory
from models.fraud.history.point_in_time import (
    DAY,
    PAST,
    SECOND,
    WINDOWS,
    MerchantDays,
    customer_features,
    customer_names,
    merchant_features,
    merchant_names,
    to_microseconds,
)


def oracle(rows: list[dict], row: dict, delay: int) -> dict:
    """Apply the definitions of the features literally, over all rows."""
    time, day = to_microseconds(row["event_time"]), to_microseconds(row["event_time"]) // DAY
    key = itemgetter("event_time", "transaction_id")
    past = sorted((r for r in rows if r["customer_id"] == row["customer_id"] and key(r) < key(row)), key=key)
    columns: dict = {}
    for w in WINDOWS:
        inside = [r for r in past if to_microseconds(r["event_time"]) >= time - w * DAY]
        columns[f"customer_count_{w}d"] = len(inside)
        columns[f"customer_amount_{w}d"] = sum(r["amount"] for r in inside)
        at_merchant = [
            r
            for r in rows
            if r["merchant_id"] == row["merchant_id"]
            and day - delay - w <= to_microseconds(r["event_time"]) // DAY < day - delay
        ]
        labelled_frauds = [
            r for r in at_merchant if r["is_fraud"] and r["label_time"] and to_microseconds(r["label_time"]) < day * DAY
        ]
        columns[f"merchant_count_{w}d"] = len(at_merchant)
        columns[f"merchant_risk_{w}d"] = len(labelled_frauds) / (len(at_merchant) + 10)
    ages = [(time - to_microseconds(r["event_time"])) / SECOND for r in past]
    columns["seconds_since_last"] = min(ages[-1], 30 * 86_400) if ages else 30 * 86_400
    last, pad = past[-PAST:], PAST - len(past[-PAST:])
    columns["past_amount"] = [0.0] * pad + [r["amount"] for r in last]
    columns["past_age"] = [0.0] * pad + ages[-PAST:]
    columns["past_merchant"] = [""] * pad + [r["merchant_id"] for r in last]
    columns["past_length"] = len(last)
    return columns


def replay(table: pa.Table, delay: int = 7) -> dict[str, dict]:
    """Compute online features in order of time; labels are added when they arrive, before purchases of the same time."""
    calls = [(r["event_time"], 1, r["transaction_id"], r) for r in table.to_pylist()]
    calls += [(r["label_time"], 0, r["transaction_id"], r) for r in table.to_pylist() if r["label_time"]]
    online, answers = OnlineHistory(delay), {}
    for _, kind, name, row in sorted(calls, key=itemgetter(0, 1, 2)):
        if kind == 0:
            online.label(row["merchant_id"], row["event_time"], row["label_time"], row["is_fraud"])
        else:
            answers[name] = online.features(row)
            online.add(row)
    return answers


@pytest.mark.parametrize(("seed", "delay"), [(0, 7), (1, 7), (2, 0), (3, 3)])
def test_batch_equals_oracle(seed: int, delay: int) -> None:
    table = draw_purchases(seed)
    answers, rows = compute_features(table, delay), table.to_pylist()
    for row in rows:
        for name, expected in oracle(rows, row, delay).items():
            actual = answers[row["transaction_id"]][name]
            assert actual == (expected if name == "past_merchant" else pytest.approx(expected, rel=1e-6)), name


@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(0, 10), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_replay_is_identical(seed: int, rows: int, delay: int, customers: int) -> None:
    table = draw_purchases(seed, rows, customers=customers)
    assert replay(table, delay) == compute_features(table, delay)


def test_replay_is_identical_after_forgetting() -> None:
    table = draw_purchases(5, rows=3000, days=200, customers=3, merchants=2)
    assert replay(table) == compute_features(table)


def test_online_state_is_bounded_and_a_late_purchase_has_its_past() -> None:
    table, online = draw_purchases(6, rows=4000, days=400, customers=1, merchants=1), OnlineHistory()
    rows = sorted(table.to_pylist(), key=itemgetter("event_time", "transaction_id"))
    for row in rows:
        online.add(row)
        online.add(row)
        online.label(row["merchant_id"], row["event_time"], row["event_time"], row["is_fraud"] or 0)
    assert len(online._customers["c0"].keys) < 700 and len(online._merchants["m0"].counts) < 150
    late = next(r for r in reversed(rows) if r["event_time"] < rows[-1]["event_time"] - timedelta(hours=20))
    answer, expected = online.features(late), compute_features(table)[late["transaction_id"]]
    assert {name: answer[name] for name in customer_names()} == {name: expected[name] for name in customer_names()}


def test_merge_is_associative_and_exact() -> None:
    table = draw_purchases(7, rows=300)
    a, b, c = (MerchantDays.of(table.slice(start, 100)) for start in (0, 100, 200))
    left, right = MerchantDays.merge(MerchantDays.merge(a, b), c), MerchantDays.merge(c, MerchantDays.merge(b, a))
    assert left == right == MerchantDays.of(table) == functools.reduce(MerchantDays.merge, (b, a, c))
    assert pickle.loads(pickle.dumps(left)) == left != MerchantDays.merge(a, b)
    assert MerchantDays.merge(MerchantDays.of(table.slice(0, 0)), left) == left
    assert MerchantDays.merge() == MerchantDays.of(table.slice(0, 0))


def test_features_ignore_the_future() -> None:
    table = draw_purchases(8)
    cut = datetime(1970, 1, 1) + timedelta(days=20_030)
    rows, before = table.to_pylist(), compute_features(table)
    changed = []
    for row in rows:
        future = {"amount": 1e6, "merchant_id": "m0", "is_fraud": 1, "label_time": row["event_time"]}
        unknown = {"is_fraud": 1, "label_time": max(row["label_time"] or cut, cut)}
        label_arrived = row["label_time"] is not None and row["label_time"] < cut
        changed.append(row | (future if row["event_time"] >= cut else {} if label_arrived else unknown))
    after = compute_features(pa.Table.from_pylist(changed, SCHEMA))
    past = [r["transaction_id"] for r in rows if r["event_time"] < cut]
    assert len(past) > 50 and all(after[name] == before[name] for name in past)
    # The cut is the start of a day, so all merchant counts of that day come from before it.
    assert after != before


def test_risk_counts_labels_from_before_the_day() -> None:
    day = START // DAY
    rows = [
        ("a", "c", 0, 1, START + 10 * DAY),
        ("b", "d", 0, 1, START + 10 * DAY - 1),
        ("q", "e", 10 * DAY, None, None),
    ]
    table = pa.table(
        {
            "transaction_id": [r[0] for r in rows],
            "event_time": pa.array([START + r[2] for r in rows]).cast(pa.timestamp("us")),
            "customer_id": [r[1] for r in rows],
            "merchant_id": ["m"] * 3,
            "amount": [1.0] * 3,
            "is_fraud": pa.array([r[3] for r in rows], pa.int8()),
            "label_time": pa.array([r[4] for r in rows], pa.timestamp("us")),
        }
    )
    merchants = MerchantDays.of(table)
    at = merchants.risk(pa.array(["m", "m", "nobody"]), np.array([day + 10, day + 11, day + 11]), delay=7)
    assert at["merchant_count_7d"].tolist() == [2, 2, 0]
    assert at["merchant_risk_7d"].tolist() == pytest.approx([1 / 12, 2 / 12, 0])
    assert at["merchant_count_1d"].tolist() == [0, 0, 0]


def test_equal_times_are_ordered_by_id() -> None:
    table = draw_purchases(9, rows=20, customers=1).set_column(
        1, "event_time", pa.array([START] * 20).cast(pa.timestamp("us"))
    )
    done = customer_features(table)
    assert done["transaction_id"].to_pylist() == sorted(table["transaction_id"].to_pylist())
    assert done["customer_count_1d"].to_pylist() == done["customer_count_30d"].to_pylist() == list(range(20))
    assert done["past_length"].to_pylist() == [min(i, PAST) for i in range(20)]


def test_one_purchase_has_no_past() -> None:
    answer = compute_features(draw_purchases(10, rows=1))["t0"]
    assert answer["seconds_since_last"] == 30 * 86_400 and answer["past_merchant"] == [""] * PAST
    assert sum(answer[f"{who}_count_{w}d"] for who in ("customer", "merchant") for w in WINDOWS) == 0


def test_repeated_transaction_is_refused() -> None:
    table = draw_purchases(11, rows=10)
    with pytest.raises(ValueError, match="occurs twice"):
        customer_features(pa.concat_tables([table, table.slice(0, 1)]))


def test_empty_table_keeps_its_columns() -> None:
    table = draw_purchases(12, rows=5).slice(0, 0)
    done = merchant_features(customer_features(table), MerchantDays.of(table))
    assert len(done) == 0 and done.column_names == [*SCHEMA.names, *customer_names(), *SEQUENCES, *merchant_names()]
    assert done.schema.field("past_merchant").type == pa.list_(pa.string())


def test_sums_of_large_and_small_amounts_are_exact() -> None:
    table = draw_purchases(13, rows=400, customers=2)
    big = np.where(np.arange(400) % 2, 1e11, 0.01)
    table = table.set_column(4, "amount", pa.array(big)).set_column(
        2, "customer_id", pa.array(["big" if i % 2 else "small" for i in range(400)])
    )
    done = customer_features(table).to_pylist()
    assert all(r["customer_amount_30d"] == np.float32(r["amount"] * r["customer_count_30d"]) for r in done)


def test_time_types_give_equal_features() -> None:
    zoneless = datetime(2026, 1, 5, 12, 30)
    assert (
        to_microseconds(zoneless)
        == to_microseconds(zoneless.replace(tzinfo=UTC))
        == to_microseconds(to_microseconds(zoneless))
    )
    table = draw_purchases(14, rows=50)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.int64()):
        other = table.set_column(1, "event_time", table["event_time"].cast(kind))
        assert compute_features(other).keys() == compute_features(table).keys() and list(
            compute_features(other).values()
        ) == list(compute_features(table).values())
