"""Compute the features of ``point_in_time.py`` for one purchase at a time, from bounded state in memory."""

import math
import struct
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from models.fraud.history.point_in_time import (
    DAY,
    LABEL_DELAY_DAYS,
    LONGEST,
    PAST,
    RISK_PRIOR,
    SECOND,
    UNIT,
    WINDOWS,
    customer_names,
    merchant_names,
    to_microseconds,
)
from models.fraud.history.snapshot import Snapshot

# How much later than a newer purchase of its customer or merchant one may arrive and still get its complete past.
LATE = DAY
# Removing old rows shifts the whole list, so they are removed in batches of at least this many.
BATCH = 64
CUSTOMERS, MERCHANTS = "customers", "merchants"
CUSTOMER = customer_names()[:-1]
MERCHANT = merchant_names()
FORMS = [struct.Struct(f"<{count}f") for count in range(2 + 2 * len(WINDOWS) + PAST)]


class OnlineHistory:
    """In-memory history of the gateway, with the same features as ``customer_features`` and ``merchant_features``.

    It stores, for each customer, the purchases of the last 30 days (at least the last ``PAST``) and, for each merchant, counts
    of the last 30 days + ``delay``. The order of ``add`` and ``label`` calls does not matter as long as no purchase is more
    than a day late. Not thread-safe.

    Args:
        delay: Most recent days of a merchant that are left out, as in training.
    """

    def __init__(self, delay: int = LABEL_DELAY_DAYS) -> None:
        self.delay = delay
        self._customers: defaultdict[str, _Customer] = defaultdict(_Customer)
        self._merchants: defaultdict[str, _Merchant] = defaultdict(_Merchant)
        self._snapshot: Snapshot | None = None

    def features(self, transaction: Mapping[str, Any]) -> dict[str, float | int | list[float] | list[str]]:
        """Return the features by the names of ``point_in_time.py``; floats are rounded to float32, lists have length ``PAST``.

        Args:
            transaction: ``transaction_id``, ``event_time`` (a datetime, or microseconds since 1970), ``customer_id``,
                ``merchant_id``. It may have been added before; it does not count as its own past.
        """
        time = to_microseconds(transaction["event_time"])
        customer = self._customers.get(transaction["customer_id"]) or _Customer()
        merchant = self._merchants.get(transaction["merchant_id"]) or _Merchant()
        return {
            **customer.features((time, transaction["transaction_id"])),
            **merchant.features(time // DAY, self.delay),
        }

    def add(self, transaction: Mapping[str, Any]) -> None:
        """Add a purchase with its ``amount``; a repeated call for the same purchase changes nothing."""
        time = to_microseconds(transaction["event_time"])
        self._before_change(CUSTOMERS, transaction["customer_id"])
        self._before_change(MERCHANTS, transaction["merchant_id"])
        customer = self._customers[transaction["customer_id"]]
        if customer.add((time, transaction["transaction_id"]), transaction["amount"], transaction["merchant_id"]):
            self._merchants[transaction["merchant_id"]].add(time // DAY, self.delay)

    def label(
        self, merchant_id: str, event_time: datetime | int, label_time: datetime | int, is_fraud: bool | int
    ) -> None:
        """Add a purchase's label, once, however late; it counts from the day after ``label_time``, never earlier."""
        if is_fraud:
            self._before_change(MERCHANTS, merchant_id)
            self._merchants[merchant_id].label(to_microseconds(event_time) // DAY, to_microseconds(label_time) // DAY)

    def state(self) -> dict[str, Any]:
        """Return the whole state, as values that JSON preserves exactly."""
        return {
            CUSTOMERS: {name: record.state() for name, record in self._customers.items()},
            MERCHANTS: {name: record.state() for name, record in self._merchants.items()},
        }

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Yield the current :meth:`state` in parts for :meth:`load`; purchases and labels may be added between two parts."""
        self._snapshot = Snapshot({CUSTOMERS: self._customers, MERCHANTS: self._merchants})
        return self._snapshot.parts()

    def _before_change(self, kind: str, name: str) -> None:
        if self._snapshot:
            self._snapshot.before(kind, name)

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a result of :meth:`state`; it replaces the records of the same customers and merchants."""
        for name, (keys, purchases) in state[CUSTOMERS].items():
            self._customers[name] = _Customer.of(keys, purchases)
        for name, (counts, frauds) in state[MERCHANTS].items():
            self._merchants[name] = _Merchant.of(counts, frauds)


class _Customer:
    """Purchases sorted by (time, id), as (amount, merchant, units); ``totals[i]`` is the sum of units before purchase i,
    up to a constant offset."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, str]] = []
        self.purchases: list[tuple[float, str, int]] = []
        self.totals: list[int] = [0]

    @staticmethod
    def of(keys: Iterable[tuple[int, str]], purchases: Iterable[tuple[float, str, int]]) -> "_Customer":
        customer = _Customer()
        customer.keys = [(time, name) for time, name in keys]
        customer.purchases = [(amount, merchant, units) for amount, merchant, units in purchases]
        for purchase in customer.purchases:
            customer.totals.append(customer.totals[-1] + purchase[2])
        return customer

    def state(self) -> list[list[Any]]:
        return [self.keys, self.purchases]

    def features(self, key: tuple[int, str]) -> dict[str, Any]:
        time, end = key[0], bisect_left(self.keys, key)
        start = max(end - PAST, 0)
        gap = time - self.keys[end - 1][0] if end else LONGEST
        numbers = [min(gap, LONGEST) / SECOND]
        for w in WINDOWS:
            first = bisect_left(self.keys, (time - w * DAY, ""))
            numbers += (end - first, (self.totals[end] - self.totals[first]) / UNIT)
        numbers += [(time - past) / SECOND for past, _ in self.keys[start:end]]
        since, *others = _round_to_float32(numbers)
        count, recent, pad = 2 * len(WINDOWS), self.purchases[start:end], PAST - (end - start)
        return {
            **dict(zip(CUSTOMER, others, strict=False)),
            "seconds_since_last": since,
            "past_amount": [0.0] * pad + [purchase[0] for purchase in recent],
            "past_age": [0.0] * pad + others[count:],
            "past_merchant": [""] * pad + [purchase[1] for purchase in recent],
            "past_length": end - start,
        }

    def add(self, key: tuple[int, str], amount: float | None, merchant: str) -> bool:
        amount = amount if amount is not None and math.isfinite(amount) else 0.0
        position = bisect_left(self.keys, key)
        if self.keys[position : position + 1] == [key]:
            return False
        number = round(amount * UNIT)
        self.keys.insert(position, key)
        self.purchases.insert(position, (*_round_to_float32([amount]), merchant, number))
        self.totals[position + 1 :] = [
            self.totals[position] + number,
            *(total + number for total in self.totals[position + 1 :]),
        ]
        self._forget()
        return True

    def _forget(self) -> None:
        latest = self.keys[-1][0] - LATE
        if len(self.keys) < BATCH + PAST or self.keys[BATCH - 1][0] >= latest - LONGEST:
            return
        old = min(bisect_left(self.keys, (latest - LONGEST, "")), bisect_left(self.keys, (latest, "")) - PAST)
        if old >= BATCH:
            del self.keys[:old], self.purchases[:old], self.totals[:old]


class _Merchant:
    """Number of purchases by event day, and of frauds by event day and label day, as in ``MerchantDays``."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.frauds: defaultdict[int, Counter[int]] = defaultdict(Counter)
        # All purchases of a day have the same features: the last key (day, delay) and its features, until those days change.
        self._cached_key = (0, 0)
        self._cached: dict[str, float] = {}

    def state(self) -> list[list[Any]]:
        frauds = [[day, label, count] for day, labels in self.frauds.items() for label, count in labels.items()]
        return [[[day, count] for day, count in self.counts.items()], frauds]

    @staticmethod
    def of(counts: Iterable[tuple[int, int]], frauds: Iterable[tuple[int, int, int]]) -> "_Merchant":
        merchant = _Merchant()
        merchant.counts.update(dict(counts))
        for day, label, count in frauds:
            merchant.frauds[day][label] = count
        return merchant

    def features(self, day: int, delay: int) -> dict[str, float]:
        if self._cached_key != (day, delay) or not self._cached:
            self._cached_key, self._cached = (day, delay), self._features(day, delay)
        return self._cached

    def _features(self, day: int, delay: int) -> dict[str, float]:
        numbers: list[float] = []
        last = day - delay
        for w in WINDOWS:
            days = range(last - w, last)
            count = sum(self.counts[d] for d in days if d in self.counts)
            frauds = (self.frauds[d].items() for d in days if d in self.frauds)
            known_frauds = sum(number for labels in frauds for label, number in labels if label < day)
            numbers += (count, known_frauds / (count + RISK_PRIOR))
        return dict(zip(MERCHANT, _round_to_float32(numbers), strict=True))

    def _invalidate(self, day: int) -> None:
        if day < self._cached_key[0] - self._cached_key[1]:
            self._cached = {}

    def label(self, day: int, label_day: int) -> None:
        self.frauds[day][label_day] += 1
        self._invalidate(day)

    def add(self, day: int, delay: int) -> None:
        self.counts[day] += 1
        self._invalidate(day)
        kept_days = (LONGEST + LATE) // DAY + delay
        if len(self.counts) >= kept_days + BATCH:
            newest = max(self.counts)
            for days in (self.counts, self.frauds):
                for old in [d for d in days if d < newest - kept_days]:
                    del days[old]


def _round_to_float32(numbers: list[float]) -> tuple[float, ...] | list[float]:
    """Round to float32, all numbers in one call; NumPy takes as long for a single number."""
    form = FORMS[len(numbers)]
    try:
        return form.unpack(form.pack(*numbers))
    except OverflowError:
        return [float(number) for number in np.array(numbers, np.float32)]
