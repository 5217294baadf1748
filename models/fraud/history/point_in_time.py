"""What a purchase's past says, defined once: in batch over Arrow tables, and online one purchase at a time.

Both ways share the same integers (microseconds, whole days, ten-thousandths of the currency unit) and round to float32
only at the end, so that a replayed stream gives exactly the floats of the batch (checked by
``tests/models/fraud/history/test_point_in_time.py``). The online half is in ``online_history.py``.

For a purchase at time t on UTC day D, "earlier" means strictly smaller in (event_time, transaction_id):

- ``customer_count_{w}d``, ``customer_amount_{w}d``: number and sum of the customer's earlier purchases with
  event_time >= t - w days;
- ``seconds_since_last``: seconds since the customer's latest earlier purchase, at most (and without one) 30 days;
- ``past_amount``, ``past_age``, ``past_merchant``: the customer's last ``PAST`` earlier purchases, oldest first, padded
  on the left with 0, 0 and ''; ages in seconds before t; ``past_length`` says how many there are;
- ``merchant_count_{w}d``: all purchases at the merchant with event day in [D - delay - w, D - delay);
- ``merchant_risk_{w}d``: those of them known as fraud before day D began, over that count plus ``RISK_PRIOR``.

Merchants are counted in whole days that lie ``delay`` back, since a younger day's frauds are mostly not known yet and
would make every merchant look honest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WINDOWS = (1, 7, 30)  # days
PAST = 8
LABEL_DELAY_DAYS = 7
RISK_PRIOR = 10
SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
LONGEST = max(WINDOWS) * DAY
# Sums run over integers: cumulative float sums would cancel. No ISO currency has more than four decimals.
UNIT = 10_000

COUNTS = pa.schema({"merchant_id": pa.string(), "day": pa.int64(), "number": pa.int64()})
FRAUDS = pa.schema({"merchant_id": pa.string(), "day": pa.int64(), "known": pa.int64(), "number": pa.int64()})

Column: TypeAlias = pa.Array | pa.ChunkedArray


def customer_names() -> tuple[str, ...]:
    """The scalar columns that ``customer_features`` appends, in order."""
    return (*(f"customer_{what}_{w}d" for w in WINDOWS for what in ("count", "amount")), "seconds_since_last")


def merchant_names() -> tuple[str, ...]:
    """The columns that ``merchant_features`` appends, in order."""
    return tuple(f"merchant_{what}_{w}d" for w in WINDOWS for what in ("count", "risk"))


def customer_features(table: pa.Table) -> pa.Table:
    """Sorts purchases by (customer_id, event_time, transaction_id) and appends what their customers' past says.

    Args:
        table: All purchases of whole customers, in any order. Rows older than those of interest may be among them as
            context; filter them out afterwards.

    Returns:
        The rows with ``customer_names()`` (float32), ``past_amount`` and ``past_age`` (lists of ``PAST`` float32),
        ``past_merchant`` (list of ``PAST`` strings) and ``past_length`` (int64).

    Raises:
        ValueError: where a customer has two purchases with the same time and id, since the past would count one of them
            twice; or for so many rows (1.7 million at the least) that 64 bits cannot hold their times end to end.
    """
    table, codes, times = _sorted(table)
    here, first = np.arange(len(codes)), np.searchsorted(codes, codes)
    totals = np.concatenate([[0], np.cumsum(units(_floats(table["amount"])))])
    columns: list[np.ndarray] = []
    for start in _window_starts(codes, times):
        columns += [here - start, (totals[here] - totals[start]) / UNIT]
    gap = np.where(here > first, times - times[here - 1], LONGEST) if len(here) else times
    columns.append(np.minimum(gap, LONGEST) / SECOND)
    for name, values in zip(customer_names(), columns, strict=True):
        table = table.append_column(name, pa.array(values.astype(np.float32)))
    return _append_past(table, times, first)


def merchant_features(table: pa.Table, merchant_days: "MerchantDays", delay: int = LABEL_DELAY_DAYS) -> pa.Table:
    """Appends ``merchant_names()`` (float32) to the rows, whose order stays.

    Args:
        table: Purchases with ``merchant_id`` and ``event_time``.
        merchant_days: Merged over all spans from ``delay`` + 30 days before the first row on; later spans do no harm.
        delay: Days that a merchant's recent past is left out.
    """
    columns = merchant_days.risk(table["merchant_id"], microseconds(table["event_time"]) // DAY, delay)
    for name in merchant_names():
        table = table.append_column(name, pa.array(columns[name]))
    return table


@dataclass(frozen=True)
class MerchantDays:
    """Integer counts per merchant and day; merging is exact, associative and commutative, and the result is small.

    Attributes:
        counts: ``merchant_id, day, number``: purchases per event day (days since 1970), sorted by the first two.
        frauds: ``merchant_id, day, known, number``: frauds per event day and per day on which the label came, sorted.
    """

    counts: pa.Table
    frauds: pa.Table

    @staticmethod
    def of(table: pa.Table) -> "MerchantDays":
        """Counts the raw purchases of ``table``; a label counts as fraud only if it has a time."""
        merchants = table["merchant_id"].cast(pa.string())
        days = pa.table({"merchant_id": merchants, "day": microseconds(table["event_time"]) // DAY})
        days = days.append_column("number", pa.array(np.ones(len(days), np.int64)))
        fraud = pc.and_(pc.fill_null(pc.equal(table["is_fraud"], 1), False), pc.is_valid(table["label_time"]))
        known = pa.array(microseconds(pc.filter(table["label_time"], fraud)) // DAY)
        return MerchantDays(_summed(days), _summed(days.filter(fraud).add_column(2, "known", known)))

    @staticmethod
    def merge(*parts: "MerchantDays") -> "MerchantDays":
        """All parts' counts, none for no part; parts must not count the same purchase twice."""
        counts = pa.concat_tables([COUNTS.empty_table(), *(part.counts for part in parts)])
        frauds = pa.concat_tables([FRAUDS.empty_table(), *(part.frauds for part in parts)])
        return MerchantDays(_summed(counts), _summed(frauds))

    def risk(self, merchant_ids: Column, days: np.ndarray, delay: int = LABEL_DELAY_DAYS) -> dict[str, np.ndarray]:
        """``merchant_names()`` as float32 ``[n]`` for ``n`` merchants on ``n`` days (days since 1970).

        A merchant's day counts on the later days (day + delay, day + delay + w], and as a known fraud only on those
        after its label came. Both are intervals of days, so one sorted table of their ends answers all rows at once.
        """
        merchants = pc.unique(self.counts["merchant_id"])
        at, back = _pairs(_places(merchant_ids, merchants), np.asarray(days, np.int64))
        columns = {}
        for w in WINDOWS:
            count = _standing(merchants, self.counts, 1 + delay, w, at)
            known = _standing(merchants, self.frauds, 1 + delay, w, at)
            columns[f"merchant_count_{w}d"] = count.astype(np.float32)[back]
            columns[f"merchant_risk_{w}d"] = (known / (count + RISK_PRIOR)).astype(np.float32)[back]
        return columns


def microseconds(times: Column) -> np.ndarray:
    """Microseconds since 1970, int64 ``[n]``, of a timestamp column (zoneless means UTC) or of such integers."""
    if pa.types.is_timestamp(times.type):
        times = times.cast(pa.timestamp("us", times.type.tz), safe=False)
    return np.asarray(times.cast(pa.int64()))


def moment(time: datetime | int) -> int:
    """Microseconds since 1970 of a time (zoneless means UTC) or of such an integer: the scalar ``microseconds``."""
    if isinstance(time, int):
        return time
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def units(amounts: Any) -> Any:
    """Amounts, an array or a number, as whole 1/``UNIT``; what is not finite adds nothing to a sum."""
    return np.rint(np.where(np.isfinite(amounts), amounts, 0.0) * UNIT).astype(np.int64)


def _floats(column: Column) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).fill_null(np.nan))


def _places(column: Column, values: Column) -> np.ndarray:
    """Index of each of the column's entries in ``values``, int64 ``[n]``; -1 where it is not among them."""
    found = pc.index_in(column.cast(pa.string()), value_set=values.cast(pa.string()))
    return np.asarray(found.fill_null(-1), np.int64)


def _sorted(table: pa.Table) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The table in order, with customer codes and times in microseconds, each int64 ``[n]``."""
    distinct = pc.unique(table["customer_id"])
    codes = _places(table["customer_id"], distinct.take(pc.sort_indices(distinct)))
    times = microseconds(table["event_time"])
    order = np.lexsort((times, codes))
    again = (np.diff(codes[order]) == 0) & (np.diff(times[order]) == 0)
    if again.any():
        # Only ties need the ids, and sorting strings is slow.
        tied = np.append(again, False) | np.insert(again, 0, False)
        order[tied] = _by_id(table, codes, times, order[tied])
    return table.take(pa.array(order)).combine_chunks(), codes[order], times[order]


def _by_id(table: pa.Table, codes: np.ndarray, times: np.ndarray, rows: np.ndarray) -> list[int]:
    """The rows in order of (code, time, id)."""
    ids = table["transaction_id"].take(pa.array(rows)).to_pylist()
    keys = sorted(zip(codes[rows], times[rows], ids, rows, strict=True))
    for before, after in pairwise(keys):
        if before[:3] == after[:3]:
            raise ValueError(f"Transaction '{after[2]}' is there twice, with the same customer and time.")
    return [row for *_, row in keys]


def _window_starts(codes: np.ndarray, times: np.ndarray) -> Iterable[np.ndarray]:
    """For each window, the row at which each row's window begins, int64 ``[n]``; rows are sorted by (code, time)."""
    # One axis of time for all: customers lie end to end, and no gap is longer than it takes to be outside every window.
    gaps = np.where(np.diff(codes) > 0, LONGEST + 1, np.minimum(np.diff(times), LONGEST + 1))
    if gaps.sum(dtype=float) > np.iinfo(np.int64).max / 2:
        raise ValueError(f"{len(codes)} purchases are too many for one table; split them by customer.")
    axis = np.concatenate([np.zeros(min(len(codes), 1), np.int64), np.cumsum(gaps)])
    for w in WINDOWS:
        yield np.searchsorted(axis, axis - w * DAY)


def _append_past(table: pa.Table, times: np.ndarray, first: np.ndarray) -> pa.Table:
    rows = np.arange(len(times))[:, None] + np.arange(-PAST, 0)
    there = rows >= first[:, None]
    rows = np.maximum(rows, 0)
    amount = np.nan_to_num(_floats(table["amount"]), posinf=0.0, neginf=0.0).astype(np.float32)
    age = ((times[:, None] - times[rows]) / SECOND).astype(np.float32)
    names = pc.unique(table["merchant_id"])
    codes = np.where(there, _places(table["merchant_id"], names)[rows], len(names))
    names = pa.concat_arrays([names.cast(pa.string()), pa.array([""], pa.string())])
    columns = {
        "past_amount": _lists(pa.array(np.where(there, amount[rows], np.float32(0)).ravel())),
        "past_age": _lists(pa.array(np.where(there, age, np.float32(0)).ravel())),
        "past_merchant": _lists(names.take(pa.array(codes.ravel()))),
        "past_length": pa.array(there.sum(axis=1, dtype=np.int64)),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _lists(values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, PAST, dtype=np.int32)), values)


def _summed(days: pa.Table) -> pa.Table:
    """One row a key, sorted, so that equal counts are equal tables; the last column holds the numbers."""
    keys = days.column_names[:-1]
    days = days.group_by(keys, use_threads=False).aggregate([("number", "sum")]).rename_columns([*keys, "number"])
    return days.sort_by([(key, "ascending") for key in keys]).combine_chunks()


def _pairs(codes: np.ndarray, days: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The distinct (code, day) pairs, and where each row's pair is among them: a merchant's day has many rows."""
    low, span = (days.min(), np.ptp(days) + 1) if len(days) else (0, 1)
    keys, back = np.unique((codes + 1) * span + days - low, return_inverse=True)
    return (keys // span - 1, keys % span + low), back


def _standing(
    merchants: Column, days: pa.Table, wait: int, width: int, at: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """What stands on each (code, day) in ``at``: numbers do for ``width`` days, from ``wait`` days after theirs."""
    codes, asked = at
    if not len(asked):
        return np.zeros(0, np.int64)
    low, high = asked.min(), asked.max() + 1
    held, day, number = (np.asarray(c) for c in (_places(days["merchant_id"], merchants), days["day"], days["number"]))
    begin, end = day + wait, day + wait + width
    if "known" in days.column_names:
        begin = np.minimum(np.maximum(begin, np.asarray(days["known"]) + 1), end)
    keys = np.concatenate([held * (high - low + 1) + np.clip(edge, low, high) - low for edge in (begin, end)])
    order = np.argsort(keys, kind="stable")
    totals = np.concatenate([[0], np.cumsum(np.concatenate([number, -number])[order])])
    return totals[np.searchsorted(keys[order], codes * (high - low + 1) + asked - low, side="right")]
