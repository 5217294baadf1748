"""The history as records of fields, for a store that several gateways share; ``online_history.py`` computes with them.

A customer's record has one field for each purchase. A merchant's record has one field for each day, and one for each pair of
day and label day; its numbers only grow. So gateways never overwrite each other: the store adds fields and increments numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.fraud.history.online_history import OnlineHistory
from models.fraud.history.point_in_time import DAY

Fields = Mapping[str, str]


@dataclass(frozen=True)
class PurchaseChange:
    """Change of the records by one purchase; see ``serving.gateway.use_case_interface.HistoryChange``."""

    record: str
    field: str
    value: str
    counts: str
    counted: str
    drop: Sequence[str]
    drop_counts: Sequence[str]


def record_names(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the records of a purchase's customer and merchant."""
    return _customer_name(row["customer_id"]), _merchant_name(row["merchant_id"])


def build_history(row: Mapping[str, Any], records: Sequence[Fields], delay: int) -> OnlineHistory:
    """Build a history of only the purchase's customer and merchant, from the records of :func:`record_names`."""
    customer, merchant = records
    loaded = OnlineHistory(delay)
    loaded.load(
        {
            "customers": {row["customer_id"]: _parse_purchases(customer)} if customer else {},
            "merchants": {row["merchant_id"]: _parse_days(merchant)} if merchant else {},
        }
    )
    return loaded


def add_purchase(row: Mapping[str, Any], before: Sequence[Fields], history: OnlineHistory) -> PurchaseChange:
    """Add the purchase to ``history`` and return the change of its records, which are ``before`` until then."""
    single = OnlineHistory(history.delay)
    single.add(row)
    (_, added), (_, counts_added) = records(single.state())
    (field, value), (counted, _) = *added.items(), *counts_added.items()
    history.add(row)
    remaining = dict(records(history.state()))
    customer, merchant = record_names(row)
    drop = [
        [field_name for field_name in old if field_name not in remaining[name]]
        for name, old in zip((customer, merchant), before, strict=True)
    ]
    return PurchaseChange(customer, field, value, merchant, counted, *drop)


def label_counter(merchant_id: str, event_time: int, label_time: int, label: int) -> tuple[str, str]:
    """Return the record and field that a label increments: a fraud its merchant's, an honest purchase none (empty field)."""
    return _merchant_name(merchant_id), f"{event_time // DAY}:{label_time // DAY}" if label else ""


def records(state: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield name and fields of every record of an ``OnlineHistory``'s state."""
    for name, (keys, purchases) in state["customers"].items():
        fields = {
            f"{time}:{id_}": orjson.dumps(purchase).decode()
            for (time, id_), purchase in zip(keys, purchases, strict=True)
        }
        yield _customer_name(name), fields
    for name, (counts, frauds) in state["merchants"].items():
        fields = {str(day): str(count) for day, count in counts}
        yield _merchant_name(name), fields | {f"{day}:{label}": str(count) for day, label, count in frauds}


def _parse_purchases(fields: Fields) -> tuple[list[tuple[int, str]], list[Any]]:
    entries = [(_parse_key(field), orjson.loads(value)) for field, value in fields.items()]
    entries.sort()
    return [key for key, _ in entries], [purchase for _, purchase in entries]


def _parse_key(field: str) -> tuple[int, str]:
    time, _, name = field.partition(":")  # an id may contain a colon, too
    return int(time), name


def _parse_days(fields: Fields) -> tuple[list[list[int]], list[list[int]]]:
    counts: list[list[int]] = []
    frauds: list[list[int]] = []
    for field, count in fields.items():
        days = [int(day) for day in field.split(":")]
        (frauds if len(days) > 1 else counts).append([*days, int(count)])
    return counts, frauds


def _customer_name(customer: str) -> str:
    return f"customer/{customer}"


def _merchant_name(merchant: str) -> str:
    return f"merchant/{merchant}"
