"""The history as records of fields, for a store that several gateways share; ``online_history.py`` computes on them.

A customer's record has a field a purchase, a merchant's one a day and one a day and day of the label, with numbers that
only grow. So gateways never write over what another has written: fields are added, and numbers counted up, in the store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.fraud.history.online_history import OnlineHistory
from models.fraud.history.point_in_time import DAY

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """What remembers one purchase; see ``serving.gateway.use_case_interface.Change``."""

    record: str
    field: str
    value: str
    counts: str
    counted: str
    drop: Sequence[str]
    drop_counts: Sequence[str]


def names(row: Mapping[str, Any]) -> tuple[str, str]:
    """The records of a purchase's customer and merchant."""
    return _customer_name(row["customer_id"]), _merchant_name(row["merchant_id"])


def history(row: Mapping[str, Any], records: Sequence[Fields], delay: int) -> OnlineHistory:
    """A history that knows nobody but the purchase's customer and merchant, by the records of :func:`names`."""
    customer, merchant = records
    found = OnlineHistory(delay)
    found.load(
        {
            "customers": {row["customer_id"]: _purchases(customer)} if customer else {},
            "merchants": {row["merchant_id"]: _days(merchant)} if merchant else {},
        }
    )
    return found


def change(row: Mapping[str, Any], before: Sequence[Fields], history: OnlineHistory) -> Change:
    """What remembers the purchase in its records, as they were ``before``; their history remembers it too."""
    alone = OnlineHistory(history.delay)
    alone.add(row)
    (_, put), (_, count) = records(alone.state())
    (field, value), (counted, _) = *put.items(), *count.items()
    history.add(row)
    kept = dict(records(history.state()))
    customer, merchant = names(row)
    drop = [
        [one for one in old if one not in kept[name]] for name, old in zip((customer, merchant), before, strict=True)
    ]
    return Change(customer, field, value, merchant, counted, *drop)


def learned(merchant_id: str, event_time: int, known: int, label: int) -> tuple[str, str]:
    """Where a label counts: a fraud in its merchant's record, an honest purchase nowhere."""
    return _merchant_name(merchant_id), f"{event_time // DAY}:{known // DAY}" if label else ""


def records(state: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and fields of every record of an ``OnlineHistory``'s state."""
    for name, (keys, purchases) in state["customers"].items():
        fields = {
            f"{time}:{one}": orjson.dumps(what).decode() for (time, one), what in zip(keys, purchases, strict=True)
        }
        yield _customer_name(name), fields
    for name, (counts, frauds) in state["merchants"].items():
        fields = {str(day): str(count) for day, count in counts}
        yield _merchant_name(name), fields | {f"{day}:{label}": str(count) for day, label, count in frauds}


def _purchases(fields: Fields) -> tuple[list[tuple[int, str]], list[Any]]:
    found = [(_key(field), orjson.loads(value)) for field, value in fields.items()]
    found.sort()
    return [key for key, _ in found], [what for _, what in found]


def _key(field: str) -> tuple[int, str]:
    time, _, name = field.partition(":")  # an id may hold a colon too
    return int(time), name


def _days(fields: Fields) -> tuple[list[list[int]], list[list[int]]]:
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
