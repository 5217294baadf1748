"""Purchases of raw spans, as clients send them."""

from operator import itemgetter
from pathlib import Path

import pyarrow.parquet as pq

from models.fraud.history.point_in_time import customer_names, merchant_names
from models.fraud.purchases import read

NAMES = (*customer_names(), *merchant_names(), "past_amount", "past_age", "past_merchant")


def read_table(spans: Path):
    import pyarrow as pa

    return pa.concat_tables([read(path, {"label_delay_days": 7}) for path in sorted(spans.glob("span-*"))])


def read_bodies(spans: Path) -> list[tuple[dict, dict]]:
    """Return the request body and the raw row of every purchase, in order of time."""
    rows = [row for path in sorted(spans.glob("span-*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    names = ("transaction_id", "customer_id", "merchant_id", "amount", "category", "channel", "device", "distance_km")
    rows.sort(key=itemgetter("event_time", "transaction_id"))
    return [({**{name: row[name] for name in names}, "event_time": row["event_time"].isoformat()}, row) for row in rows]


def _micro(time) -> int:
    return int((time - type(time)(1970, 1, 1)).total_seconds() * 1e6)
