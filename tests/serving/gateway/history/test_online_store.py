"""The online history: equal to the batch columns over a stream, and restored after a crash."""

import asyncio
from operator import itemgetter
from pathlib import Path

import numpy as np
import orjson
import pytest
from support.purchase_stream import NAMES, _micro, read_bodies, read_table

from models.fraud.generator import span_generator
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features
from models.fraud.online_requests import Purchases
from serving.gateway.history.online_store import (
    JOURNAL,
    LABELS,
    PREDICTIONS,
    LabelConflictError,
    OnlineStore,
    read_journal,
)
from serving.gateway.log.log_files import LogPosition
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import encode_example

DAYS = 45


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spans") / "data"
    span_generator.generate(folder, rows=6_000, days=DAYS, seed=3)
    return folder


def row(online: Purchases, body: dict) -> dict:
    return online.row(online.Request.model_validate_json(orjson.dumps(body)))


def test_online_features_equal_the_batch_columns_of_training(spans: Path) -> None:
    """End to end: purchases as JSON, labels when they become known; every feature is bit-identical."""
    whole = read_table(spans)
    batch = merchant_features(customer_features(whole), MerchantDays.of(whole)).to_pylist()
    expected = {purchase["transaction_id"]: {name: purchase[name] for name in NAMES} for purchase in batch}
    online, late = Purchases(), []
    for body, raw in read_bodies(spans):
        while late and late[0][0] <= raw["event_time"]:
            label_time, _, labelled = late.pop(0)
            online.learn(online.journal(labelled), 1, _micro(label_time))
        purchase = row(online, body)
        features = online.features(purchase)
        assert {name: features[name] for name in NAMES} == expected[body["transaction_id"]]
        assert features["event_time"] == purchase["event_time"] // 1_000_000 and "past_length" not in features
        online.remember(online.journal(purchase))
        if raw["is_fraud"] and raw["label_time"]:
            late.append((raw["label_time"], raw["transaction_id"], purchase))
            late.sort(key=itemgetter(0, 1))
    assert sum(columns["merchant_risk_30d"] > 0 for columns in expected.values()) > 50


def test_seeding_equals_remembering_the_same_rows(spans: Path) -> None:
    seeded, remembered, sent = Purchases(), Purchases(), read_bodies(spans)
    count = seeded.seed([str(path) for path in sorted(spans.glob("span-*"))[:40]], {})
    assert 0 < count < len(sent)
    for body, raw in sent[:count]:
        purchase = row(remembered, body)
        remembered.remember(remembered.journal(purchase))
        if raw["is_fraud"] and raw["label_time"]:
            remembered.learn(remembered.journal(purchase), 1, _micro(raw["label_time"]))
    assert have_equal_features(seeded, remembered, sent[count:])


def record(online: Purchases, purchase: dict) -> bytes:
    return encode_example(
        {
            "amount": purchase["amount"],
            "served/id": purchase["transaction_id"],
            JOURNAL: orjson.dumps(online.journal(purchase)),
        }
    )


def test_journal_is_read_from_a_record_with_any_content() -> None:
    for text in ("plain", "\n\x0eserved/journal\x12", "\u2028 é \x00", 'quote " and \\'):
        data = encode_example({"a": text, "b": [1.0] * 500, JOURNAL: orjson.dumps([text, 1])})
        assert read_journal(data) == [text, 1]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_history_after_a_crash_equals_the_log(spans: Path, tmp_path: Path, checkpoint: bool) -> None:
    online, sent = Purchases(), read_bodies(spans)[:1500]

    async def work() -> None:
        store = OnlineStore(online, tmp_path)
        assert store.is_new
        predictions, labels = (PredictionLog(tmp_path / name).open() for name in (PREDICTIONS, LABELS))
        for n, (body, raw) in enumerate(sent):
            purchase = row(online, body)
            group = predictions.append(record(online, purchase))
            online.remember(online.journal(purchase))
            if raw["is_fraud"] and raw["label_time"]:
                label = [purchase["transaction_id"], 1, _micro(raw["label_time"]), online.journal(purchase)]
                await labels.append(encode_example({JOURNAL: orjson.dumps(label)}))
                assert store.learn(*label) and not store.learn(*label)
            if n % 50 == 0:
                await group
            if checkpoint and n == 700:
                await group
                store.checkpoint(predictions.position, labels.position)
        await group  # the logs are not closed, as after a kill
        restored = OnlineStore(Purchases(), tmp_path)
        assert not restored.is_new
        result = restored.restore()
        assert result.rows == (len(sent) - 701 if checkpoint else len(sent))
        assert have_equal_features(restored.online, online, sent)
        assert restored.labelled == store.labelled and restored.labelled
        assert (restored.at, restored.labels_at) == (predictions.position, labels.position)
        for log in (predictions, labels):
            await log.close()

    asyncio.run(work())


def have_equal_features(first: Purchases, second: Purchases, sent: list) -> bool:
    return all(first.features(row(first, body)) == second.features(row(second, body)) for body, _ in sent)


def test_label_counts_once_and_a_different_label_is_a_conflict(tmp_path: Path) -> None:
    store = OnlineStore(Purchases(), tmp_path)
    label = ["t1", 1, 2_000_000, ["t1", 1_000_000, "c", "m", 5.0]]
    assert store.learn(*label) and not store.learn(*label)
    with pytest.raises(LabelConflictError, match="labelled 1 already"):
        store.learn("t1", 0, *label[2:])
    assert store.online.history.state()["merchants"]["m"][1] == [[0, 0, 1]]


def test_damaged_checkpoint_error_names_the_remedy(tmp_path: Path) -> None:
    store = OnlineStore(Purchases(), tmp_path)
    store.checkpoint(LogPosition(1, 0), LogPosition(1, 0))
    path = tmp_path / "checkpoint.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="remove it to replay"):
        store.restore()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_time": "2999-01-01T00:00:00"}, "in the future"),
        ({"event_time": "1969-12-31T23:59:59Z"}, "older than 1970"),
        ({"amount": -0.01}, "greater than or equal to 0"),
        ({"amount": 1_000_000.01}, "less than or equal to 1000000"),
        ({"amount": "5"}, "valid number"),
        ({"customer_id": ""}, "the id is empty"),
        ({"customer_id": "x" * 129}, "at most 128"),
        ({"event_time": 5}, "not a time from 1990"),
        ({"colour": "red"}, "Extra inputs"),
        ({"distance_km": 25_001}, "less than or equal to 25000"),
    ],
)
def test_purchase_out_of_bounds_is_rejected(change: dict, message: str) -> None:
    online = Purchases()
    body = {
        "transaction_id": "t",
        "event_time": "2026-01-05T12:00:00Z",
        "customer_id": "c",
        "merchant_id": "m",
        "amount": 5,
    }
    assert row(online, body)["event_time"] == 1_767_614_400_000_000
    for edge in (
        {"amount": 0},
        {"amount": 1_000_000},
        {"customer_id": "x" * 64},
        {"event_time": "1970-01-01T00:00:00"},
    ):
        assert row(online, body | edge)
    with pytest.raises(ValueError, match=message):
        row(online, body | change)


def test_score_equal_to_the_threshold_is_stopped_as_by_the_model() -> None:
    online, edge = Purchases(), np.float32(12 / 132)
    outputs = {"score": edge, "decision": np.float32(0), "anomaly": np.float32(0)}
    below = outputs | {"score": np.nextafter(edge, np.float32(0))}
    assert online.answer(outputs, {"threshold": 12 / 132}, {})["decision"] == "stop"
    assert online.answer(below, {"threshold": 12 / 132}, {})["decision"] == "pass"
    assert online.answer(outputs, {}, {})["decision"] == "pass"
