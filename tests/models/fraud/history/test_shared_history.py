"""Features from records of fields, changed as a store changes them, against the in-memory history and the batch."""

from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_purchases import NAMES, compute_features, draw_purchases

from models.fraud.history import shared_history
from models.fraud.history.online_history import OnlineHistory
from models.fraud.history.point_in_time import to_microseconds


class Records(dict):
    """A store in plain Python that applies changes."""

    def of(self, row: dict) -> list[dict[str, str]]:
        return [self.get(name, {}) for name in shared_history.record_names(row)]

    def apply(self, change: shared_history.PurchaseChange) -> None:
        record = self.setdefault(change.record, {})
        if change.field in record:
            return
        record[change.field] = change.value
        self.count(change.counts, change.counted)
        for name, fields in ((change.record, change.drop), (change.counts, change.drop_counts)):
            for field in fields:
                self[name].pop(field, None)

    def count(self, name: str, field: str) -> None:
        if field:
            record = self.setdefault(name, {})
            record[field] = str(int(record.get(field, 0)) + 1)


def replay(table: Any, delay: int, times: int = 1) -> tuple[dict[str, dict], Records, OnlineHistory]:
    """Apply each purchase ``times`` times in order of time; return features by id, the records, and an in-memory history."""
    calls = [(row["event_time"], 1, row["transaction_id"], row) for row in table.to_pylist()]
    calls += [(row["label_time"], 0, row["transaction_id"], row) for row in table.to_pylist() if row["label_time"]]
    records, in_memory, answers = Records(), OnlineHistory(delay), {}
    for _, kind, name, row in sorted(calls, key=itemgetter(0, 1, 2)):
        at = to_microseconds(row["event_time"])
        if kind == 0:
            records.count(
                *shared_history.label_counter(
                    row["merchant_id"], at, to_microseconds(row["label_time"]), row["is_fraud"] or 0
                )
            )
            in_memory.label(row["merchant_id"], at, row["label_time"], row["is_fraud"])
            continue
        for _ in range(times):
            before = records.of(row)
            history = shared_history.build_history(row, before, delay)
            answers[name] = history.features(row)
            records.apply(shared_history.add_purchase(row, before, history))
        in_memory.add(row)
    return answers, records, in_memory


@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(0, 10), st.integers(1, 4), st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_features_from_records_equal_the_batch(seed: int, rows: int, delay: int, customers: int, times: int) -> None:
    table = draw_purchases(seed, rows, customers=customers)
    answers, records, in_memory = replay(table, delay, times)
    assert {name: {feature: row[feature] for feature in NAMES} for name, row in answers.items()} == compute_features(
        table, delay
    )
    assert {name: fields for name, fields in records.items() if fields} == {
        name: fields for name, fields in shared_history.records(in_memory.state()) if fields
    }


def test_records_are_bounded_and_features_equal_the_batch_after_eviction() -> None:
    table = draw_purchases(5, rows=3000, days=400, customers=2, merchants=2)
    answers, records, _ = replay(table, 7)
    assert {name: {feature: row[feature] for feature in NAMES} for name, row in answers.items()} == compute_features(
        table
    )
    assert all(len(records[name]) < 400 for name in ("customer/c0", "customer/c1"))
    days = [{field.split(":")[0] for field in records[f"merchant/m{n}"]} for n in (0, 1)]
    assert all(30 < len(features) < 150 for features in days)


@pytest.mark.parametrize("name", ["t:1", "", "1:2:3", '"', "é\u2028"])
def test_ids_may_contain_any_text(name: str) -> None:
    row = {"transaction_id": name, "event_time": 5_000_000, "customer_id": name, "merchant_id": name, "amount": 0.1}
    records = Records()
    records.apply(shared_history.add_purchase(row, [{}, {}], OnlineHistory()))
    loaded = shared_history.build_history(row, records.of(row), 7)
    later = loaded.features(row | {"transaction_id": "later", "event_time": 6_000_000})
    assert later["past_merchant"][-1] == name and later["past_age"][-1] == 1.0 and later["customer_count_1d"] == 1
    assert not any(loaded.features(row)["past_amount"]), "a purchase is not its own past"
