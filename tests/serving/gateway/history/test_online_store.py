"""What the gateway remembers: equal to the batch columns over a stream, and there again after a crash."""

import asyncio
from operator import itemgetter
from pathlib import Path

import numpy as np
import orjson
import pytest
from support.purchase_stream import NAMES, _micro, bodies, table

from models.fraud.generator import span_generator
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features
from models.fraud.online import Purchases
from serving.gateway.history.online_store import LABELS, PREDICTIONS, Conflict, OnlineStore, journal, last
from serving.gateway.log.log_files import Place
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import entry, example

DAYS = 45


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spans") / "data"
    span_generator.generate(folder, rows=6_000, days=DAYS, seed=3)
    return folder


def row(online: Purchases, body: dict) -> dict:
    return online.row(online.Request.model_validate_json(orjson.dumps(body)))


def test_the_gateways_features_are_the_batch_columns_that_trained_the_model(spans: Path) -> None:
    """The whole way: JSON in, labels when they become known, every feature equal to the last bit."""
    whole = table(spans)
    batch = merchant_features(customer_features(whole), MerchantDays.of(whole)).to_pylist()
    expected = {one["transaction_id"]: {name: one[name] for name in NAMES} for one in batch}
    online, late = Purchases(), []
    for body, raw in bodies(spans):
        while late and late[0][0] <= raw["event_time"]:
            known, _, done = late.pop(0)
            online.learn(online.journal(done), 1, _micro(known))
        now = row(online, body)
        features = online.features(now)
        assert {name: features[name] for name in NAMES} == expected[body["transaction_id"]]
        assert features["event_time"] == now["event_time"] // 1_000_000 and "past_length" not in features
        online.remember(online.journal(now))
        if raw["is_fraud"] and raw["label_time"]:
            late.append((raw["label_time"], raw["transaction_id"], now))
            late.sort(key=itemgetter(0, 1))
    assert sum(one["merchant_risk_30d"] > 0 for one in expected.values()) > 50


def test_seeding_is_the_same_as_having_seen_it(spans: Path) -> None:
    seeded, seen, sent = Purchases(), Purchases(), bodies(spans)
    count = seeded.seed([str(path) for path in sorted(spans.glob("span-*"))[:40]], {})
    assert 0 < count < len(sent)
    for body, raw in sent[:count]:
        now = row(seen, body)
        seen.remember(seen.journal(now))
        if raw["is_fraud"] and raw["label_time"]:
            seen.learn(seen.journal(now), 1, _micro(raw["label_time"]))
    assert _same(seeded, seen, sent[count:])


def record(online: Purchases, now: dict) -> bytes:
    return example(
        entry("amount", now["amount"]), entry("served/id", now["transaction_id"]), journal(online.journal(now))
    )


def test_the_journal_of_a_record_is_found_whatever_the_record_holds() -> None:
    for text in ("plain", "\n\x0eserved/journal\x12", "\u2028 é \x00", 'quote " and \\'):
        data = example(entry("a", text), entry("b", [1.0] * 500), journal([text, 1]))
        assert orjson.loads(last(data)) == [text, 1]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_after_a_crash_the_memory_is_what_the_log_holds(spans: Path, tmp_path: Path, checkpoint: bool) -> None:
    online, sent = Purchases(), bodies(spans)[:1500]

    async def work() -> None:
        store = OnlineStore(online, tmp_path)
        assert store.is_new
        predictions, labels = (PredictionLog(tmp_path / name).open() for name in (PREDICTIONS, LABELS))
        for n, (body, raw) in enumerate(sent):
            now = row(online, body)
            group = predictions.append(record(online, now))
            online.remember(online.journal(now))
            if raw["is_fraud"] and raw["label_time"]:
                told = [now["transaction_id"], 1, _micro(raw["label_time"]), online.journal(now)]
                await labels.append(example(journal(told)))
                assert store.learn(*told) and not store.learn(*told)
            if n % 50 == 0:
                await group
            if checkpoint and n == 700:
                await group
                store.checkpoint(predictions.place, labels.place)
        await group  # and no close: what a killed process leaves
        again = OnlineStore(Purchases(), tmp_path)
        assert not again.is_new
        restored = again.restore()
        assert restored.rows == (len(sent) - 701 if checkpoint else len(sent))
        assert _same(again.online, online, sent)
        assert again.labelled == store.labelled and again.labelled
        assert (again.at, again.labels_at) == (predictions.place, labels.place)
        for log in (predictions, labels):
            await log.close()

    asyncio.run(work())


def _same(one: Purchases, other: Purchases, sent: list) -> bool:
    return all(one.features(row(one, body)) == other.features(row(other, body)) for body, _ in sent)


def test_a_label_counts_once_and_another_is_a_conflict(tmp_path: Path) -> None:
    store = OnlineStore(Purchases(), tmp_path)
    told = ["t1", 1, 2_000_000, ["t1", 1_000_000, "c", "m", 5.0]]
    assert store.learn(*told) and not store.learn(*told)
    with pytest.raises(Conflict, match="labelled 1 already"):
        store.learn("t1", 0, *told[2:])
    assert store.online.history.state()["merchants"]["m"][1] == [[0, 0, 1]]


def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    store = OnlineStore(Purchases(), tmp_path)
    store.checkpoint(Place(1, 0), Place(1, 0))
    path = tmp_path / "checkpoint.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="remove it to replay"):
        store.restore()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"event_time": "2999-01-01T00:00:00"}, "in the future"),
        ({"event_time": "1969-12-31T23:59:59Z"}, "older than 1970"),
        ({"amount": -0.01}, "greater than or equal to 0"),
        ({"amount": 1_000_000.01}, "less than or equal to 1000000"),
        ({"amount": "5"}, "valid number"),
        ({"customer_id": ""}, "at least 1 character"),
        ({"customer_id": "x" * 65}, "at most 64 characters"),
        ({"event_time": 5}, "valid datetime"),
        ({"colour": "red"}, "Extra inputs"),
        ({"distance_km": 25_001}, "less than or equal to 25000"),
    ],
)
def test_a_purchase_out_of_bounds_is_refused(change: dict, says: str) -> None:
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
    with pytest.raises(ValueError, match=says):
        row(online, body | change)


def test_the_decision_is_the_models_on_the_very_threshold() -> None:
    online, edge = Purchases(), np.float32(12 / 132)
    outputs = {"score": edge, "decision": np.float32(0), "anomaly": np.float32(0)}
    below = outputs | {"score": np.nextafter(edge, np.float32(0))}
    assert online.answer(outputs, {"threshold": 12 / 132}, {})["decision"] == "stop"
    assert online.answer(below, {"threshold": 12 / 132}, {})["decision"] == "pass"
    assert online.answer(outputs, {}, {})["decision"] == "pass"
