"""Features of a purchase's past, defined once for two implementations: in batch over Arrow tables, and online by purchase.

Both compute with the same integers (microseconds, whole days, ten-thousandths of the currency unit) and round to float32
only at the end, so that a replayed stream gives exactly the floats of the batch (checked by
``tests/models/fraud/history/test_point_in_time.py``). The online implementation is in ``online_history.py``.

For a purchase at time t on UTC day D, "earlier" means strictly smaller in (event_time, transaction_id):

- ``customer_count_{w}d``, ``customer_amount_{w}d``: number and sum of the customer's earlier purchases with
  event_time >= t - w days;
- ``seconds_since_last``: seconds since the customer's latest earlier purchase, at most (and without one) 30 days;
- ``past_amount``, ``past_age``, ``past_merchant``: the customer's last ``PAST`` earlier purchases, oldest first, padded
  on the left with 0, 0 and ''; ages in seconds before t; ``past_length`` is their number;
- ``merchant_count_{w}d``: all purchases at the merchant with event day in [D - delay - w, D - delay);
- ``merchant_risk_{w}d``: those of them labelled as fraud before day D began, over that count plus ``RISK_PRIOR``.

Merchants are counted in whole days that end ``delay`` days ago, as most frauds of more recent days have no label yet and
every merchant would seem honest.
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
# Sums use integers, as cumulative float sums lose digits by cancellation. No ISO currency has more than four decimals.
UNIT = 10_000

COUNTS = pa.schema({"merchant_id": pa.string(), "day": pa.int64(), "number": pa.int64()})
FRAUDS = pa.schema({"merchant_id": pa.string(), "day": pa.int64(), "known": pa.int64(), "number": pa.int64()})

Column: TypeAlias = pa.Array | pa.ChunkedArray


def customer_names() -> tuple[str, ...]:
    """Names of the scalar columns that ``customer_features`` appends, in order."""
    return (*(f"customer_{what}_{w}d" for w in WINDOWS for what in ("count", "amount")), "seconds_since_last")


def merchant_names() -> tuple[str, ...]:
    """Names of the columns that ``merchant_features`` appends, in order."""
    return tuple(f"merchant_{what}_{w}d" for w in WINDOWS for what in ("count", "risk"))


def customer_features(table: pa.Table) -> pa.Table:
    """Sort purchases by (customer_id, event_time, transaction_id) and append the features of their customers' past.

    Args:
        table: All purchases of complete customers, in any order. It may contain older rows as context; filter them out
            afterwards.

    Returns:
        The rows with ``customer_names()`` (float32), ``past_amount`` and ``past_age`` (lists of ``PAST`` float32),
        ``past_merchant`` (list of ``PAST`` strings) and ``past_length`` (int64).

    Raises:
        ValueError: if a customer has two purchases with the same time and id, as the past would count one of them twice;
            or if there are so many rows (at least 1.7 million) that their times, end to end, overflow 64 bits.
    """
    table, codes, times = _sort(table)
    rows, first = np.arange(len(codes)), np.searchsorted(codes, codes)
    totals = np.concatenate([[0], np.cumsum(to_units(_floats(table["amount"])))])
    columns: list[np.ndarray] = []
    for start in _window_starts(codes, times):
        columns += [rows - start, (totals[rows] - totals[start]) / UNIT]
    gap = np.where(rows > first, times - times[rows - 1], LONGEST) if len(rows) else times
    columns.append(np.minimum(gap, LONGEST) / SECOND)
    for name, values in zip(customer_names(), columns, strict=True):
        table = table.append_column(name, pa.array(values.astype(np.float32)))
    return _append_past(table, times, first)


def merchant_features(table: pa.Table, merchant_days: "MerchantDays", delay: int = LABEL_DELAY_DAYS) -> pa.Table:
    """Append ``merchant_names()`` (float32) to the rows, in unchanged order.

    Args:
        table: Purchases with ``merchant_id`` and ``event_time``.
        merchant_days: Counts merged over all spans from ``delay`` + 30 days before the first row; later spans have no effect.
        delay: Most recent days of a merchant that are left out.
    """
    columns = merchant_days.risk(table["merchant_id"], microseconds(table["event_time"]) // DAY, delay)
    for name in merchant_names():
        table = table.append_column(name, pa.array(columns[name]))
    return table


@dataclass(frozen=True)
class MerchantDays:
    """Integer counts by merchant and day; merging is exact, associative and commutative, and the result is small.

    Attributes:
        counts: ``merchant_id, day, number``: purchases by event day (days since 1970), sorted by the first two.
        frauds: ``merchant_id, day, known, number``: frauds by event day and by day on which the label arrived, sorted.
    """

    counts: pa.Table
    frauds: pa.Table

    @staticmethod
    def of(table: pa.Table) -> "MerchantDays":
        """Count the raw purchases of ``table``; a label counts as fraud only if it has a time."""
        merchants = table["merchant_id"].cast(pa.string())
        days = pa.table({"merchant_id": merchants, "day": microseconds(table["event_time"]) // DAY})
        days = days.append_column("number", pa.array(np.ones(len(days), np.int64)))
        fraud = pc.and_(pc.fill_null(pc.equal(table["is_fraud"], 1), False), pc.is_valid(table["label_time"]))
        label_days = pa.array(microseconds(pc.filter(table["label_time"], fraud)) // DAY)
        return MerchantDays(_sum_by_key(days), _sum_by_key(days.filter(fraud).add_column(2, "known", label_days)))

    @staticmethod
    def merge(*parts: "MerchantDays") -> "MerchantDays":
        """Add up the counts of all parts, none for no part; no two parts may count the same purchase."""
        counts = pa.concat_tables([COUNTS.empty_table(), *(part.counts for part in parts)])
        frauds = pa.concat_tables([FRAUDS.empty_table(), *(part.frauds for part in parts)])
        return MerchantDays(_sum_by_key(counts), _sum_by_key(frauds))

    def risk(self, merchant_ids: Column, days: np.ndarray, delay: int = LABEL_DELAY_DAYS) -> dict[str, np.ndarray]:
        """Return ``merchant_names()`` as float32 ``[n]`` for ``n`` merchants on ``n`` days (days since 1970).

        The purchases of a day count on the later days (day + delay, day + delay + w], and as fraud only on those after the
        label arrived. Both are intervals of days, so one sorted table of their ends answers all rows at once.
        """
        merchants = pc.unique(self.counts["merchant_id"])
        pairs, inverse = _unique_pairs(_index_in(merchant_ids, merchants), np.asarray(days, np.int64))
        columns = {}
        for w in WINDOWS:
            count = _count_on_days(merchants, self.counts, 1 + delay, w, pairs)
            frauds = _count_on_days(merchants, self.frauds, 1 + delay, w, pairs)
            columns[f"merchant_count_{w}d"] = count.astype(np.float32)[inverse]
            columns[f"merchant_risk_{w}d"] = (frauds / (count + RISK_PRIOR)).astype(np.float32)[inverse]
        return columns


def microseconds(times: Column) -> np.ndarray:
    """Convert a timestamp column (without a zone: UTC), or such integers, to microseconds since 1970, int64 ``[n]``."""
    if pa.types.is_timestamp(times.type):
        times = times.cast(pa.timestamp("us", times.type.tz), safe=False)
    return np.asarray(times.cast(pa.int64()))


def to_microseconds(time: datetime | int) -> int:
    """Convert a time (without a zone: UTC), or such an integer, to microseconds since 1970; see :func:`microseconds`."""
    if isinstance(time, int):
        return time
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def to_units(amounts: Any) -> Any:
    """Convert amounts, an array or a number, to integer multiples of 1/``UNIT``; values that are not finite become 0."""
    return np.rint(np.where(np.isfinite(amounts), amounts, 0.0) * UNIT).astype(np.int64)


def _floats(column: Column) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).fill_null(np.nan))


def _index_in(column: Column, values: Column) -> np.ndarray:
    """Return the index of each entry of the column in ``values``, int64 ``[n]``; -1 where it is missing."""
    index = pc.index_in(column.cast(pa.string()), value_set=values.cast(pa.string()))
    return np.asarray(index.fill_null(-1), np.int64)


def _sort(table: pa.Table) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Return the sorted table, its customer codes and its times in microseconds, each int64 ``[n]``."""
    distinct = pc.unique(table["customer_id"])
    codes = _index_in(table["customer_id"], distinct.take(pc.sort_indices(distinct)))
    times = microseconds(table["event_time"])
    order = np.lexsort((times, codes))
    repeated = (np.diff(codes[order]) == 0) & (np.diff(times[order]) == 0)
    if repeated.any():
        # Only ties need a comparison of ids, as sorting strings is slow.
        tied = np.append(repeated, False) | np.insert(repeated, 0, False)
        order[tied] = _order_by_id(table, codes, times, order[tied])
    return table.take(pa.array(order)).combine_chunks(), codes[order], times[order]


def _order_by_id(table: pa.Table, codes: np.ndarray, times: np.ndarray, rows: np.ndarray) -> list[int]:
    """Return the rows in order of (code, time, id)."""
    ids = table["transaction_id"].take(pa.array(rows)).to_pylist()
    keys = sorted(zip(codes[rows], times[rows], ids, rows, strict=True))
    for before, after in pairwise(keys):
        if before[:3] == after[:3]:
            raise ValueError(
                f"Transaction '{after[2]}' occurs twice with the same customer and time; remove one of the rows."
            )
    return [row for *_, row in keys]


def _window_starts(codes: np.ndarray, times: np.ndarray) -> Iterable[np.ndarray]:
    """Yield, for each window, the row at which each row's window begins, int64 ``[n]``; rows are sorted by (code, time)."""
    # One time axis for all customers, end to end. A gap is cut to just more than the longest window, which keeps times small.
    gaps = np.where(np.diff(codes) > 0, LONGEST + 1, np.minimum(np.diff(times), LONGEST + 1))
    if gaps.sum(dtype=float) > np.iinfo(np.int64).max / 2:
        raise ValueError(f"{len(codes)} purchases are too many for one table; split them by customer.")
    axis = np.concatenate([np.zeros(min(len(codes), 1), np.int64), np.cumsum(gaps)])
    for w in WINDOWS:
        yield np.searchsorted(axis, axis - w * DAY)


def _append_past(table: pa.Table, times: np.ndarray, first: np.ndarray) -> pa.Table:
    rows = np.arange(len(times))[:, None] + np.arange(-PAST, 0)
    present = rows >= first[:, None]
    rows = np.maximum(rows, 0)
    amount = np.nan_to_num(_floats(table["amount"]), posinf=0.0, neginf=0.0).astype(np.float32)
    age = ((times[:, None] - times[rows]) / SECOND).astype(np.float32)
    names = pc.unique(table["merchant_id"])
    codes = np.where(present, _index_in(table["merchant_id"], names)[rows], len(names))
    names = pa.concat_arrays([names.cast(pa.string()), pa.array([""], pa.string())])
    columns = {
        "past_amount": _to_lists(pa.array(np.where(present, amount[rows], np.float32(0)).ravel())),
        "past_age": _to_lists(pa.array(np.where(present, age, np.float32(0)).ravel())),
        "past_merchant": _to_lists(names.take(pa.array(codes.ravel()))),
        "past_length": pa.array(present.sum(axis=1, dtype=np.int64)),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _to_lists(values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, PAST, dtype=np.int32)), values)


def _sum_by_key(days: pa.Table) -> pa.Table:
    """Sum the last column by the other columns, sorted, so that equal counts give equal tables."""
    keys = days.column_names[:-1]
    days = days.group_by(keys, use_threads=False).aggregate([("number", "sum")]).rename_columns([*keys, "number"])
    return days.sort_by([(key, "ascending") for key in keys]).combine_chunks()


def _unique_pairs(codes: np.ndarray, days: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the unique (code, day) pairs and the index of each row's pair; many rows share a merchant and day."""
    low, span = (days.min(), np.ptp(days) + 1) if len(days) else (0, 1)
    keys, inverse = np.unique((codes + 1) * span + days - low, return_inverse=True)
    return (keys // span - 1, keys % span + low), inverse


def _count_on_days(
    merchants: Column, days: pa.Table, first_day: int, duration: int, pairs: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Sum the counts for each (code, day); a count contributes to ``duration`` days, from ``first_day`` days after its own."""
    codes, query_days = pairs
    if not len(query_days):
        return np.zeros(0, np.int64)
    low, high = query_days.min(), query_days.max() + 1
    merchant, day, number = (
        np.asarray(c) for c in (_index_in(days["merchant_id"], merchants), days["day"], days["number"])
    )
    begin, end = day + first_day, day + first_day + duration
    if "known" in days.column_names:
        begin = np.minimum(np.maximum(begin, np.asarray(days["known"]) + 1), end)
    keys = np.concatenate([merchant * (high - low + 1) + np.clip(edge, low, high) - low for edge in (begin, end)])
    order = np.argsort(keys, kind="stable")
    totals = np.concatenate([[0], np.cumsum(np.concatenate([number, -number])[order])])
    return totals[np.searchsorted(keys[order], codes * (high - low + 1) + query_days - low, side="right")]
