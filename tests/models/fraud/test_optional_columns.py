"""Data with six columns: training, requests, drift monitoring and retraining read the same value for an absent column."""

from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pytest
from support.purchase_days import settings, write_days

from models.fraud import collected, data, purchases
from models.fraud.case import CASE
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features, to_microseconds
from models.fraud.online_requests import Purchases
from serving.drift.alarms.data_faults import find_faults
from serving.drift.profiles import bins
from serving.drift.profiles.profile import Profile
from serving.gateway.log.tf_example import decode, encode_example

SIX = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount")
DELAY = 2


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    spans = write_days(tmp_path_factory.mktemp("six"))
    return pa.concat_tables(purchases.read_spans(spans.values(), settings()))


@pytest.fixture(scope="module")
def trained(raw: pa.Table) -> dict[str, dict[str, list[Any]]]:
    """The examples of training, by transaction."""
    table = merchant_features(customer_features(raw), MerchantDays.of(raw), DELAY)
    rows = [row for batch in purchases.to_examples(table) for row in batch.to_pylist()]
    return {row["transaction_id"][0].decode(): row for row in rows}


@pytest.fixture(scope="module")
def served(raw: pa.Table) -> list[dict[str, Any]]:
    """The purchases as the gateway logs them, sent with five fields in order of time, and labelled when labels arrive."""
    online, labels, rows = Purchases(DELAY), [], []
    for purchase in raw.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")]).to_pylist():
        while labels and labels[0][0] <= purchase["event_time"]:
            at, _, journal, label = labels.pop(0)
            online.learn(journal, label, to_microseconds(at))
        body = {name: purchase[name] for name in SIX} | {"event_time": purchase["event_time"].isoformat()}
        row = online.row(online.Request.model_validate_json(orjson.dumps(body)))
        features = decode(encode_example(online.features(row)))
        online.remember(online.journal(row))
        labels.append((purchase["label_time"], purchase["transaction_id"], online.journal(row), purchase["is_fraud"]))
        labels.sort(key=itemgetter(0, 1))
        row_served = {"key": row["transaction_id"], "features": features, "journal": online.journal(row)}
        # The client's clock is ahead of the gateway's, so that the label seems to arrive before the purchase.
        rows.append({**row_served, "label": purchase["is_fraud"], "known": row["event_time"] - 5})
    return rows


def test_online_features_equal_those_of_training(
    trained: dict[str, dict[str, list[Any]]], served: list[dict[str, Any]]
) -> None:
    assert len(served) == len(trained)
    for row in served:
        expected = {name: value for name, value in trained[row["key"]].items() if name != CASE.label}
        assert row["features"] == expected


def test_drift_monitoring_finds_no_fault(
    trained: dict[str, dict[str, list[Any]]], served: list[dict[str, Any]]
) -> None:
    watched = [name for name in CASE.watch if name != "amount"]
    reference = pl.DataFrame({name: [row[name][0] for row in trained.values()] for name in watched})
    window = pl.DataFrame({name: [row["features"][name][0] for row in served] for name in watched})
    layout = bins.fit_layout(reference)
    assert find_faults(Profile.of(layout, reference), Profile.of(layout, window)) == []


def test_collected_purchases_are_read_as_the_six_columns_were(
    raw: pa.Table, served: list[dict[str, Any]], tmp_path: Path
) -> None:
    collected.write(tmp_path / "span-000", served, settings())
    table = purchases.read(tmp_path / "span-000", settings())
    names, order = [name for name in raw.column_names if name != "label_time"], [("transaction_id", "ascending")]
    assert table.select(names).sort_by(order) == raw.select(names).sort_by(order)
    assert table["label_time"].equals(table["event_time"])
    assert not data.check({0: tmp_path / "span-000"}, settings()).refused


def test_null_is_a_missing_value_and_no_stand_in() -> None:
    online = Purchases()
    body = {name: "x" for name in SIX} | {"event_time": "2026-01-05T12:00:00", "amount": 1.0, "category": None}
    features = online.features(online.row(online.Request.model_validate_json(orjson.dumps(body))))
    assert features["category"] is None and features["channel"] == "none"
