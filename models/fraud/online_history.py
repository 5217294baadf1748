"""The definitions of ``history.py`` for one purchase at a time, from bounded state in memory."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from models.fraud.history import DAY, LABEL_DELAY_DAYS, LONGEST, PAST, RISK_PRIOR, SECOND, UNIT, WINDOWS, moment, units

# A purchase may come this much after a younger one of its customer or merchant and still see its whole past.
LATE = DAY
# Forgetting a row costs a shift of the whole list, so it waits until there are this many.
BATCH = 64


class OnlineHistory:
    """What the gateway remembers, and the features that ``customer_features`` and ``merchant_features`` would give.

    Kept are, per customer, the purchases of the last 30 days (at least the last ``PAST``) and, per merchant, counts for
    the last 30 days + ``delay``. The order of ``add`` and ``label`` calls does not matter as long as no purchase comes
    more than a day late. One thread at a time.

    Args:
        delay: Days that a merchant's recent past is left out, as in training.
    """

    def __init__(self, delay: int = LABEL_DELAY_DAYS) -> None:
        self.delay = delay
        self._customers: defaultdict[str, _Customer] = defaultdict(_Customer)
        self._merchants: defaultdict[str, _Merchant] = defaultdict(_Merchant)

    def features(self, transaction: Mapping[str, Any]) -> dict[str, float | int | list[float] | list[str]]:
        """The purchase's features by the names of ``history.py``; floats are rounded to float32, lists hold ``PAST``.

        Args:
            transaction: ``transaction_id``, ``event_time`` (a datetime, or microseconds since 1970), ``customer_id``,
                ``merchant_id``. It may have been added before; it is not its own past.
        """
        time = moment(transaction["event_time"])
        customer = self._customers.get(transaction["customer_id"]) or _Customer()
        merchant = self._merchants.get(transaction["merchant_id"]) or _Merchant()
        return {
            **customer.features((time, transaction["transaction_id"])),
            **merchant.features(time // DAY, self.delay),
        }

    def add(self, transaction: Mapping[str, Any]) -> None:
        """Remembers a purchase with its ``amount``; a repeated call for the same purchase changes nothing."""
        time = moment(transaction["event_time"])
        customer = self._customers[transaction["customer_id"]]
        if customer.add((time, transaction["transaction_id"]), transaction["amount"], transaction["merchant_id"]):
            self._merchants[transaction["merchant_id"]].add(time // DAY, self.delay)

    def label(
        self, merchant_id: str, event_time: datetime | int, label_time: datetime | int, is_fraud: bool | int
    ) -> None:
        """Takes a purchase's label, once, however late; it counts from the day after ``label_time``, never before."""
        if is_fraud:
            self._merchants[merchant_id].frauds[moment(event_time) // DAY][moment(label_time) // DAY] += 1


class _Customer:
    """Purchases sorted by (time, id); ``totals[i]`` is the sum of units before purchase i, from an arbitrary origin."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, str]] = []
        self.purchases: list[tuple[float, str]] = []
        self.totals: list[int] = [0]

    def features(self, key: tuple[int, str]) -> dict[str, Any]:
        time, end = key[0], bisect_left(self.keys, key)
        columns: dict[str, Any] = {}
        for w in WINDOWS:
            start = bisect_left(self.keys, (time - w * DAY, ""))
            columns[f"customer_count_{w}d"] = float(end - start)
            columns[f"customer_amount_{w}d"] = _float32((self.totals[end] - self.totals[start]) / UNIT)
        gap = time - self.keys[end - 1][0] if end else LONGEST
        columns["seconds_since_last"] = _float32(min(gap, LONGEST) / SECOND)
        return columns | self._past(time, max(end - PAST, 0), end)

    def _past(self, time: int, start: int, end: int) -> dict[str, Any]:
        there, pad = self.purchases[start:end], PAST - (end - start)
        return {
            "past_amount": [0.0] * pad + [amount for amount, _ in there],
            "past_age": [0.0] * pad + [_float32((time - past) / SECOND) for past, _ in self.keys[start:end]],
            "past_merchant": [""] * pad + [merchant for _, merchant in there],
            "past_length": end - start,
        }

    def add(self, key: tuple[int, str], amount: float | None, merchant: str) -> bool:
        amount = float("nan") if amount is None else amount
        place = bisect_left(self.keys, key)
        if self.keys[place : place + 1] == [key]:
            return False
        self.keys.insert(place, key)
        self.purchases.insert(place, (_float32(np.nan_to_num(amount, posinf=0.0, neginf=0.0)), merchant))
        number = int(units(amount))
        self.totals[place + 1 :] = [
            self.totals[place] + number,
            *(total + number for total in self.totals[place + 1 :]),
        ]
        self._forget()
        return True

    def _forget(self) -> None:
        latest = self.keys[-1][0] - LATE
        old = min(bisect_left(self.keys, (latest - LONGEST, "")), bisect_left(self.keys, (latest, "")) - PAST)
        if old >= BATCH:
            del self.keys[:old], self.purchases[:old], self.totals[:old]


class _Merchant:
    """Purchases per event day, and frauds per event day and day of the label, as in ``MerchantDays``."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.frauds: defaultdict[int, Counter[int]] = defaultdict(Counter)

    def features(self, day: int, delay: int) -> dict[str, float]:
        columns, last = {}, day - delay
        for w in WINDOWS:
            days = range(last - w, last)
            count = sum(self.counts[d] for d in days if d in self.counts)
            frauds = (self.frauds[d].items() for d in days if d in self.frauds)
            known = sum(number for labels in frauds for label, number in labels if label < day)
            columns[f"merchant_count_{w}d"] = _float32(count)
            columns[f"merchant_risk_{w}d"] = _float32(known / (count + RISK_PRIOR))
        return columns

    def add(self, day: int, delay: int) -> None:
        self.counts[day] += 1
        kept = (LONGEST + LATE) // DAY + delay
        if len(self.counts) >= kept + BATCH:
            newest = max(self.counts)
            for days in (self.counts, self.frauds):
                for old in [d for d in days if d < newest - kept]:
                    del days[old]


def _float32(number: float) -> float:
    return float(np.float32(number))
