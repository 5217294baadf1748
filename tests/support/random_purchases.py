"""Random purchases, and their features computed in batch."""

import numpy as np
import pyarrow as pa

from models.fraud.history.point_in_time import (
    DAY,
    SECOND,
    MerchantDays,
    customer_features,
    customer_names,
    merchant_features,
    merchant_names,
)

START = 20_000 * DAY
SCHEMA = pa.schema(
    {
        "transaction_id": pa.string(),
        "event_time": pa.timestamp("us"),
        "customer_id": pa.string(),
        "merchant_id": pa.string(),
        "amount": pa.float64(),
        "is_fraud": pa.int8(),
        "label_time": pa.timestamp("us"),
    }
)
SEQUENCES = ("past_amount", "past_age", "past_merchant", "past_length")


NAMES = (*customer_names(), *merchant_names(), *SEQUENCES)


def draw_purchases(seed: int, rows: int = 200, days: int = 60, customers: int = 5, merchants: int = 4) -> pa.Table:
    """Draw purchases with many equal times, null labels, and labels that are an hour to weeks late."""
    rng = np.random.default_rng(seed)
    times = START + rng.integers(0, days * 24, rows) * 3_600 * SECOND
    times[rng.random(rows) < 0.5] += rng.integers(0, SECOND)
    never = rng.random(rows) < 0.1
    columns = {
        "transaction_id": [f"t{i}" for i in rng.permutation(rows)],
        "event_time": times,
        "customer_id": [f"c{i}" for i in rng.integers(0, customers, rows)],
        "merchant_id": [f"m{i}" for i in rng.integers(0, merchants, rows)],
        "amount": np.round(rng.lognormal(3, 2, rows), 2),
        "is_fraud": pa.array((rng.random(rows) < 0.3).astype(np.int8), mask=never),
        "label_time": pa.array(times + rng.integers(1, 20 * 24, rows) * 3_600 * SECOND, mask=never),
    }
    return pa.table({name: pa.array(column).cast(SCHEMA.field(name).type) for name, column in columns.items()})


def compute_features(table: pa.Table, delay: int = 7) -> dict[str, dict]:
    """Compute features by transaction id."""
    features = merchant_features(customer_features(table), MerchantDays.of(table), delay)
    return {row["transaction_id"]: {name: row[name] for name in NAMES} for row in features.to_pylist()}
