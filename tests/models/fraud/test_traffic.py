"""Purchases that are sent to a gateway, with the labels that are known by now."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from models.fraud import traffic


def test_label_is_sent_unless_it_will_only_be_known_later(tmp_path):
    now, day = datetime.now(UTC).replace(tzinfo=None), timedelta(days=1)
    times = [(-9, -1), (-2, 5), (-2, None), (3, 10)]  # the last purchase is ahead of the clock, as in a replay
    columns = {
        "transaction_id": [f"t{n}" for n in range(4)],
        "event_time": [now + event * day for event, _ in times],
        "customer_id": ["c"] * 4,
        "merchant_id": ["m"] * 4,
        "amount": [1.0] * 4,
        "is_fraud": [1, 1, None, 0],
        "label_time": [None if label is None else now + label * day for _, label in times],
    }
    folder = tmp_path / "span-000"
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "purchases.parquet")
    settings = {"columns": "", "label_delay_days": 7}
    rows = list(traffic.requests(str(tmp_path), "", tmp_path, (-1, -1), [], settings))
    labels = {body["transaction_id"]: label and label["label"] for body, label in rows}
    assert labels == {"t0": 1, "t1": None, "t2": None, "t3": 0}


def test_renewed_purchase_has_new_ids_and_the_same_features(tmp_path):
    body = {"transaction_id": "t1", "customer_id": "c1", "merchant_id": "m1", "amount": 2.0}
    assert traffic.renew(body, 0) == body
    assert traffic.renew(body, 3) == body | {"transaction_id": "t1-3", "customer_id": "c1-3"}
